"""No run is lost and no file is trusted."""

import contextlib
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
from PIL import Image

import fuzz
import recipe
import report
import survival
import train
import utils
from model import LeNet5
from utils import LeNetError

FEW = ["--epochs", "3", "--limit", "500", "--batch-size", "50", "--seed", "3"]


def arguments(folder, *more):
    return [*more, "--checkpoint", str(folder / "net.pth"), "--assets-dir", str(folder)]


@pytest.fixture(scope="module")
def quick(load_small):
    """Runs in this process load no files and draw no pictures: other tests look at those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "load_data", load_small)
        patch.setattr(report, "write_figures", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def straight(quick, tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("straight")
    assert train.main(arguments(folder, *FEW)) == 0
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A good one."""
    path = tmp_path_factory.mktemp("checkpoint") / "net.pth"
    utils.save_checkpoint(path, LeNet5().state_dict(), recipe="classic", seed=0, epoch=1, valid_loss=0.5, settings={})
    return path


class Killed(Exception):
    pass


@contextlib.contextmanager
def at_step(number, act):
    """Call act() before the optimizer's step of that number, from 1; FEW has ten an epoch."""
    calls, step = [], recipe.RotatedAdam.step

    def counting_step(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            act()
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe.RotatedAdam, "step", counting_step)
        yield


@pytest.fixture(scope="module")
def cut_off(quick, tmp_path_factory):
    """The same run, cut off in the second epoch."""
    def die():
        raise Killed

    folder = tmp_path_factory.mktemp("cut_off")
    with at_step(15, die), pytest.raises(Killed):
        train.main(arguments(folder, *FEW))
    return folder


@pytest.fixture
def interrupted(cut_off, tmp_path):
    """A copy of it, for one test to go on with."""
    return shutil.copytree(cut_off, tmp_path / "run")


# train.py as a shell runs it, but on the images in argv[1], and dead at its argv[2]-th fsync.
CHILD = """
import mnist, os, runpy, signal, sys, torch

parts, die_at, fsync = torch.load(sys.argv[1]), int(sys.argv[2]), os.fsync
calls = []

def fsync_or_die(file):
    calls.append(1)
    os.kill(os.getpid(), signal.SIGKILL) if len(calls) == die_at else fsync(file)

os.fsync = fsync_or_die
mnist.load_mnist = lambda train, data_dir: ("not", "split") if train else parts[2]
mnist.split_validation = lambda images, labels: parts[:2]
sys.argv[:3] = ["train.py"]
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture
def start(load_small, tmp_path):
    """start(folder, ..., die_at=n) -> a process of train.py on load_small's images. It kills itself at its n-th file,
    before that one is renamed."""
    def start_child(folder, *more, die_at=0):
        torch.save(load_small(None, "cpu", 500), tmp_path / "data.pt")
        return subprocess.Popen([sys.executable, "-c", CHILD, tmp_path / "data.pt", str(die_at), *arguments(folder, *more)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=survival.ROOT)

    return start_child


# Runs

def test_resumed_equals_uninterrupted(straight, interrupted, capsys):
    assert train.main(arguments(interrupted, "--resume")) == 0
    assert survival.same(survival.outcome(straight), survival.outcome(interrupted))
    assert "    2  " in capsys.readouterr().out


def test_resuming_a_finished_run_changes_nothing(straight, tmp_path):
    again = shutil.copytree(straight, tmp_path / "again")
    assert train.main(arguments(again, "--resume")) == 0
    assert survival.same(survival.outcome(straight), survival.outcome(again))


def test_resume_names_what_contradicts(interrupted, capsys):
    with pytest.raises(SystemExit) as exit:
        train.main(arguments(interrupted, "--resume", "--epochs", "9", "--seed", "3"))
    assert exit.value.code == 2
    assert "the interrupted run has epochs 3, not 9" in capsys.readouterr().err


def test_nothing_to_resume(tmp_path, capsys):
    assert train.main(arguments(tmp_path, "--resume")) == 1
    assert "there is no run to resume" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"nonsense", "half"])
def test_a_broken_state_is_refused(interrupted, capsys, content):
    last = interrupted / "last.pth"
    last.write_bytes(last.read_bytes()[:5000] if content == "half" else content)
    assert train.main(arguments(interrupted, "--resume")) == 1
    err = capsys.readouterr().err
    assert str(last) in err and err.count("\n") == 1


def test_a_state_of_another_version_is_refused(interrupted, capsys):
    state = utils.read_file(interrupted / "last.pth")
    state["optimizer"]["param_groups"] = state["optimizer"]["param_groups"][:1]
    utils.save_file(interrupted / "last.pth", state)
    assert train.main(arguments(interrupted, "--resume")) == 1
    assert "does not fit this version" in capsys.readouterr().err


def test_killed_for_real(straight, start, tmp_path):
    """Once, at the worst moment; python tests/survival.py does it twenty times and more, at random ones.

    The files are net.pth (each epoch is the best so far), history.csv and last.pth of each
    epoch. The kill comes while the second last.pth is written: net.pth is already of the second epoch.
    """
    folder = tmp_path / "killed"
    folder.mkdir()
    process = start(folder, *FEW, die_at=6)
    _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, err
    assert utils.load_checkpoint(folder / "net.pth")[1]["epoch"] == 2
    assert len(utils.read_file(folder / "last.pth")["history"]) == 1
    assert train.main(arguments(folder, "--resume")) == 0
    assert survival.same(survival.outcome(straight), survival.outcome(folder))


STOPPED = "train.py: stopped; every finished epoch is in {}: python train.py --resume goes on from there\n"


@pytest.fixture
def heeds_ctrl_c():
    """A shell's background jobs, and so the tests among them, are born deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_is_one_line(heeds_ctrl_c, quick, straight, tmp_path, capsys, number, status):
    with at_step(15, lambda: signal.raise_signal(number)):
        assert train.main(arguments(tmp_path, *FEW)) == status
    assert capsys.readouterr().err == STOPPED.format(tmp_path / "last.pth")
    assert signal.getsignal(number) is not train.raise_interrupt
    assert not list(tmp_path.glob(".*.tmp"))
    assert train.main(arguments(tmp_path, "--resume")) == 0
    assert survival.same(survival.outcome(straight), survival.outcome(tmp_path))


