"""On everybody's machine: consoles, pipes, disks, locks, other versions, notebooks."""

import errno
import os
import pickletools
import re
import shutil
import subprocess
import sys
import threading
import warnings
import zipfile

import pytest
import torch
from PIL import Image

from reading import image as picture
import predict
from training import checkpoints, files
from training import report
import train
import utils
from model import LeNet5
from utils import LeNetError

POSIX = pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
FEW = ["--epochs", "1", "--limit", "100", "--batch-size", "50"]


@pytest.fixture
def folder(tmp_path, seven):
    """Two hundred and one pictures of a 7 of 28x28."""
    for i in range(201):
        seven.resize((28, 28)).save(tmp_path / f"{i:03}.png")
    return tmp_path


def shell(command, **options):
    """Run command in bash, where $P is this Python; return (status of the first in a pipe, stdout,
    stderr)."""
    process = subprocess.run(
        ["bash", "-c", f"{command}\nexit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        cwd=utils.ROOT,
        env={**os.environ, "P": sys.executable, **options},
        timeout=120,
    )
    return process.returncode, process.stdout, process.stderr


# Consoles and pipes

@pytest.mark.slow
@POSIX
def test_a_reader_that_has_gone_is_no_error(folder):
    status, out, err = shell(f'"$P" predict.py {folder} {folder} {folder} | head -1')
    assert (status, out.count("\n"), err) == (141, 1, "")


@pytest.mark.slow
@POSIX
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is always full")
@pytest.mark.parametrize(
    "script, arguments", [("predict.py", "--json"), ("train.py", "--evaluate")]
)
def test_output_that_cannot_be_written_is_one_line(folder, script, arguments, network):
    what = f"--assets-dir {folder}" if script == "train.py" else folder / "000.png"
    status, _, err = shell(f'"$P" {script} {what} {arguments} --checkpoint {network} > /dev/full')
    assert (status, err) == (
        1,
        f"{script}: the output could not be written: {os.strerror(errno.ENOSPC)}\n",
    )


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize(
    "closing, status, message",
    [("<&-", 1, "predict.py: -: standard input is closed\n"), ("2>&-", 1, "")],
)
def test_closed_streams(closing, status, message):
    assert shell(
        f'"$P" predict.py - {closing} < /dev/null'
        if "2" in closing
        else f'"$P" predict.py - {closing}'
    ) == (status, "", message)


@pytest.mark.slow
@POSIX
def test_a_training_whose_reader_has_gone_can_go_on(tmp_path):
    few = "--epochs 3 --limit 100 --batch-size 50 --recipe classic"
    status, _, err = shell(
        f'"$P" train.py {few} --checkpoint {tmp_path}/net.pth --assets-dir {tmp_path} | true'
    )
    assert status == 141 and re.fullmatch(r"train.py: stopped.*\n", err)


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize(
    "script, arguments", [("predict.py", "字.png"), ("train.py", "--evaluate --checkpoint 字.pth")]
)
def test_a_console_that_cannot_print_a_name(script, arguments):
    status, out, err = shell(f'"$P" {script} {arguments}', PYTHONIOENCODING="cp1252")
    assert status == 1 and out == "" and r"\u5b57" in err and err.count("\n") == 1


def test_a_path_on_another_drive_is_told_as_it_is(monkeypatch):
    def across(path):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    assert utils.short_path(os.path.join(os.curdir, "x")) == "x"
    monkeypatch.setattr(os.path, "relpath", across)
    assert utils.short_path(utils.CHECKPOINT) == str(utils.CHECKPOINT)


def test_the_program_s_own_streams_are_left_alone(capsys):
    before = sys.stdout.errors
    with pytest.raises(SystemExit):
        predict.main([])
    assert sys.stdout.errors == before


@POSIX
@pytest.mark.parametrize("script", ["predict.py", "train.py"])
# as a shell's background jobs are
@pytest.mark.slow
@pytest.mark.parametrize("deaf, status", [("", 130), ("trap '' INT;", 1)])
def test_ctrl_c_during_the_imports_is_no_traceback(tmp_path, script, deaf, status):
    (tmp_path / "torch.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(1)"
    )
    code = (
        "import os, signal, sys; "
        + ("" if deaf else "signal.signal(signal.SIGINT, signal.default_int_handler); ")
        + "os.execv(sys.executable, [sys.executable, sys.argv[1]])"
    )
    got, out, err = shell(f"""{deaf} "$P" -c '{code}' {script}""", PYTHONPATH=str(tmp_path))
    assert (got, out, err) == (status, "", "")


# Disks and locks

def refuse(number):
    def call(*args):
        raise OSError(number, os.strerror(number))

    return call


@POSIX
@pytest.mark.parametrize(
    "number, held",
    [
        (errno.EWOULDBLOCK, True),
        (errno.EACCES, True),
        (errno.ENOSYS, False),
        (errno.EOPNOTSUPP, False),
        (errno.ENOLCK, False),
    ],
)
def test_a_disk_without_locks_is_not_another_training(tmp_path, monkeypatch, number, held):
    monkeypatch.setattr("fcntl.flock", refuse(number))
    # filelock's, of a file in place of a lock
    monkeypatch.setattr("warnings.warn", lambda *args, **kwargs: None)
    if held:
        with (
            pytest.raises(LeNetError, match="another training is writing"),
            files.lock_folder(tmp_path),
        ):
            pass
    else:
        with files.lock_folder(tmp_path):
            pass


@POSIX
@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open everything"
)
def test_the_lock_of_another_user_is_respected_or_one_line(tmp_path):
    lock = tmp_path / ".lock"
    lock.touch()
    lock.chmod(0o444)
    with (
        files.lock_folder(tmp_path),
        pytest.raises(LeNetError, match="another training"),
        files.lock_folder(tmp_path),
    ):
        pass
    lock.chmod(0)
    with (
        pytest.raises(LeNetError, match="can't be opened .Permission denied.: if no other"),
        files.lock_folder(tmp_path),
    ):
        pass


