"""What training and prediction share: the command line, files, scores and checkpoints.
"""

import argparse
import contextlib
import ctypes
import errno
import io
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

from training import fast_cpu
from model import LeNet5
from figures.plots import plot_losses  # noqa: F401: the lecture has it here

ROOT = Path(__file__).resolve().parent
CHECKPOINT = ROOT / "Model" / "LeNet5.pth"
ASSETS = ROOT / "Assets"
DATA = ROOT / "data"

# Mean and standard deviation of the 60,000 training images' pixels at 28x28, black 0, white 1. To see them again:
#   x = torchvision.datasets.MNIST("data").data / 255; print(x.mean(), x.std())      -> 0.1307, 0.3081
MEAN = 0.1307
STD = 0.3081

FORMAT_VERSION = 1  # of checkpoints; raised when an older reader would misunderstand a newer file


CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # line breaks of all kinds, and what moves a terminal's cursor


def one_line(text):
    """Return text, a path or an error, say, as it is shown: a file's name may hold line breaks and other control characters,
    which are escaped."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], str(text))


class LeNetError(RuntimeError):
    """Work that failed for a reason the user can mend. The message is one line: what is wrong and what to do."""

    def __str__(self):
        return one_line(super().__str__())


# ---------------------------------------------------------------------------------------------------------------------
# Command line

class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is a single line on stderr (exit status 2), without the usage in front."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def error(self, message):
        self.exit(2, f"{self.prog}: {one_line(message)} (see --help)\n")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keep the description's line breaks and show every default worth showing."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


def run_script(main, name):
    """Run main() as the script called name; return its exit status.

    What a console can't print, in a file's name say, is escaped. Output that nobody can take is not a traceback: who
    reads it may have gone (python predict.py ... | head), which is no error worth a word, or the disk is full. Pillow's
    warnings of a picture are not shown: what is wrong with it is said once, by us.
    """
    warnings.filterwarnings("ignore", module=r"PIL\b")
    if "inline" in os.environ.get("MPLBACKEND", ""):  # of the notebook that says !python train.py, where we can't draw
        del os.environ["MPLBACKEND"]
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # as the scripts have it during their imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # closed by the caller; print(file=None) would go to stdout
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
        gone = isinstance(error, BrokenPipeError) or error.errno == errno.EINVAL and os.name == "nt"
        if not gone:  # ENOENT: tempfile has found no folder that can be written, for torch, say
            what = "the output could not be written: " if error.errno != errno.ENOENT else "(TMPDIR may name one) "
            print(f"{name}: {what}{error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries once more at its end
        return 141 if gone else 1  # 128 + SIGPIPE, as a shell has it


def short_path(path):
    """Return path as seen from the working directory, or as it is if there is no way from here (another drive)."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def pick_device(name="auto"):
    """Return the torch.device called name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Of a device that "auto" finds but can't use, too old or full, say, it tells in a line on stderr. Raises ValueError if the
    one called name can't be used on this machine.
    """
    if name == "auto":
        for found, is_there in ("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available):
            try:
                if is_there():
                    return pick_device(found)
            except ValueError as error:
                reason = str(error.__cause__).strip().partition("\n")[0]
                print(f"{found} is there but can't be used ({reason}); the CPU does the work", file=sys.stderr)
        return torch.device("cpu")
    try:
        device = torch.device(name)
        image = torch.ones(1, 1, 32, 32, device=device)  # a name that parses may still belong to no device here,
        F.conv2d(image, image).item()                    # and one that keeps numbers may be too old to compute with them
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device {name!r} is not available here; --device cpu always is") from error
    return device


def keep_freed_memory():
    """Let glibc's malloc keep what is freed for the next request; elsewhere do nothing.

    Every training step frees feature maps of some megabytes, every look at a picture its arrays, and asks for the same again. By
    default they go back to the kernel, which has to clear each page when it gives them out anew: a third of a step's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # macOS, Windows, musl
        return
    mallopt(-3, 1 << 30)        # M_MMAP_THRESHOLD: only blocks above 1 GiB come from the kernel directly
    mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: the heap is not given back


def check_folder(folder, argument):
    """Make folder if it isn't there; raises ValueError, naming the argument, if files can't be written in it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"argument {argument}: can't write in {folder} ({error.strerror})") from error


