"""No run is lost, and no picture is trusted."""

import contextlib
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