def test_stopping_a_process(start, tmp_path):
    process = start(tmp_path, *FEW, "--epochs", "1000")
    while not (tmp_path / "last.pth").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143 and err == STOPPED.format(tmp_path / "last.pth")
    utils.load_checkpoint(tmp_path / "net.pth")
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_full_disk_leaves_the_old_checkpoint(checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path / "net.pth")
    before = (tmp_path / "net.pth").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(LeNetError) as error:
            utils.save_checkpoint(tmp_path / "net.pth", LeNet5().state_dict(), recipe="x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be written" in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "net.pth").read_bytes() == before and not list(tmp_path.glob(".*.tmp"))


def test_a_file_is_replaced_and_not_overwritten(tmp_path):
    """Who is reading the old one, or is left with it after a kill, has it whole."""
    utils.save_file(tmp_path / "file", "old")
    with open(tmp_path / "file", "rb") as old:
        utils.save_file(tmp_path / "file", "new")
        assert torch.load(old, weights_only=True) == "old" and utils.read_file(tmp_path / "file") == "new"


def test_a_second_run_into_the_same_folder_is_refused(quick, tmp_path, capsys):
    with utils.lock_folder(tmp_path):
        assert train.main(arguments(tmp_path, *FEW)) == 1
    assert "another training is writing" in capsys.readouterr().err
    assert not (tmp_path / "net.pth").exists()


def test_the_replaced_checkpoint_is_kept(quick, checkpoint, tmp_path, capsys):
    shutil.copy(checkpoint, tmp_path / "net.pth")
    before = (tmp_path / "net.pth").read_bytes()
    assert train.main(arguments(tmp_path, "--epochs", "1", "--limit", "100", "--batch-size", "50")) == 0
    assert (tmp_path / "net.previous.pth").read_bytes() == before
    assert capsys.readouterr().out.splitlines()[-1].endswith("the old one is better")


# Checkpoints

