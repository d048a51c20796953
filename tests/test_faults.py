"""No run is lost, and no picture is trusted."""

import contextlib
import errno
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

import fuzz
from training.soap import SOAP
from training import checkpoints, files
from training import report, runs
import survival
import train
import utils


FEW = ["--epochs", "3", "--limit", "500", "--batch-size", "50", "--seed", "3"]


def arguments(folder, *more):
    folder.mkdir(exist_ok=True)
    return [*more, "--checkpoint", str(folder / "net.pth"), "--assets-dir", str(folder)]


@pytest.fixture(scope="module")
def quick(load_small):
    """Runs in this process load no files and draw no pictures: other tests look at those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "load_data", load_small)
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
    calls, step = [], SOAP.step

    def counting_step(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            act()
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SOAP, "step", counting_step)
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
import os, runpy, signal, sys, torch
from training import data

parts, die_at, fsync = torch.load(sys.argv[1], weights_only=True), int(sys.argv[2]), os.fsync
calls = []

def fsync_or_die(file):
    calls.append(1)
    os.kill(os.getpid(), signal.SIGKILL) if len(calls) == die_at else fsync(file)

os.fsync = fsync_or_die
data.load_mnist = lambda train, data_dir: ("not", "split") if train else parts[2]
data.split_validation = lambda images, labels: parts[:2]
sys.argv[:3] = ["train.py"]
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture
def start(load_small, tmp_path):
    """start(folder, ..., die_at=n) -> a process of train.py on load_small's images. It kills itself
    at its n-th file,
    before that one is renamed."""
    def start_child(folder, *more, die_at=0):
        torch.save(load_small(None, "cpu", 500), tmp_path / "data.pt")
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                CHILD,
                tmp_path / "data.pt",
                str(die_at),
                *arguments(folder, *more),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=survival.ROOT,
        )

    return start_child


# Runs

def test_resumed_equals_uninterrupted(straight, interrupted, capsys):
    assert train.main(arguments(interrupted, "--resume")) == 0
    assert survival.same(survival.outcome(straight), survival.outcome(interrupted))
    assert "    2  " in capsys.readouterr().out


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(straight, tmp_path, capsys):
    again = shutil.copytree(straight, tmp_path / "again")
    assert train.main(arguments(again, "--resume")) == 0
    assert "that run is complete" in capsys.readouterr().out
    assert survival.same(survival.outcome(straight), survival.outcome(again))


def test_resume_names_what_contradicts(interrupted, capsys):
    with pytest.raises(SystemExit) as exit:
        train.main(arguments(interrupted, "--resume", "--epochs", "9", "--seed", "3"))
    assert exit.value.code == 2
    assert (
        "can't be extended, since its learning rate is scheduled for --epochs 3"
        in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        train.main(arguments(interrupted, "--resume", "--seed", "4"))
    assert "the interrupted run has seed 3, not 4" in capsys.readouterr().err


def test_a_run_at_a_constant_rate_can_be_extended(quick, tmp_path, capsys):
    """It ends in the weights of a run that was as long from the start."""
    few = ["--recipe", "classic", "--limit", "200", "--batch-size", "50"]
    assert train.main(arguments(tmp_path / "long", *few, "--epochs", "3")) == 0
    assert train.main(arguments(tmp_path / "short", *few, "--epochs", "2")) == 0
    assert train.main(arguments(tmp_path / "short", "--resume", "--epochs", "3")) == 0
    assert survival.same(survival.outcome(tmp_path / "long"), survival.outcome(tmp_path / "short"))
    long, short = (json.loads(next((tmp_path / name).glob("runs/*/run.json")).read_text())
                   for name in ("long", "short"))
    assert long["settings"].keys() == short["settings"].keys()


def test_nothing_to_resume(tmp_path, capsys):
    assert train.main(arguments(tmp_path, "--resume")) == 1
    assert "there is no run to resume" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"nonsense", "half"])
def test_a_broken_state_is_refused(interrupted, capsys, content):
    last = interrupted / "net.last.pth"
    last.write_bytes(last.read_bytes()[:5000] if content == "half" else content)
    assert train.main(arguments(interrupted, "--resume")) == 1
    err = capsys.readouterr().err
    assert str(last) in err and err.count("\n") == 1


def test_a_state_of_another_version_is_refused(interrupted, capsys):
    state = checkpoints.read_file(interrupted / "net.last.pth")
    state["optimizer"]["param_groups"] = state["optimizer"]["param_groups"][:1]
    checkpoints.save_file(interrupted / "net.last.pth", state)
    assert train.main(arguments(interrupted, "--resume")) == 1
    assert "does not fit this version" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["threads", "seed", "ingredients", "batch_size"])
def test_a_state_without_a_setting_is_refused(interrupted, capsys, key):
    state = checkpoints.read_file(interrupted / "net.last.pth")
    del state["settings"][key]
    checkpoints.save_file(interrupted / "net.last.pth", state)
    assert train.main(arguments(interrupted, "--resume")) == 1
    err = capsys.readouterr().err
    assert "is not the state of a run" in err and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("die_at, epochs", [(3, 1), (8, 3)])
def test_killed_for_real(straight, start, checkpoint, tmp_path, die_at, epochs):
    """At the worst moments; python tests/survival.py does it twenty times and more, at random ones.

    The files are last.pth and last.csv of each of three epochs, previous.pth, net.pth and
    history.csv. The kill comes while the second last.pth is written, or net.pth itself.
    """
    folder = tmp_path / "killed"
    folder.mkdir()
    shutil.copy(checkpoint, folder / "net.pth")
    process = start(folder, *FEW, die_at=die_at)
    _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, err
    assert (folder / "net.pth").read_bytes() == checkpoint.read_bytes()
    assert len(checkpoints.read_file(folder / "net.last.pth")["history"]) == epochs
    assert train.main(arguments(folder, "--resume")) == 0
    assert survival.same(survival.outcome(straight), survival.outcome(folder))
    assert (folder / "net.previous.pth").read_bytes() == checkpoint.read_bytes()


STOPPED = "train.py: stopped; every finished epoch is in {}: {} continues from there\n"


def check_stopped(err, folder, name="net.last.pth"):
    """Check what a stopped run says; return the command that it names."""
    command = err.removeprefix(STOPPED.split("{}: ")[0].format("") + f"{folder / name}: ")
    command = command.removesuffix(" continues from there\n")
    assert err == STOPPED.format(folder / name, command)
    return command


@pytest.fixture
def heeds_ctrl_c():
    """A shell's background jobs, and so the tests among them, are born deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_is_one_line(heeds_ctrl_c, quick, straight, tmp_path, capsys, number, status):
    folder = tmp_path / "with a space"
    with at_step(15, lambda: signal.raise_signal(number)):
        assert train.main(arguments(folder, *FEW)) == status
    command = check_stopped(capsys.readouterr().err, folder)
    assert signal.getsignal(number) is not train.raise_interrupt
    assert not list(folder.glob(".*.tmp")) and not (folder / "net.pth").exists()
    script, *rest = shlex.split(command)[1:]
    assert os.path.samefile(script, utils.ROOT / "train.py") and train.main(rest) == 0
    assert survival.same(survival.outcome(straight), survival.outcome(folder))