def test_a_lock_that_cannot_be_opened_is_one_line(tmp_path, capsys):
    """As the one before, whoever runs the tests."""
    (tmp_path / ".lock").mkdir()
    assert (
        train.main([*FEW, "--checkpoint", str(tmp_path / "net.pth"), "--assets-dir", str(tmp_path)])
        == 1
    )
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and ".lock can't be opened" in err and "delete it" in err


def test_a_disk_that_became_read_only_says_so_itself(tmp_path, monkeypatch):
    """It refuses to unlink the temporary file, too."""
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    monkeypatch.setattr("pathlib.Path.unlink", refuse(errno.EROFS))
    with pytest.raises(LeNetError, match=os.strerror(errno.EIO)):
        checkpoints.save_file(tmp_path / "file", "content")


def test_an_install_that_cannot_be_written_can_be_evaluated(
    small_data, tmp_path, monkeypatch, capsys, network
):
    monkeypatch.setattr(utils, "ASSETS", tmp_path / "Assets")
    monkeypatch.setattr(
        utils,
        "write_atomically",
        lambda path, content: (_ for _ in ()).throw(LeNetError(f"{path} is read-only")),
    )
    monkeypatch.setattr(
        utils, "check_folder", lambda *_: (_ for _ in ()).throw(ValueError("read-only"))
    )
    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse(errno.EROFS))
    assert train.main(["--evaluate", "--checkpoint", str(network)]) == 0
    out, err = capsys.readouterr()
    assert (
        "test accuracy" in out
        and all("is read-only; the work goes on" in line for line in err.splitlines())
        and err
    )


def test_a_run_asks_for_no_temporary_folder(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse(errno.EROFS))
    where = ["--checkpoint", str(tmp_path / "net.pth"), "--assets-dir", str(tmp_path)]
    assert train.main([*FEW, *where]) == 0


@pytest.mark.slow
def test_without_a_temporary_folder_it_is_not_the_output_that_is_blamed(run):
    """torch's optimizers ask for one."""
    process = run(
        "-c",
        "import tempfile, train, utils; tempfile._candidate_tempdir_list = lambda: []\n"
        "tempfile.tempdir = None  # some versions of torch have asked already\n"
        "utils.run_script(lambda: tempfile.gettempdir(), 'train.py')",
    )
    assert process.stderr.count("\n") == 1 and process.stderr.startswith(
        "train.py: (TMPDIR may name one) No usable temporary"
    )


