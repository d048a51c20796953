"""A run leaves others' files alone, and nothing that was better is lost."""

import csv
import itertools
import json
import os
import subprocess

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from figures import window
from training.soap import SOAP
from training import checkpoints, files
from training import report
import predict
import train
import utils
from training.data import Batches
from model import LeNet5
from utils import LeNetError

FEW = ["--epochs", "2", "--limit", "100", "--batch-size", "50"]


def arguments(folder, *more, name="net.pth"):
    folder.mkdir(exist_ok=True)
    return [
        *FEW,
        *more,
        "--checkpoint",
        str(folder / name),
        "--assets-dir",
        str(folder / "pictures"),
    ]


@pytest.fixture
def quick(small_data, monkeypatch):
    monkeypatch.setattr(report, "write_figures", lambda *_: [])


@pytest.fixture
def stop(monkeypatch):
    """stop(n): Ctrl-C comes before the n-th step from now on; FEW has two an epoch."""
    left, step = [0], SOAP.step

    def counting_step(self):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(SOAP, "step", counting_step)
    return lambda number: left.__setitem__(0, number)


@pytest.fixture(scope="module")
def valid_loader(parts):
    return Batches(*(tensor[:100] for tensor in parts[1]), 100)


def tell_apart(number):
    """Weights that say which try they are of."""
    weights = {name: torch.zeros_like(tensor) for name, tensor in LeNet5().state_dict().items()}
    weights["classifier.2.bias"][0] = number
    return weights


def which(path):
    return (
        int(checkpoints.load_checkpoint(path)[0].classifier[2].bias[0]) if path.exists() else None
    )


LOSSES = st.floats(0.01, 3)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    shipped=st.one_of(st.none(), st.just("no loss in it"), LOSSES),
    tries=st.lists(
        st.tuples(st.sampled_from(["stopped", "complete", "resumed"]), LOSSES),
        min_size=1,
        max_size=10,
    ),
)
def test_ten_tries_in_any_order_lose_nothing_that_was_better(
    tmp_path_factory, valid_loader, shipped, tries
):
    """The best network that any try had, at its end or when it was stopped, is in one of the three
    files."""
    net = tmp_path_factory.mktemp("tries") / "net.pth"
    last, previous = (files.sibling_path(net, what) for what in ("last.pth", "previous.pth"))
    losses = {}

    def row(loss):
        return [dict(epoch=1, valid_loss=loss, valid_accuracy=50.0)]

    plan = dict(recipe="modern", seed=0)
    if shipped == "no loss in it":
        torch.save(tell_apart(0), net)
        losses[0] = files.load_if_there(net, {}, valid_loader, "cpu")[1]
    elif shipped is not None:
        checkpoints.save_checkpoint(net, tell_apart(0), **files.describe(plan, row(shipped)))
        losses[0] = shipped
    for number, (what, loss) in enumerate(tries, 1):
        before = net.read_bytes() if net.exists() else None
        # an older run comes to its end, no better than it was
        if what == "resumed" and last.exists():
            number = which(last)
        else:
            files.keep_unfinished(net, {}, valid_loader, "cpu")
            losses[number] = loss
            checkpoints.save_checkpoint(
                last, tell_apart(number), history=row(loss), **files.describe(plan, row(loss))
            )
        if what == "stopped":
            assert (net.read_bytes() if net.exists() else None) == before
        else:
            files.install_checkpoint(
                net,
                tell_apart(number),
                files.describe(plan, row(losses[number])),
                valid_loader,
                "cpu",
            )
            assert which(net) == number
        there = {which(path) for path in (net, last, previous)} - {None}
        assert min(losses[n] for n in there) == min(losses.values())


