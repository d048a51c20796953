"""What training and prediction share: command line, files, devices, images and scores."""

import argparse
import contextlib
import csv
import ctypes
import difflib
import errno
import io
import math
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch.nn import functional as F

from figures.plots import plot_losses  # noqa: F401 (the lecture has it here)

ROOT = Path(__file__).resolve().parent
CHECKPOINT = ROOT / "Model" / "LeNet5.pth"       # of your last completed run
SHIPPED = ROOT / "Model" / "LeNet5.shipped.pth"  # of the default recipe, as it comes
ASSETS = ROOT / "Assets"
DATA = ROOT / "data"

# Mean and standard deviation of the 60,000 training images' pixels at 28x28, black 0, white 1:
#   x = torchvision.datasets.MNIST("data").data / 255; print(x.mean(), x.std())
MEAN = 0.1307
STD = 0.3081

# line breaks, what moves a cursor, and what is no character: bytes of a name that is not UTF-8
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text):
    """Return text, a path or an error, with the control characters escaped that it may hold."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], str(text))


class LeNetError(RuntimeError):
    """An error that the user can fix. The message is one line: what is wrong and what to do."""

    def __str__(self):
        return one_line(super().__str__())


# --------------------------------------------------------------------------------------------------
# Command line

class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that complains in one line on stderr (exit status 2), without the usage."""

    def __init__(self, *args, **kwargs):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(*args, allow_abbrev=False, formatter_class=formatter, **kwargs)

    def error(self, message):
        unknown = message.removeprefix("unrecognized arguments: ").split("=")[0].split()[:1]
        if unknown and message.startswith("unrecognized"):
            for close in difflib.get_close_matches(unknown[0], self._option_string_actions, 1):
                message += f"; did you mean {close}?"
        self.exit(2, f"{self.prog}: {one_line(message)} (see --help)\n")