@pytest.mark.slow
def test_what_a_stopped_process_advises_works_when_typed(start, tmp_path):
    process = start(tmp_path, *FEW, "--data-dir", str(utils.DATA.parent / "data"))
    while not (tmp_path / "net.last.csv").exists():  # written once the state is safe and told of
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert not list(tmp_path.glob(".*.tmp"))
    command = check_stopped(err, tmp_path)
    again = subprocess.Popen(
        f"exec {command}",
        shell=True,
        cwd=survival.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # its end, on all of MNIST, is slow, and seen by test_stopping_is_one_line
    for line in again.stdout:
        if line[:5].strip().isdigit():
            assert int(line[:5]) > 1  # it goes on
            again.terminate()
            break
    _, err = again.communicate(timeout=120)
    # 0 if it had come to its last epoch before it was stopped
    assert again.returncode in (0, 143), err


@pytest.mark.parametrize(
    "name", ["-net", "--resume", "o'ne $two", '"', "%a%", "a\\b", "=", "été", "*"]
)
def test_advice_names_what_was_named(name):
    names = dict(checkpoint=Path(f"{name}.pth"), assets_dir=Path(name), data_dir=Path("a b") / name)
    args = train.get_parser().parse_args(
        [f"--{key.replace('_', '-')}={value}" for key, value in names.items()]
    )
    command = check_stopped(f"train.py: {runs.how_to_resume(args)}\n", Path(), f"{name}.last.pth")
    if os.name != "nt":  # there is no shlex for its shell
        typed = train.get_parser().parse_args(shlex.split(command)[2:])
        assert typed.resume and {key: getattr(typed, key) for key in names} == names


@pytest.mark.skipif(shutil.which("bash") is None, reason="it has the shell type what is advised")
@pytest.mark.parametrize("name", ["a\nb", "\x85é'\\\x1b[2J", "\u20280"])
def test_advice_is_one_line_of_printable_letters_which_names_what_was_named(name, capsys):
    args = train.get_parser().parse_args(
        [f"--checkpoint={name}.pth", f"--assets-dir={name}", f"--data-dir=a b/{name}"]
    )
    train.fail(runs.how_to_resume(args))
    line = capsys.readouterr().err.removesuffix("\n")
    assert line.isprintable()
    command = line.partition(".last.pth: ")[2].removesuffix(" continues from there")
    words = (
        subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True)
        .stdout.decode()
        .split("\0")[2:-1]
    )
    typed = train.get_parser().parse_args(words)
    assert (typed.checkpoint, typed.assets_dir, typed.data_dir) == (
        args.checkpoint,
        args.assets_dir,
        args.data_dir,
    )


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("more, step, message", [
    ([], 5, "stopped before an epoch was done: start it again; --resume knows nothing of it"),
    (["--seeds", "2"], 50, "stopped; the files are those of seed 3, which was completed"),
    (["--dry-run"], 1, "stopped"),
])
@pytest.mark.slow
def test_nothing_is_promised_where_nothing_can_go_on(quick, tmp_path, capsys, more, step, message):
    with at_step(step, interrupt):
        assert train.main(arguments(tmp_path, *FEW, *more)) == 130
    assert capsys.readouterr().err == f"train.py: {message}\n"
    assert (tmp_path / "net.pth").exists() == ("--seeds" in more)