def test_losses_on_different_data_sets_are_not_compared(tmp_path, valid_loader):
    """The best network of a set is kept, whatever a run on another one left there."""
    net = tmp_path / "net.pth"
    last, previous = (files.sibling_path(net, what) for what in ("last.pth", "previous.pth"))

    def metadata(loss, **more):
        history = [dict(epoch=1, valid_loss=loss, valid_accuracy=50.0)]
        return dict(files.describe(dict(recipe="modern", seed=0, **more), history), history=history)

    checkpoints.save_checkpoint(net, tell_apart(1), **metadata(0.021))
    checkpoints.save_checkpoint(previous, tell_apart(2), **metadata(0.02))
    checkpoints.save_checkpoint(last, tell_apart(3), **metadata(0.01, data="kmnist"))
    files.keep_unfinished(net, {}, valid_loader, "cpu")
    assert which(previous) == 2
    checkpoints.save_checkpoint(previous, tell_apart(3), **metadata(0.01, data="kmnist"))
    files.install_checkpoint(net, tell_apart(4), metadata(0.025), valid_loader, "cpu")
    assert which(net) == 4 and which(previous) == 1


@pytest.mark.slow
def test_start_stop_start_stop_leaves_the_network_its_history_and_its_pictures(
    small_data, stop, checkpoint, tmp_path, capsys
):
    net = tmp_path / "net.pth"
    net.write_bytes(checkpoint.read_bytes())
    (tmp_path / "net.history.csv").write_text("its history")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "loss_curves.png").write_bytes(b"its curves")
    for seed in ("0", "1"):
        stop(4)  # in the second epoch
        assert train.main(arguments(tmp_path, "--live", "--seed", seed)) == 130
    assert (
        net.read_bytes() == checkpoint.read_bytes()
        and (tmp_path / "net.history.csv").read_text() == "its history"
    )
    assert (tmp_path / "pictures" / "loss_curves.png").read_bytes() == b"its curves"
    assert (tmp_path / "pictures" / "live.png").read_bytes().startswith(b"\x89PNG")
    assert [row["epoch"] for row in csv.DictReader(open(tmp_path / "net.last.csv"))] == ["1"]


@pytest.mark.slow
def test_two_runs_in_one_folder_do_not_meet(quick, stop, tmp_path, capsys):
    for seed, name in enumerate(("one.pth", "two.pth")):
        stop(4)
        assert train.main(arguments(tmp_path, "--seed", str(seed), name=name)) == 130
    stop(0)
    for seed, name in enumerate(("one.pth", "two.pth")):
        assert train.main(["--resume", *arguments(tmp_path, name=name)[len(FEW):]]) == 0
        assert checkpoints.load_checkpoint(tmp_path / name)[1]["seed"] == seed
        assert len((tmp_path / f"{name[:3]}.history.csv").read_text().splitlines()) == 3


NAMES = st.lists(
    st.sampled_from(["a", ".", "last", "previous", "history", ".pth"]), max_size=4
).map("".join)


@settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(one=NAMES, other=NAMES)
def test_no_file_belongs_to_two_runs(tmp_path, one, other):
    one, other = (tmp_path / f"n{name}" for name in (one, other))
    try:
        for checkpoint in (one, other):
            files.check_name(checkpoint)
    except ValueError:
        return
    names = [
        {checkpoint, *(files.sibling_path(checkpoint, what) for what in files.FILES)}
        for checkpoint in (one, other)
    ]
    assert one == other or not names[0] & names[1]


@pytest.mark.parametrize(
    "name",
    [
        "net.last.pth",
        "net.previous.pth",
        "net.history.pth",
        "net",
        "net.pt",
        "net.last.csv",
        "n" * 300 + ".pth",
    ],
)
def test_a_name_that_a_run_uses_or_no_disk_takes_is_refused(capsys, tmp_path, name):
    with pytest.raises(SystemExit) as exit:
        train.main(arguments(tmp_path, name=name))
    err = capsys.readouterr().err
    assert exit.value.code == 2 and err.count("\n") == 1 and "argument --checkpoint: " in err


