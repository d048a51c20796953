"""The network learns the user's own hand: pictures are kept with their label, trained on, and
nothing else changes."""

import io
import shutil
from pathlib import Path

import hand
import numpy as np
import pictures
import pytest
import torch
import troubles
from PIL import Image

from training import checkpoints
from training import own_pictures
import predict
from reading.reader import most_prominent
from training import recipes
from training.soap import SOAP
from training import report
import train
import utils
from utils import LeNetError

FEW = ["--epochs", "2", "--limit", "500", "--batch-size", "50"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of the test's own, without MNIST."""
    monkeypatch.setattr(utils, "DATA", tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def fours():
    """Thirty pictures of the made-up hand to learn from."""
    return hand.fours(30, seed=1)


def put(images, folder, digit=4):
    """Fill a folder by hand."""
    (folder / str(digit)).mkdir(parents=True)
    for i, image in enumerate(images):
        image.convert("RGB").save(folder / str(digit) / f"{i}.png")


def arguments(folder, *more):
    return [
        *FEW,
        *more,
        "--checkpoint",
        str(folder / "net.pth"),
        "--assets-dir",
        str(folder),
        "--data-dir",
        str(folder / "data"),
    ]


@pytest.fixture
def quick(small_data, monkeypatch):
    monkeypatch.setattr(report, "write_figures", lambda *_: [])


@pytest.mark.slow
def test_a_hand_is_read_better_with_pictures_of_it(quick, fours, data, tmp_path):
    """The same short run with and without them; how far either gets depends on the processor."""
    views = [
        own_pictures.normalize(image, 4)[0] for image in hand.fours(30, seed=2)
    ]  # none of them trained on
    inputs = utils.resize(torch.from_numpy(np.stack(views)))
    put(fours, data / "mine")
    short, of_4 = ["--epochs", "10", "--limit", "2000", "--batch-size", "50"], []
    for more in ([], ["--mine"]):
        assert train.main(arguments(tmp_path, *short, *more)) == 0
        model, _ = checkpoints.load_checkpoint(tmp_path / "net.pth")
        of_4.append(predict.read_inputs(model, inputs)[:, 4].mean().item())
    assert of_4[1] > of_4[0]


def test_the_correct_ones_are_counted_as_they_are_read(data, fours, seven, model, tmp_path):
    put([seven, seven.rotate(180), Image.new("L", (50, 50))], data / "mine", 7)
    put(fours[:2], data / "mine")
    wanted = [(7, data / "mine" / "7" / f"{i}.png") for i in range(2)] + [
        (4, data / "mine" / "4" / f"{i}.png") for i in range(2)
    ]
    readings = predict.predict_images([path for _, path in wanted], model)
    correct = sum(
        getattr(reading, "text", None) == str(digit)
        for reading, (digit, _) in zip(readings, wanted)
    )
    pictures_there = [own_pictures.Picture(path, digit, None) for digit, path in wanted]
    gone = own_pictures.Picture(tmp_path / "gone.png", 4, None)
    assert own_pictures.count_correct([*pictures_there, gone], model) == correct


# Keeping

def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file


def kept(data):
    return sorted(
        str(path.relative_to(data / "mine"))
        for path in (data / "mine").rglob("*")
        if path.is_file()
    )


def test_label_keeps_a_copy_of_each_picture(data, tmp_path, seven, capsys):
    (tmp_path / "scans").mkdir()
    seven.save(tmp_path / "scans" / "a.jpg")
    seven.rotate(5, fillcolor="white").save(tmp_path / "scans" / "b.png")
    seven.rotate(-5, fillcolor="white").save(tmp_path / "no suffix", "PNG")
    assert predict.main([str(tmp_path / "scans"), str(tmp_path / "no suffix"), "--label", "7"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("kept as a 7 in ") == out.count("thank you") == 3
    originals = [
        path.read_bytes()
        for path in (
            tmp_path / "scans" / "a.jpg",
            tmp_path / "scans" / "b.png",
            tmp_path / "no suffix",
        )
    ]
    assert sorted(originals) == sorted(
        path.read_bytes() for path in (data / "mine" / "7").iterdir()
    )
    assert {path.suffix for path in (data / "mine" / "7").iterdir()} == {
        ".jpg",
        ".png",
    }  # so load() finds all of them
    pictures_of_7, problems = own_pictures.load(data / "mine")
    assert [each.digit for each in pictures_of_7] == [7] * 3 and problems == []


def test_label_takes_standard_input_too(data, seven, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(png(seven).getvalue())))
    assert predict.main(["-", "--label", "7"]) == 0
    assert [Image.open(data / "mine" / name).size for name in kept(data)] == [seven.size]


def test_one_picture_is_kept_once_and_under_its_last_label(data, seven, fours):
    first, _ = own_pictures.keep(png(seven), ".PNG", 1, data / "mine")
    assert own_pictures.keep(png(seven), ".PNG", 1, data / "mine") == (first, 1) and kept(data) == [
        f"1/{first.name}"
    ]
    own_pictures.keep(png(seven), ".PNG", 7, data / "mine")
    assert kept(data) == [f"7/{first.name}"]
    for four in fours[:20]:
        own_pictures.keep(png(four), ".png", 4, data / "mine")
    assert len(kept(data)) == 21


@pytest.mark.parametrize("linked", ["folder", "file"])
def test_a_label_before_that_is_the_same_file_by_a_link_is_left(data, seven, linked):
    """Else the picture itself would be removed."""
    first, _ = own_pictures.keep(png(seven), ".png", 1, data / "mine")
    if linked == "folder":
        (data / "mine" / "7").symlink_to("1")
    else:
        (data / "mine" / "7").mkdir()
        (data / "mine" / "7" / first.name).symlink_to(first)
    path, _ = own_pictures.keep(png(seven), ".png", 7, data / "mine")
    assert (
        path.parent.name == "7" and path.read_bytes() == first.read_bytes() == png(seven).getvalue()
    )


def test_a_picture_of_several_digits_is_kept_with_a_word(data, tmp_path, seven, capsys):
    """With --label and where it is learnt; whatever the network reads, which is not asked."""
    for count in (1, 2, 3):
        page = Image.new("RGB", (200 * count, 200), "white")
        for i in range(count):
            page.paste(seven, (200 * i, 0))
        page.save(tmp_path / f"{count}.png")
    names = [str(tmp_path / f"{count}.png") for count in (1, 2, 3)]
    assert predict.main([*names, "--label", "7", "--checkpoint", str(tmp_path / "none.pth")]) == 0
    out, err = capsys.readouterr()
    assert out.count("kept as a 7 in ") == len(kept(data)) == 3
    assert err.splitlines() == [f"predict.py: {name}: {own_pictures.SEVERAL}" for name in names[1:]]
    of_7, problems = own_pictures.load(data / "mine")
    assert len(of_7) == 3 and [why for _, why in problems] == [own_pictures.SEVERAL] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [pictures.photograph, pictures.ruled, pictures.paint, troubles.hatched],
    ids=lambda it: it.__name__,
)
def test_of_a_single_digit_no_such_word_is_said(kind):
    images, labels = pictures.make(kind, 25, seed=1)
    assert (
        sum(own_pictures.normalize(image, label)[1] > 1 for image, label in zip(images, labels))
        <= 1
    )


def test_a_label_before_that_cannot_be_removed_is_told_as_it_is(data, seven, monkeypatch):
    """And the picture is closed by then: Windows removes no open file, if it is itself the one with
    the label before."""
    (first, _), file, unlink = (
        own_pictures.keep(png(seven), ".png", 1, data / "mine"),
        png(seven),
        Path.unlink,
    )
    (data / "mine" / "3").write_text("a file in a folder's place holds no older label")

    def refuse(path, *args, **kwargs):
        assert file.closed
        if path == first:
            raise PermissionError(13, "Permission denied")
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(
        LeNetError,
        match="could not be removed .Permission denied., so the picture is kept under both",
    ):
        own_pictures.keep(file, ".png", 7, data / "mine")
    assert (data / "mine" / "7" / first.name).read_bytes() == first.read_bytes()


def test_what_cannot_be_learnt_is_one_line_and_the_rest_goes_on(data, tmp_path, seven, capsys):
    seven.save(tmp_path / "seven.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    names = [str(tmp_path / f"{name}.png") for name in ("text", "blank", "nothing", "seven")]
    assert predict.main([*names, "--label", "7"]) == 1
    out, err = capsys.readouterr()
    assert (
        out.startswith(names[3])
        and [line.split(": ")[1] for line in err.splitlines()] == names[:3]
        and len(kept(data)) == 1
    )


def test_a_disk_that_takes_nothing_is_one_line(data, tmp_path, seven, capsys):
    seven.save(tmp_path / "seven.png")
    data.mkdir()
    (data / "mine").write_text("a file where the folder should be")
    assert predict.main([str(tmp_path / "seven.png"), "--label", "7"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "could not be written" in err


@pytest.mark.parametrize(
    "more, complaint",
    [
        (["x.png", "--label", "90210"], "invalid choice"),
        (["x.png", "--label", "seven"], "invalid choice"),
        (["x.png", "--label", "٧"], "invalid choice"),
        (["x.png", "--label", ""], "invalid choice"),
        (["--label", "7"], "is required"),
        (["--draw", "--label", "7"], "--draw: takes no --label"),
        (["--multi", "--label", "7"], "--multi: takes no --label"),
        (["x.png", "--label", "7", "--json"], "takes no --json"),
        (["x.png", "--label", "7", "--save", "y.png"], "takes no --save"),
        (["x.png", "--label", "7", "--single"], "takes no --single"),
    ],
)
def test_wrong_labels(capsys, data, more, complaint):
    with pytest.raises(SystemExit) as exit:
        predict.main(more)
    out, err = capsys.readouterr()
    assert (
        exit.value.code == 2
        and out == ""
        and err.count("\n") == 1
        and complaint in err
        and not (data / "mine").exists()
    )


@pytest.mark.slow
# Framing

@pytest.mark.parametrize(
    "kind",
    [pictures.photograph, pictures.ruled, pictures.paint, pictures.as_mnist],
    ids=lambda kind: kind.__name__,
)
def test_a_picture_is_framed_as_it_will_be_read(model, kind):
    """Without a network, but hardly ever in another way than with one that reads it rightly."""
    images, labels = pictures.make(kind, 25, seed=1)
    readings = predict.predict_images(images, model)
    differences = [
        np.abs(
            own_pictures.normalize(image, label)[0].astype(float)
            - most_prominent(reading.digits).view
        ).mean()
        for image, label, reading in zip(images, labels, readings)
        if getattr(reading, "text", None) == str(label)
    ]
    assert len(differences) > 20 and np.mean(np.array(differences) < 3) >= 0.85


def test_loading_names_what_it_cannot_use_and_passes_over_what_is_no_picture(data, seven):
    put([seven], data / "mine", 7)
    (data / "mine" / "7" / "._0.png").write_bytes(b"macOS")
    (data / "mine" / "7" / "notes.txt").write_text("passed over")
    (data / "mine" / "7" / "text.png").write_text("no picture")
    (data / "mine" / "10").mkdir()
    seven.save(data / "mine" / "10" / "0.png")
    pictures_there, problems = own_pictures.load(data / "mine")
    assert [(each.path.name, each.digit) for each in pictures_there] == [("0.png", 7)]
    assert [path.name for path, _ in problems] == ["text.png"] and "not a picture" in problems[0][1]
    assert own_pictures.load(data / "nowhere") == ([], [])


# Training

@pytest.mark.parametrize("n, times", [(1, recipes.OWN_AT_MOST), (50, 6), (10_000, 1)])
@pytest.mark.parametrize("kind", ["labels", "distributions"])
def test_own_pictures_are_a_few_percent_of_an_epoch(n, times, kind):
    images, labels = torch.zeros(10_000, 1, 32, 32, dtype=torch.uint8), torch.arange(10_000) % 10
    targets = labels if kind == "labels" else torch.nn.functional.one_hot(labels, 10).float()
    own = torch.full((n, 1, 32, 32), 9, dtype=torch.uint8), torch.full((n,), 4)
    images, targets, table = recipes.add_own(
        images, targets, torch.arange(10_000)[:, None].repeat(1, 3), *own
    )
    added = images[table][:, :, 0, 0, 0] == 9
    assert (
        added.sum() == 3 * n * times
        and len(table) == 10_000 + n * times
        and len(images) == len(targets) == 10_000 + n
    )
    mine_ = targets[table[added.all(1)]]
    assert (mine_ == 4).all() if kind == "labels" else (mine_.argmax(2) == 4).all()


@pytest.mark.slow
def test_own_pictures_are_shown_in_each_epoch_and_distorted(fours):
    images = torch.zeros(1000, 1, 32, 32, dtype=torch.uint8)
    own = own_pictures.as_tensors(
        [own_pictures.Picture(None, 4, own_pictures.normalize(fours[0], 4)[0])]
    )
    settings = dict(recipes.RECIPES["modern"], seed=0, ingredients=("affine",), batch_size=100)
    _, _, loader, _ = recipes.prepare(
        settings, (images, torch.zeros(1000, dtype=torch.long)), "cpu", own
    )
    for _ in range(2):
        seen = [x[y == 4] for x, y in loader]
        seen = torch.cat(seen)
        assert len(seen) == 31 and len(torch.unique(seen, dim=0)) == 31


def test_without_mine_nothing_changes(quick, data, fours, tmp_path, capsys):
    """Not even with pictures there: what is learnt, and what is kept of the run, is the same bit
    for bit."""
    assert train.main(arguments(tmp_path)) == 0
    before = checkpoints.read_file(tmp_path / "net.pth")
    put(fours[:3], data / "mine")
    assert train.main(arguments(tmp_path)) == 0
    after = checkpoints.read_file(tmp_path / "net.pth")
    assert all(
        torch.equal(before["weights"][name], tensor) for name, tensor in after["weights"].items()
    )
    assert before["settings"] == after["settings"] and "mine" not in after["settings"]
    assert "pictures" not in capsys.readouterr().out


def test_no_pictures_at_all_is_a_wrong_call_that_says_how_to_make_some(data, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        train.main(arguments(tmp_path, "--mine"))
    err = capsys.readouterr().err
    assert exit.value.code == 2 and err.count("\n") == 1 and "--label 7" in err and "--draw" in err


def test_a_picture_that_cannot_be_used_is_one_warning(quick, data, fours, tmp_path, capsys):
    put(fours[:3], data / "mine")
    (data / "mine" / "4" / "text.png").write_text("no picture")
    assert train.main(arguments(tmp_path, "--mine")) == 0
    out, err = capsys.readouterr()
    assert (
        err.count("\n") == 1
        and "text.png: not a picture" in err
        and "goes on" in err
        and " of 3 read correctly" in out
    )


@pytest.fixture
def cut_off(quick, data, fours, tmp_path, monkeypatch):
    """A run with own pictures that was stopped in its second epoch, and one that was not, in
    "straight"."""
    put(fours[:3], data / "mine")
    (tmp_path / "straight").mkdir()
    shutil.copytree(data, tmp_path / "straight" / "data")
    assert train.main(arguments(tmp_path / "straight", "--mine")) == 0
    calls, step = [], SOAP.step

    def stop(self):
        calls.append(1)
        if len(calls) == 18:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(SOAP, "step", stop)
        assert train.main(arguments(tmp_path, "--mine")) == 130
    return tmp_path


def test_resume_goes_on_with_the_same_pictures_bit_for_bit(cut_off, capsys):
    assert train.main([*arguments(cut_off, "--resume")[len(FEW):]]) == 0
    ours, theirs = (
        checkpoints.load_checkpoint(folder / "net.pth")
        for folder in (cut_off, cut_off / "straight")
    )
    assert all(torch.equal(*pair) for pair in zip(ours[0].parameters(), theirs[0].parameters()))
    assert ours[1]["settings"] == theirs[1]["settings"] and ours[1]["settings"]["mine"].startswith(
        "3-"
    )
    assert capsys.readouterr().out.count(" of 3 read correctly") == 1


@pytest.mark.slow
@pytest.mark.parametrize("change", ["one more", "one less", "another label"])
def test_resume_refuses_if_the_pictures_have_changed(cut_off, data, seven, capsys, change):
    if change == "one more":
        seven.save(data / "mine" / "4" / "more.png")
    elif change == "one less":
        (data / "mine" / "4" / "0.png").unlink()
    else:
        (data / "mine" / "9").mkdir()
        (data / "mine" / "4" / "2.png").rename(data / "mine" / "9" / "2.png")
    before = (cut_off / "net.last.pth").read_bytes()
    assert train.main(arguments(cut_off, "--resume")[len(FEW):]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert (
        "are not those that the run began with" in err
        and (cut_off / "net.last.pth").read_bytes() == before
    )


def test_resume_names_a_run_that_had_no_pictures(quick, data, fours, tmp_path, capsys):
    assert train.main(arguments(tmp_path)) == 0
    put(fours[:3], data / "mine")
    with pytest.raises(SystemExit) as exit:
        train.main(arguments(tmp_path, "--resume", "--mine")[len(FEW):])
    assert (
        exit.value.code == 2
        and "the interrupted run has no pictures of your own" in capsys.readouterr().err
    )


def test_an_evaluation_has_no_use_for_them(data, capsys):
    with pytest.raises(SystemExit) as exit:
        train.main(["--evaluate", "--mine"])
    assert (
        exit.value.code == 2
        and "--evaluate cannot be combined with --mine" in capsys.readouterr().err
    )