def number(kind, low, high=math.inf):
    """Return an argparse type: a finite number of that kind, int or float, in low .. high."""
    def parse(text):
        value = kind(text)
        if not low <= value <= high or value == math.inf:  # nan is in no range
            limits = f"at least {low}" if high == math.inf else f"in {low} .. {high}"
            raise argparse.ArgumentTypeError(f"must be {limits}, got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse says "invalid int value"
    return parse


def run_script(main, name):
    """Run main() as the script called name; return its exit status.

    What a console can't print is escaped. Output that nobody can take is no traceback: its reader
    has gone (python predict.py ... | head), which is no error worth a word, or the disk is full.
    Pillow's warnings are not shown: what is wrong with a picture is said once, by us.
    """
    warnings.filterwarnings("ignore", module=r"PIL\b")
    warnings.filterwarnings("ignore", "Glyph .* missing")  # of a picture's name: a box is drawn
    if "inline" in os.environ.get("MPLBACKEND", ""):  # of a notebook that says !python train.py
        del os.environ["MPLBACKEND"]
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # as scripts have it during imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # closed: print(file=None) goes to stdout
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is not None:  # of a file: not ours to explain
            raise
        windows = error.errno == errno.EINVAL and os.name == "nt"
        gone = isinstance(error, BrokenPipeError) or windows
        if not gone:  # ENOENT: tempfile has found no folder that can be written, for torch, say
            of_temp = error.errno == errno.ENOENT
            what = "(TMPDIR may name one) " if of_temp else "the output could not be written: "
            print(f"{name}: {what}{error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again
        return 141 if gone else 1  # 128 + SIGPIPE, as a shell has it


def pick_device(name="auto"):
    """Return the torch.device called name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises ValueError if it can't be used here. "auto" says so on stderr, and takes the CPU.
    """
    if name == "auto":
        backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
        for found in [name for name, backend in backends.items() if backend.is_available()]:
            try:
                return pick_device(found)
            except ValueError as error:
                reason = str(error.__cause__).strip().partition("\n")[0]
                print(f"{found} is there but can't be used ({reason}); the CPU does the work",
                      file=sys.stderr)
        return torch.device("cpu")
    try:
        device = torch.device(name)
        image = torch.ones(1, 1, 32, 32, device=device)  # a device may be there but too old
        F.conv2d(image, image).item()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device {name!r} is not available here; --device cpu is") from error
    return device


def keep_freed_memory():
    """Let glibc's malloc keep what is freed for the next request; elsewhere do nothing.

    Each training step asks for the same megabytes again. By default they go back to the kernel,
    which has to clear each page when it gives them out anew.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):  # macOS, Windows, musl
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)        # M_MMAP_THRESHOLD: only above 1 GiB, ask the kernel directly
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: the heap is not given back


# --------------------------------------------------------------------------------------------------
# Files

def short_path(path):
    """Return path as seen from the working directory, or as it is (if on another drive)."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def check_folder(folder, argument, make=False):
    """Raise ValueError if files can't be written in folder; make it before, if asked to, in a
    folder that is there."""
    try:
        if make:
            Path(folder).mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = f"can't write in {folder} ({error.strerror})"
        raise ValueError(f"argument {argument}: {reason}") from error


def check_file(path, argument):
    """Raise ValueError if no file can be written at path, or if path is a device or the file that
    the output goes to."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # there is no such file yet, or the stream is closed
            if os.path.samestat(os.stat(path), os.fstat(stream)):
                raise ValueError(f"argument {argument}: {path} is what the output goes to")
    check_folder(path.parent, argument)
    if str(path) == "-" or os.path.exists(path) and not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "no file, and a file is what is written"
        raise ValueError(f"argument {argument}: {path} is {what}")
    target = Path(os.path.realpath(path))
    if target.parent != path.parent.resolve():  # a link
        check_folder(target.parent, argument)
    try:
        os.path.lexists(target) or target.with_name(target.name + 30 * "x").lstat()
    except FileNotFoundError:
        pass
    except OSError as error:  # no room for the names of neighbours
        raise ValueError(f"argument {argument}: can't write {path} ({error.strerror})") from error


def write_atomically(path, content):
    """Write content, bytes, to a temporary file, flush it to disk and rename it to path.

    Whatever happens on the way, path, or what it links to, has its old content or the whole new
    one. Raises LeNetError if the disk refuses.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise OSError("it is no file")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, target)
    except OSError as error:
        raise LeNetError(f"{path} could not be written ({error.strerror or error}); what was there "
                         "before is untouched") from error
    finally:
        with contextlib.suppress(OSError):  # gone already, or the disk has said its word
            temporary.unlink()


def _replace(temporary, target, seconds=1.0):
    """Rename temporary to target; if Windows forbids it, since a virus scanner has either open, try
    again for that many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return os.replace(temporary, target)
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def write_csv(path, rows):
    """Write rows, iterables of values, to path as a CSV table in UTF-8. Raises LeNetError."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, text.getvalue().encode(errors="backslashreplace"))


# --------------------------------------------------------------------------------------------------
# Images and scores

def resize(images):
    """Return uint8 (N, 28, 28) images at LeNet-5's size, uint8 (N, 1, 32, 32): bit for bit what
    torchvision's Resize((32, 32)) makes of each PIL image."""
    return F.interpolate(images[:, None], size=(32, 32), mode="bilinear", antialias=True)


def standardise(images):
    """Turn float images, 0 paper .. 1 ink, into the network's input, in place; return them."""
    return images.sub_(MEAN).div_(STD)


def to_inputs(views):
    """Return images, a uint8 tensor or array (N, 28, 28), as the network's input, float32
    (N, 1, 32, 32)."""
    return standardise(resize(torch.as_tensor(views)).float().div_(255))


def compute_logits(model, x):
    """Return the logits, (N, n_classes), from a model that returns them, alone or first of two."""
    output = model(x)
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def predict_all(model, data_loader, device):
    """Return (logits, labels) of everything in data_loader: float (N, n_classes) and int64 (N,), on
    the CPU. The model is left in evaluation mode. Raises ValueError if data_loader is empty."""
    model.eval()
    outputs = [(compute_logits(model, x.to(device)).cpu(), y.cpu()) for x, y in data_loader]
    if not outputs:
        raise ValueError("there are no images to score")
    logits, labels = zip(*outputs)
    return torch.cat(logits), torch.cat(labels)


def evaluate(model, data_loader, loss_func, device):
    """Return (mean loss over the images, number of images classified wrongly)."""
    logits, labels = predict_all(model, data_loader, device)
    return loss_func(logits, labels).item(), (logits.argmax(1) != labels).sum().item()


def get_accuracy(model, data_loader, device):
    """Return the fraction, 0..1, of the images in data_loader that model classifies correctly."""
    logits, labels = predict_all(model, data_loader, device)
    return (logits.argmax(1) == labels).float().mean().item()