# Other versions, other programs

ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch LongStorage",
    "torch ByteStorage",
}


def test_files_hold_nothing_that_another_version_might_not_know(
    small_data, monkeypatch, tmp_path, capsys
):
    """Weights and states alike: plain types and tensors, no numpy numbers, no classes of torch."""
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    assert (
        train.main([*FEW, "--checkpoint", str(tmp_path / "net.pth"), "--assets-dir", str(tmp_path)])
        == 0
    )
    for name in ("net.pth", "net.last.pth"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            (pickle,) = (member for member in archive.namelist() if member.endswith("data.pkl"))
            operations = list(pickletools.genops(archive.read(pickle)))
        assert {
            argument for operation, argument, _ in operations if operation.name == "GLOBAL"
        } <= ALLOWED
        assert not any(operation.name == "STACK_GLOBAL" for operation, *_ in operations)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": weights},
        lambda weights: {"model_state_dict": weights, "epoch": 3},
        lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {f"_orig_mod.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {
            "model": {f"_orig_mod.module.{name}": tensor for name, tensor in weights.items()}
        },
        lambda weights: {
            "state_dict": {f"model.{name}": tensor for name, tensor in weights.items()},
            "hyper_parameters": {},
        },
        lambda weights: {"net": {f"any.thing.{name}": tensor for name, tensor in weights.items()}},
        lambda weights: {
            "state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in weights.items()}
        },
    ],
)
def test_weights_are_found_in_what_other_programs_wrap_around_them(tmp_path, wrap):
    weights = LeNet5().state_dict()
    torch.save(wrap(weights), tmp_path / "wrapped.pth")
    loaded, metadata = checkpoints.load_checkpoint(tmp_path / "wrapped.pth")
    assert metadata == {} and all(
        torch.equal(weights[name], tensor) for name, tensor in loaded.state_dict().items()
    )


@POSIX
def test_a_file_that_cannot_be_read_is_not_called_something_else(checkpoint, tmp_path, monkeypatch):
    """Not even if its name is LeNet5.pth."""
    path = tmp_path / "LeNet5.pth"
    shutil.copy(checkpoint, path)
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse(errno.EACCES))
    with pytest.raises(LeNetError, match="LeNet5.pth can't be read: Permission denied") as error:
        checkpoints.load_checkpoint(path)
    assert "module" not in str(error.value)


def test_a_damaged_file_is_not_called_a_module_for_its_name(tmp_path):
    (tmp_path / "LeNet5.pth").write_bytes(b"nonsense")
    with pytest.raises(LeNetError, match="is damaged, or train.py did not make it"):
        checkpoints.load_checkpoint(tmp_path / "LeNet5.pth")


# What was asked for, and what was not

def test_few_images_need_no_batch_size_that_fits_them(tmp_path):
    arguments = [
        "--limit",
        "100",
        "--checkpoint",
        str(tmp_path / "net.pth"),
        "--assets-dir",
        str(tmp_path),
    ]
    settings, _ = train.check(train.get_parser().parse_args(arguments))
    assert settings["batch_size"] == 100
    with pytest.raises(ValueError, match="--batch-size: 101 is more than the 100"):
        train.check(train.get_parser().parse_args([*arguments, "--batch-size", "101"]))


def test_a_rate_that_is_too_high_is_quoted_as_it_was_given(small_data, tmp_path, capsys):
    assert (
        train.main(
            [
                "--lr",
                "1e30",
                *FEW,
                "--checkpoint",
                str(tmp_path / "net.pth"),
                "--assets-dir",
                str(tmp_path),
            ]
        )
        == 1
    )
    assert "the learning rate of 1e+30 is too high" in capsys.readouterr().err


# Notebooks and programs

