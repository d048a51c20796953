"""What the command line's names stand for: each picture once, in order, with one answer; none is
overwritten."""

import errno
import json
import os
import random
import subprocess
import sys

import fuzz
import pytest
from PIL import Image

import predict
from reading import sources
import utils
from reading.image import PictureError

try:
    import resource
except ImportError:  # Windows
    resource = None


@pytest.fixture
def folder(tmp_path, seven):
    seven.resize((28, 28)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    return tmp_path


@pytest.mark.parametrize("count", [1, 61])
@pytest.mark.parametrize("mix", ["good", "bad", "any"])
def test_every_input_has_one_answer_in_order(capsys, tmp_path, monkeypatch, count, mix):
    """However many there are, and whatever is bad among them. The network is left out: it is asked
    elsewhere."""
    chosen = [
        random.Random(count).choice(["good", "bad"]) if mix == "any" else mix for _ in range(count)
    ]
    names = [f"{i}-{kind}.png" for i, kind in enumerate(chosen)]
    monkeypatch.setattr(predict, "load_model", lambda *_: None)
    monkeypatch.setattr(predict, "say", lambda reading: reading)
    monkeypatch.setattr(predict.output, "as_row", lambda *_: ())
    monkeypatch.setattr(predict, "read_sources", lambda paths, *_: (
        (None, PictureError(str(path)) if "bad" in str(path) else f"read {path}")
        for path in paths))
    status = predict.main(names)
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{name}: read {name}" for name in names if "good" in name]
    assert err.splitlines() == [f"predict.py: {name}: {name}" for name in names if "bad" in name]
    assert status == (1 if "bad" in chosen else 0)


@pytest.mark.parametrize("count", [1, 31])
def test_every_picture_is_read_for_real(capsys, folder, count, network):
    names = [str(folder / ("bad.png" if i % 3 == 2 else "good.png")) for i in range(count)]
    assert predict.main([*names, "--checkpoint", str(network)]) == (1 if count > 2 else 0)
    out, err = capsys.readouterr()
    assert out.count("good.png: 7 (") == count - count // 3 and err.count("\n") == count // 3


def test_a_pattern_is_expanded_where_the_shell_does_not(folder):
    (folder / "a[1].png").write_bytes(b"")
    assert [name for name, _ in sources.find_sources([str(folder / "*oo*.png")])] == [
        str(folder / "good.png")
    ]
    assert [name for name, _ in sources.find_sources([str(folder / "a[1].png")])] == [
        str(folder / "a[1].png")
    ]  # a name first
    assert [name for name, _ in sources.find_sources([str(folder / "*.gif")])] == [
        str(folder / "*.gif")
    ]


def test_what_macos_leaves_on_a_memory_stick_is_no_picture(folder):
    (folder / "._good.png").write_bytes(b"\0\5\26\7")
    assert [name for name, _ in sources.find_sources([str(folder)])] == [
        str(folder / name) for name in ("bad.png", "good.png")
    ]


def test_a_name_of_300_letters_is_one_line_and_the_rest_goes_on(capsys, folder, network):
    assert (
        predict.main(["n" * 300 + ".png", str(folder / "good.png"), "--checkpoint", str(network)])
        == 1
    )
    out, err = capsys.readouterr()
    assert "good.png: 7 (" in out and err.count("\n") == 1
    assert os.name == "nt" or f"can't be opened: {os.strerror(errno.ENAMETOOLONG)}" in err


@pytest.mark.parametrize("below", ["", "below"])
def test_a_folder_that_cannot_be_listed_is_one_line_and_the_rest_goes_on(
    capsys, folder, monkeypatch, network, below
):
    closed, scandir = folder / "scans" / below, os.scandir
    closed.mkdir(parents=True)
    (folder / "good.png").rename(folder / "scans" / "good.png" if below else folder / "good.png")

    def refuse(path):
        if os.path.samefile(path, closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    names = [str(folder / "scans")] + ([] if below else [str(folder / "good.png")])
    assert predict.main([*names, "--checkpoint", str(network)]) == 1
    out, err = capsys.readouterr()
    assert (
        "good.png: 7 (" in out
        and err == f"predict.py: {closed}: can't be listed: Permission denied\n"
    )


def test_folders_of_folders_are_read_in_natural_order(tmp_path, monkeypatch):
    """As people sort digits: into folders 0 to 9. Each picture comes once, whatever finds it."""
    monkeypatch.chdir(tmp_path)
    wanted = ["p2.png", "p10.png", "2/p1.png", "2/p9.png", "2/p11.png", "2/a/p1.png", "10/p1.png"]
    for name in [*wanted, ".hidden/p1.png", "__MACOSX/p1.png", "2/notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "2" / "loop").symlink_to(tmp_path)
    (tmp_path / "empty").mkdir()

    def found(*names):
        return [os.path.relpath(name) for name, _ in sources.find_sources(names)]

    assert found(str(tmp_path)) == found(".") == wanted
    assert found("2") == wanted[2:6] and found("p*.png") == wanted[:2]
    assert sorted(found("**/*.png")) == sorted(found("**")) and set(wanted) <= set(found("**"))
    ((name, error),) = sources.find_sources(["empty"])
    assert name == "empty" and str(error) == "a folder without pictures"


@pytest.mark.parametrize(
    "names, save",
    [
        (["good.png"], "good.png"),
        (["bad.png", "link.png"], "good.png"),
        (["."], "seen.png"),
        (["*.png"], "seen.png"),
        (["good.png"], "link.png"),
        (["./good.png"], "good.png"),
        (["*oo*.png"], "good.png"),
        (["*"], "good.png"),
        (["../[[]*/*.png"], "seen.png"),
        (["../a*/*.png"], "seen.png"),
        (["../a*"], "seen.png"),
        (["../a/*.png"], "seen.png"),
        (["../a"], "seen.png"),
        (["../[[]*"], "good.png"),
        (["*.png"], "../b/good.png"),
        (["."], "../b/good.png"),
        (["-"], "good.png"),
        ([".."], "seen.png"),
        (["../**"], "good.png"),
        (["../**/*.png"], "seen.png"),
    ],
)
def test_a_figure_replaces_no_picture_and_becomes_none(
    capsys, tmp_path, monkeypatch, seven, names, save
):
    """However the two are spelled: a folder whose name looks like a pattern, by links, as standard
    input."""
    folder = tmp_path / "[2024]"
    (tmp_path / "b").mkdir()
    folder.mkdir()
    seven.save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"not a picture")
    (folder / "link.png").symlink_to("good.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (tmp_path / "a").symlink_to(folder.name)
    (tmp_path / "a dangling one").symlink_to("nowhere")
    (tmp_path / "b" / "good.png").symlink_to(folder / "good.png")
    monkeypatch.chdir(folder)
    if names == ["-"]:
        fstat = os.fstat
        monkeypatch.setattr(
            os, "fstat", lambda number: os.stat("good.png") if number == 0 else fstat(number)
        )
    before = (folder / "good.png").read_bytes()
    with pytest.raises(SystemExit) as exit:
        predict.main([*names, "--save", save])
    err = capsys.readouterr().err
    assert (
        exit.value.code == 2
        and err.count("\n") == 1
        and "argument --save: " in err
        and "choose another" in err
    )
    assert (folder / "good.png").read_bytes() == before and not (folder / "seen.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="it has no such files")
def test_what_is_written_replaces_no_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="argument --csv: .*pipe is no file"):
        utils.check_file(tmp_path / "pipe", "--csv")


def test_a_figure_beside_its_picture_is_welcome(folder, monkeypatch, capsys, network):
    monkeypatch.chdir(folder)
    assert predict.main(["good.png", "--save", "seen.png", "--checkpoint", str(network)]) == 0
    assert (
        predict.main([".", "--save", "seen.pdf", "--checkpoint", str(network)]) == 1
    )  # bad.png; .pdf is never read
    assert (folder / "seen.pdf").exists() and (folder / "seen.png").exists()


def test_a_figure_that_has_no_room_for_all_says_so(capsys, folder, network, monkeypatch):
    monkeypatch.setattr(predict.readings, "MOST", 3)
    names = [str(folder / "good.png")] * 4
    assert (
        predict.main([*names, "--save", str(folder / "seen.png"), "--checkpoint", str(network)])
        == 0
    )
    assert (
        capsys.readouterr().err == "predict.py: the figure has room for the first 3 of 4 pictures\n"
    )


NAMES = ["a\nb", "a\rb", "a\x1b[2Jb", "a\x85b", "a\u2028b", "\n", "a\tb"]


@pytest.mark.skipif(os.name == "nt", reason="no such names")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_on_one_line(capsys, tmp_path, monkeypatch, seven, network, name):
    """In what is read, kept and refused, by itself and in a folder; --json has it as it is."""
    def lines(arguments, status):
        try:
            assert (
                predict.main(["--checkpoint", str(network), *map(str, arguments)]) == status
            )  # the last one counts
        except SystemExit as exit:
            assert exit.code == status == 2
        for stream in (captured := capsys.readouterr()):
            assert stream == "" or all(line.isprintable() for line in stream[:-1].split("\n"))
        return captured.out.count("\n"), captured.err.count("\n")

    monkeypatch.setattr(utils, "DATA", tmp_path / f"{name}data")
    monkeypatch.setattr(utils, "ASSETS", tmp_path / "assets")
    picture, bad, folder = (
        tmp_path / f"{name}.png",
        tmp_path / f"{name}bad.gif",
        tmp_path / f"{name} folder",
    )
    for path in (folder, utils.DATA, utils.ASSETS):
        path.mkdir()
    for path in (picture, folder / picture.name):
        seven.save(path)
    Image.new("L", (40, 40)).save(
        bad, save_all=True, append_images=[Image.new("L", (40, 40), 255)]
    )  # two pages
    assert lines([picture, bad, folder, tmp_path / f"no{name}"], 1) == (2, 2)
    assert lines([picture, picture, "--save", tmp_path / f"{name}seen.png"], 0) == (2, 0)
    assert lines([picture, "--save", picture], 2) == (0, 1)
    assert lines([picture, bad, "--label", "7"], 1) == (1, 1)
    assert lines([picture, "--save", tmp_path / f"seen.{name}"], 2) == (0, 1)
    assert lines([picture, "--checkpoint", tmp_path / f"{name}.pth"], 1) == (0, 1)
    assert lines([f"--{name}"], 2) == (0, 1)
    assert predict.main([str(picture), "--json", "--checkpoint", str(network)]) == 0
    assert json.loads(capsys.readouterr().out)["image"] == str(picture)


@pytest.mark.slow
@pytest.mark.skipif(resource is None, reason="no such limit")
@pytest.mark.parametrize("option", [["--json"], ["--label", "7"]])
def test_of_many_damaged_files_none_stays_open(tmp_path, option):
    """150 of them, of ten kinds, with at most 64 files open at once."""
    files, rng = fuzz.seeds(), random.Random(0)
    for i in range(150):
        (tmp_path / f"{i:03d}.png").write_bytes(files[i % len(files)][:rng.randrange(300)])
    process = subprocess.run(
        [sys.executable, "predict.py", tmp_path, *option],
        cwd=utils.ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )
    answers = (process.stdout + process.stderr).splitlines()
    assert (
        process.returncode == 1
        and len(answers) == 150
        and not any(os.strerror(errno.EMFILE) in answer for answer in answers)
    )