def check_file(path, argument):
    """Make path's folder if it isn't there; raises ValueError, naming the argument, if no file can be written at path."""
    check_folder(path.parent, argument)
    if os.path.isdir(path):
        raise ValueError(f"argument {argument}: {path} is a folder")
    target = Path(os.path.realpath(path))
    if target.parent != path.parent.resolve():  # a link
        check_folder(target.parent, argument)
    try:
        os.lstat(target.with_name(target.name + 30 * "x"))  # room for the names of temporary files and neighbours
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ValueError(f"argument {argument}: can't write {path} ({error.strerror})") from error


@contextlib.contextmanager
def lock_folder(folder):
    """Hold folder for one training; raises LeNetError if another one holds it. The lock dies with its process."""
    try:
        import fcntl
    except ImportError:  # Windows: files are still written whole, by renaming
        yield
        return
    path = Path(folder) / ".lock"
    try:
        try:
            file = open(path, "a")
        except PermissionError:
            file = open(path)  # another user's; reading is enough to lock it
    except OSError as error:
        raise LeNetError(f"{path} can't be opened ({error.strerror}): if no other training is running, delete it, or give "
                         "this one another --checkpoint folder") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise LeNetError(f"another training is writing into {folder}; wait for it, or give this one another "
                                 "--checkpoint folder") from None
            # else: a file system without locks
        yield


# ---------------------------------------------------------------------------------------------------------------------
# Images

def resize(images):
    """Return uint8 (N, 28, 28) images at LeNet-5's 32x32, uint8 (N, 1, 32, 32).

    Bit for bit what torchvision's Resize((32, 32)) makes of each PIL image, in one call on the whole set.
    """
    return F.interpolate(images[:, None], size=(32, 32), mode="bilinear", antialias=True)


def standardise(images):
    """Turn float images, 0 paper .. 1 ink, into the network's input (in place, and return them)."""
    return images.sub_(MEAN).div_(STD)


def to_inputs(views):
    """Return uint8 (N, 28, 28) images as the network's input, float32 (N, 1, 32, 32), resized and standardised."""
    return standardise(resize(views).float().div_(255))


# ---------------------------------------------------------------------------------------------------------------------
# Scores

def predict_all(model, data_loader, device):
    """Return (logits, labels) of everything in data_loader: float (N, n_classes) and int64 (N,), on the CPU.

    The model is left in evaluation mode. Raises ValueError if data_loader is empty.
    """
    @torch.inference_mode()
    def predict(x):
        return model(x)[0].cpu()

    model.eval()
    outputs, n_pieces = [], fast_cpu.pieces(data_loader, device)
    with fast_cpu.workers(n_pieces) as executor:
        for x, y in data_loader:
            pieces = fast_cpu.spread(executor, predict, x.to(device).chunk(n_pieces))
            outputs.append((torch.cat([piece.result() for piece in pieces]), y.cpu()))
    if not outputs:
        raise ValueError("there are no images to score")
    logits, labels = zip(*outputs)
    return torch.cat(logits), torch.cat(labels)


def evaluate(model, data_loader, loss_func, device):
    """Return (mean loss over the images, number of images classified wrongly)."""
    logits, labels = predict_all(model, data_loader, device)
    return loss_func(logits, labels).item(), (logits.argmax(1) != labels).sum().item()


def get_accuracy(model, data_loader, device):
    """Return the fraction, 0..1, of the images in data_loader that model classifies rightly."""
    logits, labels = predict_all(model, data_loader, device)
    return (logits.argmax(1) == labels).float().mean().item()


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints

def write_atomically(path, write):
    """Call write(file) on a temporary binary file, flush it to disk and rename it to path, or to what path links to.

    Whatever happens on the way, path holds either its old content or the whole new one. Raises LeNetError if the disk
    refuses.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, target)
    except OSError as error:
        raise LeNetError(f"{path} could not be written ({error.strerror or error}); what was there before is untouched") from error
    finally:
        with contextlib.suppress(OSError):  # it is gone already, or the disk has said what it had to say
            temporary.unlink()


def _replace(temporary, target, patience=1.0):
    """Rename temporary to target; try for a second if that is forbidden: on Windows, by whoever has just opened either,
    a virus scanner or an indexer."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return os.replace(temporary, target)
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def save_file(path, content):
    """Write content, plain types and tensors, to path as torch.save does, but atomically."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def read_file(path):
    """Return what save_file wrote. Nothing in it is executed. Raises LeNetError, in one line, if it is anything else."""
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise LeNetError(f"{path}: no such checkpoint; python train.py makes one") from error
    except (OSError, ValueError) as error:
        raise LeNetError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    if b"torch.nn.modules" in content:  # the names of its layers' classes
        raise LeNetError(f"{path} holds a whole pickled module, which could run code when loaded; its owner can convert "
                         "it: torch.save(torch.load(file, weights_only=False).state_dict(), file)")
    try:
        if content[:1] == b"\x80" and content[1:2] != b"\x02":  # pickle.dump's, of which torch.load would warn
            raise ValueError("not pickle protocol 2")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets arbitrary bytes here and may raise anything
        raise LeNetError(f"{path} is not a checkpoint that can be loaded safely: it is damaged, or train.py did not "
                         "make it") from error


def save_checkpoint(path, weights, **metadata):
    """Write a state dict of LeNet5 and metadata (numbers, strings, dicts of them) to path, all on the CPU."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    checkpoint = dict(format_version=FORMAT_VERSION, torch_version=str(torch.__version__), mean=MEAN, std=STD,
                      **metadata, weights=weights)
    save_file(path, checkpoint)


def load_checkpoint(path=CHECKPOINT, device="cpu"):
    """Return (model in evaluation mode on device, metadata dict) from a file written by save_checkpoint.

    A bare state dict, such as the lecture's, is taken too, with the wrappings that other programs put around it; its
    metadata is {}. Nothing in the file is executed (weights_only=True). Raises LeNetError, naming the file and the reason,
    if it is anything else.
    """
    content = read_file(path)
    if isinstance(content, dict) and "format_version" in content:
        metadata = {key: value for key, value in content.items() if key != "weights"}
        weights = content.get("weights")
        _check_metadata(path, metadata)
    else:
        metadata, weights = {}, unwrap(content)
    model = LeNet5()
    _check_weights(path, weights, model.state_dict())
    model.load_state_dict(weights)
    return model.to(device).eval(), metadata


def unwrap(content):
    """Return the state dict in content: by itself or one of a dict's entries, of the network or of what was around it in
    training, which says so before each name: nn.DataParallel ("module."), torch.compile ("_orig_mod."), a LightningModule."""
    for key in ("state_dict", "model_state_dict", "weights", "model", "net"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if isinstance(content, dict) and all(isinstance(name, str) for name in content):
        around = os.path.commonprefix(list(content))  # LeNet-5's own names have none: feature_extractor ..., classifier ...
        content = {name.removeprefix(around): tensor for name, tensor in content.items()}
    return content


def _check_metadata(path, metadata):
    version = metadata["format_version"]
    if not isinstance(version, int):
        raise LeNetError(f"{path}: its format_version is {type(version).__name__}, not an int")
    if version > FORMAT_VERSION:
        raise LeNetError(f"{path} has format version {version}, this code reads up to {FORMAT_VERSION}: update the code")
    for key, kind in dict(recipe=str, seed=int, epoch=int, mean=float, std=float).items():
        if not isinstance(metadata.get(key), kind):
            raise LeNetError(f"{path}: its {key!r} is missing or not of type {kind.__name__}")
    if (metadata["mean"], metadata["std"]) != (MEAN, STD):
        raise LeNetError(f"{path} was trained with mean {metadata['mean']} and std {metadata['std']}, "
                         f"this code uses {MEAN} and {STD}")


def _check_weights(path, weights, wanted):
    if not isinstance(weights, dict) or set(weights) != set(wanted):
        raise LeNetError(f"{path} does not hold LeNet-5's weights (feature_extractor.0.weight ... classifier.2.bias)")
    for name, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor) or tensor.shape != wanted[name].shape:
            shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise LeNetError(f"{path}: {name} has shape {shape}, LeNet-5's is {tuple(wanted[name].shape)}")
        if tensor.dtype != torch.float32:
            raise LeNetError(f"{path}: {name} is {tensor.dtype}, not torch.float32")
        if not tensor.isfinite().all():
            raise LeNetError(f"{path}: {name} has values that are not finite; the training that made it diverged")