def test_a_training_in_a_thread_touches_no_signals(small_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    status = []
    thread = threading.Thread(
        target=lambda: status.append(
            train.main(
                [*FEW, "--checkpoint", str(tmp_path / "net.pth"), "--assets-dir", str(tmp_path)]
            )
        )
    )
    thread.start()
    thread.join()
    assert status == [0]


@pytest.mark.parametrize(
    "content", ["good", "a TorchScript archive's name: torch.nn.modules", "pickle"]
)
def test_loading_neither_warns_nor_changes_the_filters(checkpoint, tmp_path, content):
    path = checkpoint if content == "good" else tmp_path / "bad.pth"
    if path != checkpoint:
        path.write_bytes(b"\x80\x04\x95" if content == "pickle" else content.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        try:
            checkpoints.load_checkpoint(path)
        except LeNetError:
            assert path != checkpoint
        assert warnings.filters == filters
    # it changes those of other threads
    assert "catch_warnings" not in (utils.ROOT / "utils.py").read_text()


def test_threads_that_read_pictures_leave_the_filters_alone(model, seven, tmp_path, monkeypatch):
    """Not only afterwards: also while a picture is opened, when another thread may look at them."""
    seven.save(tmp_path / "seven.png")
    filters, before, seen, identify = warnings.filters, list(warnings.filters), [], picture.identify
    monkeypatch.setattr(
        picture,
        "identify",
        lambda file: (
            seen.append((warnings.filters is filters, list(warnings.filters))) or identify(file)
        ),
    )
    threads = [
        threading.Thread(target=predict.predict_images, args=([tmp_path / "seven.png"] * 5, model))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(True, before)] * 20 and warnings.filters is filters


@pytest.mark.slow
def test_the_script_shows_no_warning_of_a_picture_that_is_read(run, tmp_path, network):
    """Pillow warns of one that it thinks large."""
    page = Image.new("1", (9500, 9500), 1)
    page.paste(0, (4000, 2000, 5000, 8000))
    page.save(tmp_path / "large.png")
    # a program is shown it, if its filters are so
    with pytest.warns(Image.DecompressionBombWarning):
        picture.open_picture(tmp_path / "large.png")
    process = run("predict.py", tmp_path / "large.png", "--checkpoint", network)
    assert (process.returncode, process.stderr) == (0, "") and ": 1 (" in process.stdout


@pytest.mark.slow
def test_a_script_that_a_notebook_starts_draws_as_from_a_shell(run, tmp_path, monkeypatch, network):
    """!python predict.py: Jupyter's MPLBACKEND is inherited, though its module need not be
    installed here."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    process = run(
        "predict.py",
        "Assets/readme/photo.jpg",
        "--save",
        tmp_path / "seen.png",
        "--checkpoint",
        network,
    )
    assert process.returncode == 0 and process.stderr == "" and (tmp_path / "seen.png").exists()


@pytest.mark.parametrize(
    "backend", ["module://matplotlib_inline.backend_inline", "inline", "agg", "svg"]
)
def test_live_in_a_notebook_says_where_the_curves_are(tmp_path, monkeypatch, capsys, backend):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "get_backend", lambda: backend)
    row = dict(epoch=1, train_loss=1.0, valid_loss=1.0, valid_accuracy=50.0)
    report.make_watch(
        dict(recipe="modern", seed=0, epochs=1, ingredients=[]), tmp_path / "live.png"
    )([row])
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1
        and "no window" in err
        and "live.png" in err
        and (tmp_path / "live.png").exists()
    )
    assert not plt.get_fignums()


def test_the_oldest_versions_are_the_least_that_are_asked_for():
    asked, oldest = (
        (utils.ROOT / path).read_text().splitlines()
        for path in ("requirements.txt", "tests/oldest.txt")
    )
    least = dict(line.split(">=") for line in asked if line[:1] != "#")
    assert least == dict(line.split("==") for line in oldest if line[:1] != "#")


@pytest.mark.parametrize("script", ["train.py", "predict.py"])
def test_a_python_without_torch_is_one_line_that_names_the_environment(script):
    """As /usr/bin/python3 is, which a hurried user types."""
    process = subprocess.run(
        [sys.executable, "-S", "-I", utils.ROOT / script], capture_output=True, text=True
    )
    assert process.returncode == 1 and process.stdout == "" and process.stderr.count("\n") == 1
    assert "has no torch" in process.stderr and f".venv/bin/python {script}" in process.stderr


@pytest.mark.parametrize("script", ["train", "predict"])
def test_help_fits_a_terminal(script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = {"train": train, "predict": predict}[script].get_parser().format_help().splitlines()
    assert max(map(len, lines)) <= 80