def test_an_evaluation_that_is_stopped_promises_nothing(checkpoint, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runs, "load_set", lambda *_: interrupt())
    shutil.copy(checkpoint, tmp_path / "net.last.pth")
    assert train.main(["--evaluate", *arguments(checkpoint.parent)]) == 130
    assert capsys.readouterr().err == "train.py: stopped\n"


def test_an_evaluation_whose_reader_has_gone_says_nothing(checkpoint, monkeypatch, quick, capsys):
    """python train.py --evaluate | head: the script ends as head wants it (utils.run_script)."""
    def gone(*args):
        raise BrokenPipeError

    monkeypatch.setattr(report, "print_scores", gone)
    with pytest.raises(BrokenPipeError):
        train.main(["--evaluate", *arguments(checkpoint.parent)])
    assert capsys.readouterr() == ("", "")


def test_an_older_run_can_be_resumed_until_a_new_one_has_an_epoch(
    quick, straight, interrupted, capsys
):
    with at_step(5, interrupt):
        assert train.main(arguments(interrupted, *FEW)) == 130
    assert "--resume knows nothing of it" in capsys.readouterr().err
    assert train.main(arguments(interrupted, "--resume")) == 0
    assert survival.same(survival.outcome(straight), survival.outcome(interrupted))


def test_a_second_run_into_the_same_folder_is_refused(quick, tmp_path, capsys):
    with files.lock_folder(tmp_path):
        assert train.main(arguments(tmp_path, *FEW)) == 1
    assert "another training is writing" in capsys.readouterr().err
    assert not (tmp_path / "net.pth").exists()


def test_the_replaced_checkpoint_is_kept(quick, checkpoint, tmp_path, capsys):
    shutil.copy(checkpoint, tmp_path / "net.pth")
    before = (tmp_path / "net.pth").read_bytes()
    assert (
        train.main(arguments(tmp_path, "--epochs", "1", "--limit", "100", "--batch-size", "50"))
        == 0
    )
    assert (tmp_path / "net.previous.pth").read_bytes() == before
    assert capsys.readouterr().out.splitlines()[-1].endswith("the old one is better")
    metadata = checkpoints.load_checkpoint(tmp_path / "net.pth")[1]
    assert (
        train.main(
            arguments(
                tmp_path, "--epochs", "1", "--limit", "100", "--batch-size", "50", "--seed", "1"
            )
        )
        == 0
    )
    # the better of the two that were replaced
    assert (tmp_path / "net.previous.pth").read_bytes() == before
    last = capsys.readouterr().out.splitlines()[-1]
    assert "not kept, for a better one is" in last and f"{metadata['valid_loss']:.4f} then" in last