class Trap:
    """Unpickling this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def variations(path):
    """Yield (name, content to save, part of the message) of checkpoints that must be refused."""
    good = torch.load(path, weights_only=True)

    def weights(**changes):
        return dict(good, weights=good["weights"] | changes)

    first = "feature_extractor.0.weight"
    bias = good["weights"]["classifier.2.bias"]
    yield "module", LeNet5(), "torch.save"
    yield "list", [1, 2], "does not hold LeNet-5's weights"
    yield "wrong keys", {"layer": torch.zeros(1)}, "does not hold LeNet-5's weights"
    yield "one key more", weights(extra=torch.zeros(1)), "does not hold LeNet-5's weights"
    yield "wrong shape", weights(**{first: torch.zeros(6, 1, 3, 3)}), f"{first} has shape (6, 1, 3, 3)"
    yield "12 classes", LeNet5(12).state_dict(), "classifier.2.weight has shape (12, 84)"
    yield "float64", weights(**{first: good["weights"][first].double()}), "torch.float64"
    yield "half", weights(**{first: good["weights"][first].half()}), "torch.float16"
    yield "nan", weights(**{"classifier.2.bias": bias * float("nan")}), "not finite"
    yield "infinite", weights(**{"classifier.2.bias": bias / 0}), "not finite"
    yield "a string for a tensor", weights(**{first: "zeros"}), "has shape str"
    yield "no mean", {key: value for key, value in good.items() if key != "mean"}, "'mean' is missing"
    yield "epoch of wrong type", dict(good, epoch="last"), "'epoch' is missing or not of type int"
    yield "other std", dict(good, std=0.5), "std 0.5"
    yield "newer", dict(good, format_version=99), "format version 99"
    yield "version of wrong type", dict(good, format_version="1"), "format_version is str"


NAMES = ["module", "list", "wrong keys", "one key more", "wrong shape", "12 classes", "float64", "half", "nan", "infinite",
         "a string for a tensor", "no mean", "epoch of wrong type", "other std", "newer", "version of wrong type"]


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_refused_with_the_reason(checkpoint, tmp_path, name):
    content, message = {n: (c, m) for n, c, m in variations(checkpoint)}[name]
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(LeNetError) as error:
        utils.load_checkpoint(tmp_path / "bad.pth")
    assert message in str(error.value) and str(tmp_path / "bad.pth") in str(error.value) and "\n" not in str(error.value)


def test_a_pickle_is_not_run(tmp_path):
    for save in (lambda content, path: torch.save(content, path), lambda content, path: pickle.dump(content, open(path, "wb"))):
        save({"weights": Trap(str(tmp_path / "run"))}, tmp_path / "trap.pth")
        with pytest.raises(LeNetError, match="trap.pth is not a checkpoint that can be loaded safely"):
            utils.load_checkpoint(tmp_path / "trap.pth")
        assert not (tmp_path / "run").exists()


def test_a_truncated_checkpoint_is_refused_wherever_it_was_cut(checkpoint, tmp_path):
    whole = checkpoint.read_bytes()
    rng = random.Random(0)
    for offset in [0, 1, len(whole) - 1] + [rng.randrange(len(whole)) for _ in range(50)]:
        (tmp_path / "cut.pth").write_bytes(whole[:offset])
        with pytest.raises(LeNetError, match="cut.pth is not a checkpoint"):
            utils.load_checkpoint(tmp_path / "cut.pth")


def test_random_bytes_and_missing_files_are_refused(tmp_path):
    (tmp_path / "random.pth").write_bytes(random.Random(0).randbytes(10_000))
    with pytest.raises(LeNetError, match="is not a checkpoint"):
        utils.load_checkpoint(tmp_path / "random.pth")
    with pytest.raises(LeNetError, match="no such checkpoint"):
        utils.load_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(LeNetError, match="no such checkpoint"):
        utils.load_checkpoint(tmp_path)


def test_a_bare_state_dict_is_accepted(tmp_path):
    model = LeNet5()
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    loaded, metadata = utils.load_checkpoint(tmp_path / "bare.pth")
    assert metadata == {} and all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters()))


# Pictures

def test_mutated_pictures_end_in_a_digit_or_one_line(capfd):
    """A few hundred; python tests/fuzz.py does 10,000 and more."""
    model, _ = utils.load_checkpoint()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count = fuzz.run(model, 300, seed=1)
    assert count["read"] + count["refused"] == 300 and count["refused"] > 50 and count["slowest"] < 5
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory was used")
def test_a_hundred_megapixels_fit_into_a_gigabyte(tmp_path):
    page = Image.new("L", (10_000, 10_000), 220)
    page.paste(20, (4000, 2000, 5000, 8000))
    page.save(tmp_path / "huge.png", compress_level=1)
    code = ("import predict, sys; status = predict.main([sys.argv[1]]);"
            "print(status, open('/proc/self/status').read().split('VmHWM:')[1].split()[0])")
    process = subprocess.run([sys.executable, "-c", code, tmp_path / "huge.png"], capture_output=True, text=True,
                             cwd=survival.ROOT)
    *_, status, kilobytes = process.stdout.split()
    assert status == "0" and int(kilobytes) < 1_000_000 and process.stderr == ""