@pytest.mark.slow
def test_a_run_to_last_pth_keeps_its_state_elsewhere(quick, tmp_path, capsys):
    assert train.main(arguments(tmp_path, name="last.pth")) == 0
    assert (
        checkpoints.load_checkpoint(tmp_path / "last.pth")[1]["epoch"] in (1, 2)
        and (tmp_path / "last.last.pth").exists()
    )


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize("content", [b"not a network", b""])
def test_what_is_no_network_is_not_replaced(quick, tmp_path, capsys, content, dry):
    (tmp_path / "net.pth").write_bytes(content)
    assert train.main(arguments(tmp_path, *dry)) == 1
    out, err = capsys.readouterr()
    assert (
        err.count("\n") == 1
        and "a training would replace it" in err
        and (tmp_path / "net.pth").read_bytes() == content
    )


def test_a_link_stays_one(quick, checkpoint, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.pth").write_bytes(checkpoint.read_bytes())
    (tmp_path / "net.pth").symlink_to(tmp_path / "elsewhere" / "real.pth")
    assert train.main(arguments(tmp_path)) == 0
    assert (tmp_path / "net.pth").is_symlink()
    assert checkpoints.load_checkpoint(tmp_path / "elsewhere" / "real.pth")[1]["recipe"] == "modern"
    assert (tmp_path / "net.previous.pth").read_bytes() == checkpoint.read_bytes()
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["real.pth"]


@pytest.mark.slow
def test_a_link_to_what_is_not_there_yet_is_followed(quick, tmp_path, capsys):
    (tmp_path / "net.pth").symlink_to(tmp_path / "elsewhere" / "real.pth")
    (tmp_path / "elsewhere").mkdir()
    assert train.main(arguments(tmp_path)) == 0
    assert (tmp_path / "net.pth").is_symlink() and (tmp_path / "elsewhere" / "real.pth").is_file()


FILES = ("net.pth", "net.last.pth", "net.last.csv", "net.previous.pth", "net.history.csv")


@pytest.mark.slow
@pytest.mark.parametrize("one, other", [*itertools.permutations(FILES, 2)])
@pytest.mark.parametrize("how", ["link", "hard link", "link to a link"])
def test_two_files_that_are_one_lose_nothing(quick, checkpoint, tmp_path, capsys, one, other, how):
    """A run is refused, before anything is written, or the network that was there is still there at
    its end."""
    network = checkpoint.read_bytes()
    (tmp_path / other).write_bytes(network)
    if how == "hard link":
        os.link(tmp_path / other, tmp_path / one)
    elif how == "link":
        (tmp_path / one).symlink_to(other)
    else:
        (tmp_path / "between").symlink_to(other)
        (tmp_path / one).symlink_to(tmp_path / "between")
    if not (tmp_path / "net.pth").exists():
        (tmp_path / "net.pth").write_bytes(network)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    try:
        assert train.main(arguments(tmp_path)) == 0 and how == "hard link"
    except SystemExit as exit:
        err = capsys.readouterr().err
        assert exit.code == 2 and err.count("\n") == 1 and one in err and other in err
        assert before == {
            path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
        }
    assert network in [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    assert (
        len((tmp_path / "net.history.csv").read_text().splitlines()) == 3
        if how == "hard link"
        else True
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no such names")
def test_a_name_is_shown_on_one_line(small_data, stop, seven, tmp_path, capsys):
    """Of all files that are named while a run is told."""
    def said(*more):
        try:
            train.main(arguments(folder, *more, "--data-dir", str(folder)))
        except SystemExit:
            pass
        text = "".join(capsys.readouterr())
        assert all(line.isprintable() for line in text.split("\n"))
        return text

    folder = tmp_path / "a\nb"
    for digit in (4, 7):
        (folder / "mine" / str(digit)).mkdir(parents=True)
    Image.new("L", (30, 30)).save(folder / "mine" / "4" / "c\x1bd.png")
    seven.save(folder / "mine" / "7" / "e.png")
    text = said("--mine", "--live")
    assert all(
        part in text for part in (r"c\x1bd.png: no digit found", "loss curves are in", "written: ")
    )
    assert "before is kept in" in said("--seed", "1")
    stop(4)
    assert "stopped; every finished epoch is in" in said("--seed", "2")
    assert "--resume: the interrupted run has" in said("--resume", "--seed", "3")
    (folder / "net.pth").write_bytes(b"")
    assert "a training would replace it" in said()
    (folder / "net.last.pth").unlink()
    assert "no run to resume" in said("--resume")


@pytest.mark.slow
def test_a_stale_previous_is_not_called_the_one_that_was_there(quick, checkpoint, tmp_path, capsys):
    (tmp_path / "net.previous.pth").write_bytes(checkpoint.read_bytes())
    assert train.main(arguments(tmp_path)) == 0
    assert "that was there before" not in capsys.readouterr().out
    assert (tmp_path / "net.previous.pth").read_bytes() == checkpoint.read_bytes()


@pytest.mark.slow
def test_the_curves_are_those_of_the_network_beside_them(small_data, tmp_path, monkeypatch, capsys):
    titles, save_figure = {}, window.save_figure

    def save(figure, path):
        titles[path.name] = figure.get_suptitle()
        save_figure(figure, path)

    monkeypatch.setattr(window, "save_figure", save)
    assert train.main(arguments(tmp_path, "--seeds", "2", "--live")) == 0
    assert "seed 0" in titles["loss_curves.png"] and "seed 1" in titles["live.png"]


@pytest.mark.parametrize("victims", [
    ("net.last.csv",), *(pytest.param(names, marks=pytest.mark.slow) for names in (
        ("net.history.csv",), ("mistakes.png", "loss_curves.png"), ("live.png",), ("run.json",)))])
def test_a_table_or_picture_that_cannot_be_written_is_one_warning(
    small_data, tmp_path, monkeypatch, capsys, victims
):
    """It is open in another program, on Windows."""
    write = utils.write_atomically

    def refuse(path, content):
        if path.name in victims:
            raise LeNetError(
                f"{path} could not be written (Permission denied); what was there before is "
                f"untouched"
            )
        write(path, content)

    monkeypatch.setattr(utils, "write_atomically", refuse)
    assert train.main(arguments(tmp_path, *["--live"] * ("live.png" in victims))) == 0
    warnings = [
        line for line in capsys.readouterr().err.splitlines() if "could not be written" in line
    ]
    assert len(warnings) == len(victims) and all(
        victim in line for victim, line in zip(victims, warnings)
    )
    assert checkpoints.load_checkpoint(tmp_path / "net.pth")[1]["seed"] == 0


def test_the_state_is_safe_before_anything_is_told_or_drawn(quick, tmp_path, monkeypatch, capsys):
    for module, name in ((report, "epoch_line"), (files, "write_history")):
        folder = tmp_path / name
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *_: (_ for _ in ()).throw(BrokenPipeError))
            assert train.main(arguments(folder)) == 141
        assert len(checkpoints.read_file(folder / "net.last.pth")["history"]) == 1
        assert "--resume" in capsys.readouterr().err


def test_a_state_is_a_checkpoint_of_its_best_epoch(quick, stop, tmp_path, capsys):
    stop(4)
    assert train.main(arguments(tmp_path)) == 130
    assert checkpoints.load_checkpoint(tmp_path / "net.last.pth")[1]["epoch"] == 1


def test_a_rename_that_is_refused_is_tried_again(tmp_path, monkeypatch):
    refusals, replace = (
        iter([PermissionError("in use"), PermissionError("in use"), None]),
        os.replace,
    )

    def scanned(*paths):
        if error := next(refusals):
            raise error
        replace(*paths)

    monkeypatch.setattr(os, "replace", scanned)
    checkpoints.save_file(tmp_path / "file", "content")
    assert checkpoints.read_file(tmp_path / "file") == "content" and list(refusals) == []


def test_a_rename_that_stays_refused_is_one_line(tmp_path, monkeypatch):
    def refuse(*paths):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(
        LeNetError,
        match="could not be written .Permission denied.; what was there before is untouched",
    ):
        checkpoints.save_file(tmp_path / "file", "content")
    assert list(tmp_path.iterdir()) == []


# What predict.py reads with, and what is kept of every run

def save_network(path, number, valid_loss, **settings):
    checkpoints.save_checkpoint(path, tell_apart(number), recipe="modern", seed=0, epoch=1,
                                valid_loss=valid_loss, settings=settings)


@pytest.mark.parametrize("yours, chosen", [
    (None, "shipped"), (dict(valid_loss=0.3), "shipped"), (dict(valid_loss=0.1), "yours"),
    (dict(valid_loss=0.2), "yours"), (dict(valid_loss=0.3, mine="3-abc"), "yours"),
    ("damaged", "shipped")])
def test_the_default_network_is_never_worse_than_the_shipped_one(
        tmp_path, seven, monkeypatch, capsys, yours, chosen):
    """Unless it was trained on the user's own pictures; and that it is not the shipped one is
    said."""
    monkeypatch.delenv("LENET5_CHECKPOINT")
    monkeypatch.setattr(utils, "SHIPPED", tmp_path / "shipped.pth")
    monkeypatch.setattr(utils, "CHECKPOINT", tmp_path / "net.pth")
    save_network(utils.SHIPPED, 1, 0.2)
    if yours == "damaged":
        utils.CHECKPOINT.write_bytes(b"x")
    elif yours:
        save_network(utils.CHECKPOINT, 2, **yours)
    seven.save(tmp_path / "seven.png")
    monkeypatch.setattr(predict, "read_all", lambda args, device: print(which(args.checkpoint)))
    predict.main([str(tmp_path / "seven.png")])
    out, err = capsys.readouterr()
    assert out == ("2\n" if chosen == "yours" else "1\n")
    assert err.count("\n") == (chosen == "yours" or yours == "damaged")
    assert checkpoints.load_checkpoint()[0].classifier[2].bias[0] == int(out)


def test_a_run_changes_no_committed_file():
    """What the files of a run with default paths are called, git ignores, and has none of it."""
    names = [
        utils.CHECKPOINT,
        *(files.sibling_path(utils.CHECKPOINT, what) for what in files.FILES),
        *(
            utils.ASSETS / f"{name}.png"
            for name in (
                "loss_curves",
                "confusion_matrix",
                "mistakes",
                "augmentation",
                "live",
                "explain",
                "comparison",
                "multi_predict",
                "drawing",
            )
        ),
        utils.ROOT / "runs" / "a" / "run.json",
    ]
    for path in names:
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=utils.ROOT).returncode
        if ignored == 128:
            pytest.skip("needs git")
        assert ignored == 0, path
    listed = subprocess.run(["git", "ls-files", *names], cwd=utils.ROOT, capture_output=True)
    assert listed.stdout == b""


def test_every_run_is_kept_and_can_be_compared(quick, tmp_path, capsys):
    assert train.main(arguments(tmp_path, "--seeds", "2")) == 0
    table = capsys.readouterr().out.split("upright and rotated")[1].splitlines()[2:4]
    places = sorted((tmp_path / "runs").iterdir())
    assert len(places) == 2
    for seed, (place, row) in enumerate(zip(places, table)):
        told = json.loads((place / "run.json").read_text())
        assert told["settings"]["seed"] == seed and told["settings"]["batch_size"] == 50
        assert told["machine"]["torch"] == torch.__version__ and told["machine"]["instructions"]
        assert told["results"]["upright"] == pytest.approx(float(row.split()[4]), abs=0.01)
        model, metadata = checkpoints.load_checkpoint(place / "LeNet5.pth")
        assert metadata["seed"] == seed and metadata["epoch"] == told["best_epoch"]
    assert train.main(["--compare", *map(str, places), "--assets-dir", str(tmp_path)]) == 0
    assert all(place.name in capsys.readouterr().out for place in places[:1])
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert train.main(["--compare", str(tmp_path), "--assets-dir", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "is not the folder of a run" in err