# The disk

class Disk:
    """Lets the n-th call of one way to the disk fail: a file's write, an fsync, a rename."""

    def __init__(self, patch, way, number, at):
        self.calls, self.number, self.at = 0, number, at
        if way == "write":
            patch.setattr("builtins.open", self.opening(open))
        else:
            patch.setattr(os, way, self.failing(getattr(os, way)))

    def failing(self, function):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.at:
                raise OSError(self.number, os.strerror(self.number))
            return function(*args, **kwargs)

        return call

    def opening(self, function):
        def call(path, mode="r", *args, **kwargs):
            file = function(path, mode, *args, **kwargs)
            is_ours = "w" in mode and str(path).endswith(".tmp")
            return Writer(file, self.failing(file.write)) if is_ours else file

        return call


class Writer:
    """A file with another write()."""

    def __init__(self, file, write):
        self.file, self.write = file, write

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.slow
@pytest.mark.parametrize("way, number", [
    ("write", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EINTR)])
def test_a_fault_on_the_way_to_the_disk_loses_nothing(quick, checkpoint, tmp_path, capsys, way,
                                                      number):
    """Each write, fsync and rename of a short run fails once: then there is one line, the network
    that was there before is there, whole, and so is every file; a new try succeeds."""
    few = ["--epochs", "2", "--limit", "100", "--batch-size", "50", "--without", "negatives"]
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        shutil.copy(checkpoint, folder / "net.pth")
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, way, number, at)
            status = train.main(arguments(folder, *few))
        err = capsys.readouterr().err
        whole = [path for path in folder.rglob("*.pth") if checkpoints.read_file(path)]
        assert checkpoint.read_bytes() in [path.read_bytes() for path in whole]
        assert not list(folder.rglob("*.tmp"))
        if disk.calls < at:
            assert status == 0 and err == "" and at > 5
            break
        assert err.count("\n") == 1 and "could not be written" in err, err
        assert status == 1 or "the work goes on" in err  # of a table, say
        assert train.main(arguments(folder, *few)) == 0
        capsys.readouterr()


# Pictures

def test_mutated_pictures_end_in_a_digit_or_one_line(capfd):
    """Fifty; python tests/fuzz.py does 10,000 and more."""
    model, _ = checkpoints.load_checkpoint()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count = fuzz.run(model, 50, seed=1)
    assert count["read"] + count["refused"] == 50 and count["refused"] > 5
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory was used")
def test_a_hundred_megapixels_fit_into_a_gigabyte(tmp_path):
    page = Image.new("L", (10_000, 10_000), 220)
    page.paste(20, (4000, 2000, 5000, 8000))
    page.save(tmp_path / "huge.png", compress_level=1)
    code = (
        "import predict, sys, utils; status = utils.run_script(lambda: "
        "predict.main([sys.argv[1]]), 'predict.py');"
        "print(status, open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "huge.png"],
        capture_output=True,
        text=True,
        cwd=survival.ROOT,
    )
    *_, status, kilobytes = process.stdout.split()
    assert status == "0" and int(kilobytes) < 1_000_000 and process.stderr == ""


SHORT_OF_MEMORY = """
import os, resource, sys, warnings
import predict

warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: torch's threads, and fork()
small, large = sys.argv[1:]
predict.main([small])  # what libraries take once, or exit without
pages = int(open("/proc/self/statm").read().split()[0])
for megabytes in [*range(0, 45, 4), 4000]:
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 2**20, -1))
        status = predict.main([large])
        print("status", status, flush=True)
        os._exit(status)
    os.wait()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_is_read_or_refused_in_one_line_however_little_memory_is_left(
    seven, tmp_path, run, monkeypatch, suffix
):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # each thread's would have some in reserve
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a fork of one with OpenMP's threads may wait forever
    small, large = tmp_path / "small.png", tmp_path / f"large.{suffix}"
    seven.save(small)
    seven.resize((4000, 3000)).save(large)
    process = run("-c", SHORT_OF_MEMORY, small, large)
    lines = process.stdout.splitlines()
    assert process.returncode == 0 and lines.count("status 0") + lines.count("status 1") == 13
    assert lines.count("status 1") == len(process.stderr.splitlines()) > 0
    assert all("not enough memory" in line for line in process.stderr.splitlines())
    assert lines[-1] == "status 0" and ": 7 (" in lines[-2]
