"""predict.py reads what people write, says so when there is nothing to read, and survives what is
not a picture."""

import csv
import io
import itertools
import json
import os
import shutil
import subprocess
import sys

import nothing
import numpy as np
import pictures
import pytest
import torch
import troubles
from PIL import Image

import hubconf
import predict
from figures import readings
import utils
from model import LeNet5
from reading import batches
from reading.image import PictureError
from training.data import read_mnist
from reading.posterior import Reading
from reading.reader import most_prominent


def accuracy(model, images, labels):
    readings = predict.predict_images(images, model)
    return np.mean(
        [
            isinstance(r, Reading) and most_prominent(r.digits).digit == label
            for r, label in zip(readings, labels)
        ]
    )


# What it reads. The floors are three errors in 100 below what 1,000 pictures of each kind gave; of
# 60 in screen and sheet_edge four and five are misread, two of which no person reads.

@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, floor",
    [
        (pictures.as_mnist, 0.97),
        (pictures.photograph, 0.96),
        (pictures.ruled, 0.95),
        (pictures.ballpoint, 0.95),
        (pictures.paint, 0.95),
        (pictures.screen, 0.92),
        (pictures.sheet_edge, 0.9),
        (pictures.turned, 0.95),
        (pictures.small_scan, 0.96),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_pictures_as_people_make_them(model, kind, floor):
    assert accuracy(model, *pictures.make(kind, 60, seed=1)) >= floor


@pytest.mark.slow
def test_pictures_with_troubles(model):
    shares = {
        kind.__name__: accuracy(model, *pictures.make(kind, 15, seed=1)) for kind in troubles.KINDS
    }
    assert min(shares.values()) >= 0.6 and np.mean(list(shares.values())) >= 0.9, shares


@pytest.mark.slow
@pytest.mark.parametrize("sides", ["tblr", "b", "lr"])
@pytest.mark.parametrize("size", [16, 24, 48, 65, 80, 161, 320])
def test_a_digit_that_fills_its_picture_is_read(model, size, sides):
    """As in USPS's 16x16, or cut out by hand: all is strokes, whose edges are no grain, and lies at
    the picture's edge."""
    digits, labels = pictures.digits(60, seed=9)
    images = []
    for digit in digits:
        top, bottom, left, right = (0 if side in sides else 6 for side in "tblr")
        ink = np.pad(pictures.tight(digit), ((top, bottom), (left, right)))
        height, width = ink.shape
        shape = (
            max(1, round(size * width / max(height, width))),
            max(1, round(size * height / max(height, width))),
        )
        images.append(Image.fromarray((255 * (1 - ink)).astype(np.uint8)).resize(shape))
    readings = predict.predict_images(images, model)
    assert not any(
        isinstance(reading, PictureError) and "blank" in str(reading) for reading in readings
    )
    right = [
        not isinstance(reading, PictureError) and reading.text == str(label)
        for reading, label in zip(readings, labels)
    ]
    assert np.mean(right) >= (0.9 if size > 16 else 0.8)


@pytest.mark.slow
def test_what_is_no_digit_is_seldom_read_for_sure(model):
    """Fewest of what is looked at longest."""
    kinds = {
        nothing.letter: 12,
        nothing.sign: 8,
        nothing.drawing: 3,
        nothing.scribble: 3,
        nothing.word: 2,
        nothing.landscape: 2,
    }
    images = [image for kind, n in kinds.items() for image in pictures.make(kind, n, seed=1)[0]]
    readings = predict.predict_images(images, model)
    assert (
        np.mean(
            [isinstance(r, PictureError) or r.probability < predict.output.SURE for r in readings]
        )
        >= 0.65
    )


@pytest.mark.slow
def test_corruptions_of_28x28_digits(model):
    shares = {
        c.__name__: accuracy(model, *pictures.make(pictures.corrupted(c), 15, seed=1))
        for c in pictures.CORRUPTIONS
    }
    # of stripes across the picture hardly one is read since what undid them is gone
    assert np.mean(list(shares.values())) >= 0.84, shares


@pytest.mark.slow
def test_other_writers(model):
    """A third of the 1,797: of each writer, since they follow one another."""
    images, labels = pictures.uci()
    assert accuracy(model, images[::3], labels[::3]) >= 0.94


@pytest.mark.parametrize("negative", [False, True])
def test_digits_framed_by_mnist_lose_nothing(model, negative):
    digits, labels = pictures.digits(200, seed=2)
    pixels = (255 * digits).round().astype(np.uint8)
    direct = predict.read_inputs(model, utils.resize(torch.from_numpy(pixels))).argmax(1).numpy()
    images = [Image.fromarray(255 - image if negative else image) for image in pixels]
    assert accuracy(model, images, labels) >= np.mean(direct == labels) - 0.005


@pytest.mark.parametrize(
    "paper, ink",
    [
        ("white", "black"),
        ("black", "white"),
        ("yellow", "blue"),
        ("#00a000", "#d04040"),
        ("#808080", "#b0b0b0"),
    ],
)
def test_ink_of_any_colour_on_paper_of_any_colour(model, seven, paper, ink):
    mask = seven.convert("L").point(lambda value: 255 - value)
    image = Image.composite(
        Image.new("RGB", mask.size, ink), Image.new("RGB", mask.size, paper), mask
    )
    (reading,) = predict.predict_images([image], model)
    assert reading.text == "7"


def test_invert_overrides(model, seven):
    automatic, dark, light = (
        predict.predict_images([seven], model, invert)[0] for invert in (None, True, False)
    )
    assert automatic.text == dark.text == "7" and automatic.inverted and dark.inverted
    assert isinstance(light, PictureError) or not light.inverted


# Functions

def test_single_predict(tmp_path, seven, model, network):
    seven.save(tmp_path / "seven.png")
    assert (
        predict.single_predict(
            tmp_path / "seven.png", save=tmp_path / "figure.png", checkpoint=network
        )
        == 7
    )
    assert predict.single_predict(str(tmp_path / "seven.png"), model=model) == 7
    assert Image.open(tmp_path / "figure.png").width > 600
    assert (
        predict.single_predict(
            tmp_path / "seven.png", model=model, save=tmp_path / "layers.png", explain=True
        )
        == 7
    )
    assert Image.open(tmp_path / "layers.png").width > 1000
    with pytest.raises(PictureError, match="no such file"):
        predict.single_predict(tmp_path / "eight.png")


def test_a_picture_is_opened_once_even_for_its_figure(tmp_path, seven, model, monkeypatch):
    opened, open_picture = [], batches.open_picture
    monkeypatch.setattr(batches, "open_picture",
                        lambda source: opened.append(source) or open_picture(source))
    seven.save(tmp_path / "seven.png")
    for explain in (False, True):
        predict.single_predict(
            tmp_path / "seven.png", model=model, save=tmp_path / "figure.png", explain=explain
        )
    predict.main([str(tmp_path / "seven.png"), "--save", str(tmp_path / "figure.png")])
    assert opened == [tmp_path / "seven.png"] * 3


def test_figures_are_returned_on_request(tmp_path, seven, model):
    seven.save(tmp_path / "seven.png")
    for explain in (False, True):
        digit, figure = predict.single_predict(
            tmp_path / "seven.png", model=model, explain=explain, return_figure=True
        )
        assert digit == 7 and len(figure.axes) >= 2
    wrong, figure = predict.multi_predict(20, seed=0, model=model, save=None, return_figure=True)
    assert 0 <= wrong <= 20 and len(figure.axes[0].images) == 20


def test_multi_predict_counts_its_errors(tmp_path):
    torch.manual_seed(0)
    wrong = predict.multi_predict(20, seed=0, model=LeNet5(), save=tmp_path / "grid.png")
    assert wrong > 10 and (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(
    "call, complaint",
    [
        (lambda: predict.multi_predict(-1, save=None), "n has to be in 1 .. 1000, got -1"),
        (lambda: predict.multi_predict(1001, save=None), "got 1001"),
        (lambda: predict.multi_predict("all", save=None), "got 'all'"),
        (lambda: predict.multi_predict(2.0, save=None), "got 2.0"),
        (lambda: predict.multi_predict(2, seed=1.5, save=None), "seed has to be .* got 1.5"),
        (lambda: predict.multi_predict(2, seed=np.int64(-1), save=None), "seed has to be"),
        (lambda: predict.multi_predict(2, seed=2**64, save=None), "seed has to be"),
        (lambda: predict.single_predict("x.png", save="./x.png"), "x.png is the picture to read"),
        (lambda: utils.pick_device(None), "device None is not available"),
        (lambda: utils.pick_device(3.5), "device 3.5 is not available"),
        (lambda: predict.read_number("x.png", device="foo"), "device 'foo' is not available"),
        (lambda: predict.single_predict("x.png", device="meta"), "device 'meta' is not available"),
        (lambda: hubconf.lenet5(device="foo"), "device 'foo' is not available"),
        (lambda: predict.read_number("x.png", invert="yes"), "invert has to be .* got 'yes'"),
        (lambda: predict.single_predict("x.png", invert="auto"), "invert has to be"),
    ],
)
def test_a_wrong_call_in_python_is_a_valueerror_of_one_line(call, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipe with a name")
def test_nothing_but_a_file_is_replaced(seven, model, tmp_path):
    pipe, folder = tmp_path / "pipe.png", tmp_path / "folder.png"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(utils.LeNetError, match="could not be written .it is no file."):
            predict.single_predict(seven, model=model, save=path)
    assert pipe.is_fifo() and sorted(tmp_path.iterdir()) == [folder, pipe]


def test_a_batch_reads_like_one_by_one(model, seven):
    images = [
        seven,
        pictures.make(pictures.photograph, 1)[0][0],
        Image.new("L", (28, 28)),
        pictures.make(pictures.as_mnist, 1)[0][0],
    ]
    together = predict.predict_images(images, model)
    for image, reading in zip(images, together):
        (alone,) = predict.predict_images([image], model)
        assert type(alone) is type(reading)
        if isinstance(alone, Reading):
            assert alone.text == reading.text and alone.probability == pytest.approx(
                reading.probability, abs=1e-5
            )


def iterables(seven, path):
    """Yield (name, what may be given, how many readings it has)."""
    array = np.asarray(seven)
    yield "generator", (image for image in [seven, array, path]), 3
    yield "map", map(Image.fromarray, [array] * 40), 40  # more than go through the network together
    yield "tuple", (str(path), seven), 2
    yield "dict's values", {"a": seven}.values(), 1
    yield "glob", path.parent.glob("*.png"), 1
    yield "nothing", iter(()), 0
    grey = np.asarray(seven.convert("L").resize((28, 28)))
    yield "array (N, H, W)", np.stack([grey] * 3), 3
    yield "array (N, H, W, 3)", np.stack([array] * 2), 2
    yield "tensor", torch.from_numpy(grey.copy()), 1
    yield "tensor (N, H, W)", torch.from_numpy(np.stack([grey] * 2)), 2
    for one in (
        path,
        str(path),
        str(path).encode(),
        seven,
        array,
        io.BytesIO(path.read_bytes()),
        open(path, "rb"),
    ):
        yield type(one).__name__, one, 1


def test_any_iterable_of_pictures_is_read_item_by_item_and_one_picture_is_one(
    tmp_path, seven, model
):
    seven.save(tmp_path / "seven.png")
    for name, images, n in iterables(seven, tmp_path / "seven.png"):
        readings = predict.predict_images(images, model)
        assert [getattr(reading, "text", reading) for reading in readings] == ["7"] * n, name


def test_of_endless_pictures_only_some_are_in_memory(seven, model):
    asked = []

    def endless():
        for i in itertools.count():
            asked.append(i)
            if i == 100:
                raise KeyboardInterrupt
            yield small

    small = seven.resize((64, 64))
    read, read_views = [], predict.read_views
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predict, "read_views",
                      lambda *some: read.append(len(asked)) or read_views(*some))
        predict.predict_images(endless(), model)
    assert read == [32, 64, 96]


# The script

def mnist_test_set(n):
    images, labels = read_mnist(False)
    return images[:n].numpy(), labels[:n].tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, seven):
    """Good pictures and bad ones."""
    path = tmp_path_factory.mktemp("scans")
    seven.save(path / "1 good.png")
    seven.save(path / "whole.jpg")
    (path / "2 truncated.jpg").write_bytes((path / "whole.jpg").read_bytes()[:500])
    (path / "3 empty.png").touch()
    (path / "4 text.png").write_text("I am not a picture")
    Image.new("L", (1, 1)).save(path / "5 pixel.png")
    shutil.move(path / "whole.jpg", path / "6 good.jpg")
    (path / "notes.txt").write_text("not looked at")
    return path


def test_lines_for_people(capsys, folder, network):
    assert predict.main([str(folder / "1 good.png"), "--checkpoint", str(network)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith(f"{folder / '1 good.png'}: 7 (") and out.endswith(" %)\n")


def test_the_rest_of_a_folder_goes_on(capsys, folder):
    assert predict.main([str(folder)]) == 1
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [
        str(folder / "1 good.png"),
        str(folder / "6 good.jpg"),
    ]
    assert err.count("\n") == 4 and all(
        line.startswith("predict.py: ") for line in err.splitlines()
    )


def test_no_picture_of_a_large_folder_is_passed_over(capsys, tmp_path):
    for i in range(202):
        Image.new("L", (1, 1)).save(tmp_path / f"{i:03d}.png")
    assert predict.main([str(tmp_path), "--json"]) == 1
    names = [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]
    assert names == [str(tmp_path / f"{i:03d}.png") for i in range(202)]


FIELDS = ["image", "text", "probability", "sure", "inverted", "pages", "digits"]


def test_json_has_one_object_per_picture_in_order_and_no_heavy_library_is_imported(
    run, folder, seven, network
):
    file = io.BytesIO()
    seven.save(file, "PNG")
    code = ("import sys, predict; status = predict.main(sys.argv[1:]); "
            "print([m for m in ('matplotlib', 'torchvision') if m in sys.modules], status)")
    process = run(
        "-c",
        code,
        folder,
        "-",
        folder / "nothing.png",
        "--json",
        "--checkpoint",
        network,
        stdin=file.getvalue(),
    )
    assert process.returncode == 0 and process.stderr == ""
    *lines, last = process.stdout.splitlines()
    assert last == "[] 1"
    objects = [json.loads(line) for line in lines]
    assert [("text" in o) for o in objects] == [True, False, False, False, False, True, True, False]
    assert objects[0] == {
        **objects[0],
        "image": str(folder / "1 good.png"),
        "text": "7",
        "inverted": True,
        "sure": True,
    }
    assert list(objects[0]) == FIELDS and all(
        f"  {field} " in predict.output.SCHEMA for field in FIELDS
    )
    (digit,) = objects[0]["digits"]
    assert (
        list(digit) == ["digit", "probability", "probabilities", "line", "box"]
        and len(digit["probabilities"]) == 10
    )
    assert objects[0]["probability"] == digit["probability"] == max(digit["probabilities"])
    assert objects[6]["image"] == "-" and objects[6]["text"] == "7"
    assert objects[7] == {"image": str(folder / "nothing.png"), "error": "no such file"}


def test_csv_has_a_row_per_picture(folder, tmp_path, network, capsys):
    assert (
        predict.main(
            [str(folder), "--csv", str(tmp_path / "read.csv"), "--checkpoint", str(network)]
        )
        == 1
    )
    head, *rows = csv.reader((tmp_path / "read.csv").read_text().splitlines())
    assert head == ["image", "text", "probability", "sure", "error"] and len(rows) == 6
    said = capsys.readouterr()
    assert [row[0] for row in rows if row[4]] == [
        line.split(": ")[1] for line in said.err.splitlines()
    ]
    assert rows[0][1:] == ["7", rows[0][2], "true", ""] and float(rows[0][2]) > predict.output.SURE


def test_a_picture_that_was_not_asked_for_is_not_blamed_on_save(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(utils, "ASSETS", tmp_path / "nowhere")
    with pytest.raises(SystemExit) as exit:
        predict.main(["a.png", "--explain"])
    assert exit.value.code == 2 and "argument --explain: " in capsys.readouterr().err


@pytest.mark.parametrize("head", ["", "\ufeff", *(
    ",".join(form.format(i) for i in range(784)) + "\n"
    for form in ("pixel{}", '"pixel{}"', "1x{}", "28x28_{}", "_{}"))])
def test_a_table_of_images_becomes_a_table_of_labels(model, network, tmp_path, capsys, head):
    """As on Kaggle: 784 columns in, ImageId and Label out."""
    images, labels = mnist_test_set(300)
    rows = "\n".join(",".join(map(str, image.ravel())) for image in images)
    (tmp_path / "test.csv").write_text(f"{head}{rows}\n\n", encoding="utf-8")
    arguments = [
        str(tmp_path / "test.csv"),
        "--csv",
        str(tmp_path / "labels.csv"),
        "--checkpoint",
        str(network),
    ]
    assert predict.main(arguments) == 0
    first, *rest = (tmp_path / "labels.csv").read_text().splitlines()
    assert first == "ImageId,Label" and [row.split(",")[0] for row in rest] == [
        str(i) for i in range(1, 301)
    ]
    assert np.mean([int(row.split(",")[1]) == label for row, label in zip(rest, labels)]) > 0.97
    assert "300 digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("1,2,3\n", "3 columns"),
        (",".join(["256"] * 784), "outside 0 .. 255"),
        (",".join(["99999"] * 784), "outside 0 .. 255"),
        (",".join(["0"] * 784) + "\n" + ",".join(["nan"] * 784), "line 2: 784 numbers"),
        ("pixel0\n\n1,x\n", "line 3: 784 numbers"),
        (3 * (",".join(["0"] * 784) + "\n") + "1,2\n", "line 4: 784 numbers, 0 .. 255, are expected"),
        (",".join(["1.5"] * 784), "no whole number"),
        (b"\xff\xfe", "not a table"),
        (None, "can't be read"),
        ("", "no images"),
        ("pixel0,pixel1\n", "no images"),
        ("\n\n", "no images"),
        (",".join(["0.000e+00"] * 784), "line 1: 784 numbers"),
        ("pixel0,pixel1\n \n", "no images"),
        (",".join(["7"] * 785), "leave out the labels"),
    ],
    ids="columns 256 99999 nan letters ragged 1.5 bytes missing empty header blank e both labels".split(),
)
def test_a_table_of_anything_else_is_one_line(tmp_path, capsys, content, complaint):
    if content is not None:
        (tmp_path / "test.csv").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    assert predict.main([str(tmp_path / "test.csv"), "--csv", str(tmp_path / "labels.csv")]) == 1
    out, err = capsys.readouterr()
    assert (
        out == ""
        and err.count("\n") == 1
        and complaint in err
        and not (tmp_path / "labels.csv").exists()
    )


def test_ctrl_c_keeps_what_was_read(folder, tmp_path, capsys, monkeypatch, network):
    """Printed, in the table and in the figure."""
    names, finish, finished = [str(folder / "1 good.png")] * 5, batches.finish, []

    def stop(*arguments):
        if len(finished) == 2:
            raise KeyboardInterrupt
        finished.append(1)
        return finish(*arguments)

    monkeypatch.setattr(batches, "finish", stop)
    written = tmp_path / "read.csv", tmp_path / "seen.png"
    assert (
        predict.main(
            [
                *names,
                "--csv",
                str(written[0]),
                "--save",
                str(written[1]),
                "--checkpoint",
                str(network),
            ]
        )
        == 130
    )
    out, err = capsys.readouterr()
    assert out.count(": 7 (") == 2 and err == "predict.py: stopped; 2 of 5 pictures were read\n"
    assert len(written[0].read_text().splitlines()) == 3 and written[1].exists()


def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(folder, capsys, monkeypatch, network):
    names = [str(folder / "1 good.png")] * 3
    assert predict.main([*names, "--checkpoint", str(network)]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TQDM_NCOLS", "80")
    assert predict.main([*names, "--checkpoint", str(network)]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 3 and "/3 [" in err and "\n" not in err


NAMES = [b"a\xff.png", b"$x^$.png", b"_.png", b"a\nb.png", "\u65e5\U0001f600.png".encode()]


@pytest.mark.filterwarnings("ignore:Glyph")  # as utils.run_script() does
@pytest.mark.parametrize("name", NAMES, ids=str)
def test_a_picture_may_have_any_name(seven, tmp_path, network, capsys, name):
    """One that is not UTF-8, too, as old archives hold; nothing that was read is lost."""
    path = tmp_path / os.fsdecode(name)
    try:
        with open(path, "wb") as file:
            seven.save(file, "PNG")
    except OSError:
        pytest.skip("this file system has no such names")
    shutil.copy(path, tmp_path / "other.png")
    tables = ["--csv", str(tmp_path / "all.csv"), "--save", str(tmp_path / "all.pdf")]
    for more in tables, ["--json"], ["--save", str(tmp_path / "one.pdf")]:
        others = [str(tmp_path / "other.png")] * ("--csv" in more)
        assert predict.main([str(path), *others, "--checkpoint", str(network), *more]) == 0
    assert all((tmp_path / name).stat().st_size > 9000 for name in ("all.pdf", "one.pdf"))
    with open(tmp_path / "all.csv", newline="", encoding="utf-8") as file:
        assert [row[1] for row in csv.reader(file)] == ["text", "7", "7"]
    assert capsys.readouterr().err == ""


def test_a_name_that_no_font_has_is_no_warning(seven, tmp_path, run):
    names = [tmp_path / "\u65e5.png", tmp_path / "other.png"]
    for name in names:
        seven.save(name)
    done = run("predict.py", *names, "--save", tmp_path / "figure.png")
    assert done.returncode == 0 and "Glyph" not in done.stderr


@pytest.mark.parametrize("option", ["--csv", "--save"])
def test_what_is_printed_is_not_replaced(seven, tmp_path, option):
    seven.save(tmp_path / "seven.png")
    for path in ["log.png"] + ["/dev/stdout"] * os.path.exists("/dev/stdout"):
        (tmp_path / "log.png").write_text("precious\n")
        with open(tmp_path / "log.png", "a") as log:
            command = [sys.executable, utils.ROOT / "predict.py", "seven.png", option, path]
            done = subprocess.run(command, cwd=tmp_path, stdout=log, stderr=subprocess.PIPE)
        assert done.returncode == 2 and b"is what the output goes to" in done.stderr
        assert (tmp_path / "log.png").read_text() == "precious\n"


@pytest.mark.parametrize(
    "p, said", [(1.0, "> 99.9 %"), (0.999955, "> 99.9 %"), (0.99949, "99.9 %"), (0.8, "80.0 %")]
)
def test_nothing_is_certain(p, said):
    assert predict.output.percent(p) == said


def test_a_contact_sheet(capsys, folder, tmp_path):
    assert predict.main([str(folder), "--save", str(tmp_path / "sheet.png")]) == 1
    assert Image.open(tmp_path / "sheet.png").width > 900


def test_a_contact_sheet_says_which_picture_is_which_and_has_even_columns(seven, model):
    (reading,) = predict.predict_images([seven], model)
    pairs = [(seven, reading), (None, PictureError("why: " + "words " * 30)), (seven, reading)]
    figure = readings.plot(pairs, names=["a_$.png", "b_$.png", "c\n" + "x" * 40 + ".png", "more"])
    figure.draw_without_rendering()
    said = [text.get_text() for ax in figure.axes for text in (ax.title, *ax.texts)]
    said = [text for text in said if text]
    assert said[0].startswith("a_$.png\n7 (") and said[1].startswith("b_$.png\nno reading:\nwhy")
    assert said[2].startswith("c\\nxxxxxxx ... xxxxxx.png\n7 (") and len(said) == 3
    assert max(ax.get_position().width for ax in figure.axes) < 0.25


def test_what_a_damaged_file_says_is_no_formula(tmp_path):
    damaged = PictureError("can't be decoded: broken PNG file (chunk b'$^$_')")
    predict.publish(readings.plot([(None, damaged)]), tmp_path / "figure.png", show=False)
    assert (tmp_path / "figure.png").exists()


def test_watching_the_layers_is_the_forward_pass(model):
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    layers, _, probabilities = readings.watch(model, image)
    c1, _, s2, c3, _, s4, c5, _ = model.feature_extractor
    f6, _, output = model.classifier
    assert layers["Input"].shape == (32, 32)
    x = (torch.from_numpy(layers.pop("Input"))[None, None] / 255 - utils.MEAN) / utils.STD
    with torch.no_grad():
        for name, step in {
            "C1": lambda x: c1(x).tanh(),
            "S2": s2,
            "C3": lambda x: c3(x).tanh(),
            "S4": s4,
            "C5": lambda x: c5(x).tanh(),
            "F6": lambda x: f6(x.flatten(1)).tanh(),
        }.items():
            x = step(x)
            assert np.allclose(layers.pop(name), x[0], atol=1e-5), name
        assert np.allclose(probabilities, output(x).softmax(1)[0], atol=1e-5) and layers == {}
    assert not any(module._forward_hooks for module in model.modules())


def test_explain_writes_a_figure_and_keeps_stdout_for_machines(
    capsys, folder, tmp_path, monkeypatch, network
):
    monkeypatch.setattr(utils, "ASSETS", tmp_path)
    assert (
        predict.main(
            [str(folder / "1 good.png"), "--explain", "--json", "--checkpoint", str(network)]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert (
        json.loads(out)["text"] == "7"
        and err == f"predict.py: the layers are in {tmp_path / 'explain.png'}\n"
    )
    assert Image.open(tmp_path / "explain.png").width >= 1000
    assert (
        predict.main(
            [str(folder / "1 good.png"), "--explain", "--save", str(tmp_path / "mine.png")]
        )
        == 0
    )
    assert (tmp_path / "mine.png").exists() and capsys.readouterr().err == ""
    (tmp_path / "explain.png").unlink()
    assert predict.main([str(folder / "4 text.png"), "--explain"]) == 1
    assert not (tmp_path / "explain.png").exists() and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "IMAGE --draw --multi --export is required"),
        (["--explain"], "is required"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["a.png", "b.png", "--explain"], "--explain: takes one"),
        ([str(utils.ASSETS / "readme"), "--explain"], "--explain: takes one"),
        ([str(utils.ASSETS / "readme" / "*.jpg"), "--explain"], "--explain: takes one"),
        (["a.png", "--csv", "x.png", "--save", "./x.png"], "x.png is the table's name, too"),
        (["--multi", "--explain"], "--multi: takes no --explain"),
        (["--multi", "3", "--single"], "takes no --single"),
        (["--multi", "0"], "--multi: must be in 1 .. 1000"),
        (["--multi", "5", "x.png"], "--multi: takes no IMAGE"),
        (["--multi", "5", "--", "x.png"], "--multi: takes no IMAGE"),
        (["x.png", "--json", "--bogus", "y.png"], "unrecognized arguments: --bogus"),
        (["x.png", "--seed", "1"], "no meaning without --multi"),
        (["--multi", "--seed", "-1"], "--seed: must be in"),
        (["x.csv", "--json", "--csv", "y.csv"], "table takes no --json"),
        (["--multi", "--json"], "takes no --json"),
        (["x.csv"], "--csv FILE"),
        (["-", "-"], "only once"),
        (["x.png", "--invert", "maybe"], "invalid choice"),
        (["x.png", "--device", "toaster"], "not available"),
        (["x.png", "--save", "model.py/x.png"], "can't write in model.py"),
        (["x.png", "--jso"], "unrecognized arguments: --jso; did you mean --json?"),
        (
            ["x.png", "--save", "no/such/folder/x.png"],
            "can't write in no/such/folder (No such file",
        ),
        (["x.png", "--csv", "no/such/x.csv"], "can't write in no/such"),
        (["x.png", "--csv", "-"], "argument --csv: - is no file"),
        (["--multi", "--save", "-"], "argument --save: - is no file"),
        (["--export", "no/such/x.html"], "can't write in no/such"),
    ],
)
def test_refusals_are_one_line_with_status_2(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as exit:
        predict.main(arguments)
    out, err = capsys.readouterr()
    assert exit.value.code == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("predict.py: ") and complaint in err


def test_a_broken_checkpoint_is_one_line_with_status_1(capsys, folder, tmp_path):
    (tmp_path / "net.pth").write_bytes(b"nonsense")
    assert predict.main([str(folder), "--checkpoint", str(tmp_path / "net.pth")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "net.pth is not a checkpoint" in err


def test_several_digits_as_a_text_and_as_json(capsys, tmp_path, network):
    digits, labels = pictures.digits(200, seed=3)
    page = np.zeros((160, 400), dtype=np.float32)
    for i, digit in enumerate((9, 0, 2)):
        page[30:126, 20 + 120 * i:116 + 120 * i] = pictures.enlarge(digits[labels.index(digit)], 96)
    path = tmp_path / "number.png"
    pictures.to_image(1 - page).save(path)
    assert predict.main([str(path), "--json", "--checkpoint", str(network)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (
        answer["text"] == "902"
        and list(answer) == FIELDS
        and [d["digit"] for d in answer["digits"]] == [9, 0, 2]
    )
    assert all(0 <= edge <= 1 for d in answer["digits"] for edge in d["box"]) and {
        d["line"] for d in answer["digits"]
    } == {0}
    assert predict.main([str(path), "--checkpoint", str(network)]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 902")
    assert predict.main([str(path), "--single", "--json", "--checkpoint", str(network)]) == 0
    one = json.loads(capsys.readouterr().out)
    assert list(one) == FIELDS and len(one["digits"]) == 1
    assert (
        one["digits"][0]["digit"]
        == predict.single_predict(path, checkpoint=network)
        == int(one["text"])
    )
    assert predict.read_number(path, checkpoint=network) == "902"
