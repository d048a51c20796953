"""What training and prediction share: MNIST in memory, batches, scores, checkpoints and plots.

Importing this module is quick: torchvision and matplotlib are imported by the functions that need them.
"""

import argparse
import contextlib
import ctypes
import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path

import torch
from torch.nn import functional as F

from model import LeNet5

ROOT = Path(__file__).resolve().parent
CHECKPOINT = ROOT / "Model" / "LeNet5.pth"
ASSETS = ROOT / "Assets"
DATA = ROOT / "data"

# Mean and standard deviation of the 60,000 training images' pixels at 28x28, black 0, white 1. To see them again:
#   x = torchvision.datasets.MNIST("data").data / 255; print(x.mean(), x.std())      -> 0.1307, 0.3081
MEAN = 0.1307
STD = 0.3081

N_TRAINING = 55_000  # of the 60,000 training images;
N_VALIDATION = 5_000  # the rest: they choose the epoch and every setting
FORMAT_VERSION = 1  # of checkpoints; raised when an older reader would misunderstand a newer file


class LeNetError(RuntimeError):
    """Work that failed for a reason the user can mend. The message is one line: what is wrong and what to do."""


# ---------------------------------------------------------------------------------------------------------------------
# Command line

class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is a single line on stderr (exit status 2), without the usage in front."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def error(self, message):
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see --help)\n")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keep the description's line breaks and show every default worth showing."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


def pick_device(name="auto"):
    """Return the torch.device called name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises ValueError if there is no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).add(1).item()  # a name that parses may still belong to no device here
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        raise ValueError(f"device {name!r} is not available here; --device cpu always is") from None
    return device


def keep_freed_memory():
    """Let glibc's malloc keep what is freed for the next request; elsewhere do nothing.

    Every training step frees feature maps of some megabytes and asks for the same again. By default they go back to the
    kernel, which has to clear each page when it gives them out anew: a third of a step's time.
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


@contextlib.contextmanager
def lock_folder(folder):
    """Hold folder for one training; raises LeNetError if another one holds it. The lock dies with its process."""
    try:
        import fcntl
    except ImportError:  # Windows: files are still written whole, by renaming
        yield
        return
    with open(Path(folder) / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LeNetError(f"another training is writing into {folder}; wait for it, or give this one another "
                             "--checkpoint folder") from None
        yield


# ---------------------------------------------------------------------------------------------------------------------
# Data

# MD5 sums of the unpacked files; torchvision knows those of the archives.
UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def load_mnist(train, data_dir=DATA):
    """Return MNIST's 60,000 training (train=True) or 10,000 test images and their labels.

    images: uint8 (N, 1, 32, 32), 0 paper .. 255 ink; labels: int64 (N,). torchvision unpacks the archives in
    data_dir/MNIST/raw and fetches missing ones. Raises LeNetError if a file is damaged or can't be had.
    """
    from torchvision.datasets import MNIST

    raw = Path(data_dir) / "MNIST" / "raw"
    for name, md5 in MNIST.resources:
        if (raw / name).exists() and _md5(raw / name) != md5:
            raise LeNetError(f"{raw / name} is damaged (its MD5 is not {md5}): delete it to fetch it again, "
                             "or restore it with git checkout")
        unpacked = raw / name.removesuffix(".gz")
        if unpacked.exists() and _md5(unpacked) != UNPACKED_MD5[unpacked.name]:
            _remove(unpacked)  # half unpacked, say; torchvision unpacks the archive again if a file is missing
    try:
        dataset = MNIST(str(data_dir), train=train, download=True)
    except (OSError, RuntimeError) as error:
        missing = [name for name, _ in MNIST.resources if not (raw / name).exists()]
        if missing:
            raise LeNetError(f"MNIST is incomplete and could not be fetched: put {', '.join(missing)} "
                             f"into {raw}") from error
        raise LeNetError(f"MNIST could not be unpacked in {raw}: {error}") from error
    return resize(dataset.data), dataset.targets


def _md5(path):
    try:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError as error:
        raise LeNetError(f"{path} can't be read: {error.strerror}") from error


def _remove(path):
    try:
        path.unlink()
    except OSError as error:
        raise LeNetError(f"{path} is damaged and can't be replaced: {error.strerror}") from error


def resize(images):
    """Return uint8 (N, 28, 28) images at LeNet-5's 32x32, uint8 (N, 1, 32, 32).

    Bit for bit what torchvision's Resize((32, 32)) makes of each PIL image, in one call on the whole set.
    """
    return F.interpolate(images[:, None], size=(32, 32), mode="bilinear", antialias=True)


def standardise(images):
    """Turn float images, 0 paper .. 1 ink, into the network's input (in place, and return them)."""
    return images.sub_(MEAN).div_(STD)


def split_validation(images, labels):
    """Return ((images, labels) for training, (images, labels) for validation).

    The validation set holds 500 images of each class, the same ones in every run: the split has a seed of its own,
    so that results of different training seeds can be compared.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1998))
    is_validation = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(10):
        of_digit = order[labels[order] == digit]
        is_validation[of_digit[:N_VALIDATION // 10]] = True
    train, valid = ~is_validation, is_validation
    return (images[train], labels[train]), (images[valid], labels[valid])


class Batches:
    """Iterate over (inputs, labels) batches of a set that lives in memory, without worker processes.

    images are uint8 (N, 1, 32, 32); inputs come out standardised, float32 (B, 1, 32, 32), on the images' device. With
    a generator (a CPU one) the order is new in every epoch. augment(images, generator) takes and returns float images
    0..1 (B, 1, 32, 32). Like a DataLoader it has .dataset and a length in batches.
    """

    def __init__(self, images, labels, batch_size, generator=None, augment=None):
        self.dataset = torch.utils.data.TensorDataset(images, labels)
        self.batch_size = batch_size
        self.generator = generator
        self.augment = augment

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self):
        images, labels = self.dataset.tensors
        if self.generator is None:
            order = torch.arange(len(labels))
        else:
            order = torch.randperm(len(labels), generator=self.generator)
        for index in order.to(labels.device).split(self.batch_size):
            batch = images.index_select(0, index).float().div_(255)  # images[index] takes ten times as long
            if self.augment is not None:
                batch = self.augment(batch, self.generator)
            yield standardise(batch), labels[index]


# ---------------------------------------------------------------------------------------------------------------------
# Scores

@torch.inference_mode()
def predict_all(model, data_loader, device):
    """Return (logits, labels) of everything in data_loader: float (N, n_classes) and int64 (N,), on the CPU.

    The model is left in evaluation mode. Raises ValueError if data_loader is empty.
    """
    model.eval()
    outputs = [(model(x.to(device))[0].cpu(), y.cpu()) for x, y in data_loader]
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
    """Call write(file) on a temporary binary file, flush it to disk and rename it to path.

    Whatever happens on the way, path holds either its old content or the whole new one. Raises LeNetError if the disk
    refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise LeNetError(f"{path} could not be written ({error.strerror or error}); what was there before is untouched") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_file(path, content):
    """Write content, plain types and tensors, to path as torch.save does, but atomically."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def read_file(path):
    """Return what save_file wrote. Nothing in it is executed. Raises LeNetError, in one line, if it is anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets arbitrary bytes here and may raise anything
        if "LeNet5" in str(error):
            raise LeNetError(f"{path} holds a whole pickled module, which could run code when loaded; its owner can "
                             "convert it: torch.save(torch.load(file, weights_only=False).state_dict(), file)") from error
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

    A bare state dict, such as the lecture's, is taken too; its metadata is {}. Nothing in the file is executed
    (weights_only=True). Raises LeNetError, naming the file and the reason, if it is anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise LeNetError(f"{path}: no such checkpoint; python train.py makes one")
    content = read_file(path)
    metadata = {}
    weights = content
    if isinstance(content, dict) and "format_version" in content:
        metadata = {key: value for key, value in content.items() if key != "weights"}
        weights = content.get("weights")
        _check_metadata(path, metadata)
    model = LeNet5()
    _check_weights(path, weights, model.state_dict())
    model.load_state_dict(weights)
    return model.to(device).eval(), metadata


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


# ---------------------------------------------------------------------------------------------------------------------
# Plots: matplotlib's Figure without pyplot, so that no window, backend or display is involved but in open_window

INK = "#1f3b57"
WRONG = "#c0392b"
PALE = "#aab7c4"
GREY = "#566573"


def save_figure(figure, path):
    """Write figure to path (its suffix says the format); raises LeNetError if that fails."""
    path = Path(path)
    kind = path.suffix[1:].lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise LeNetError(f"{path}: no picture format is called {path.suffix!r}; .png always works")
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=100))


def open_window(figure, own_keys=False, wait=True):
    """Show figure in a window and wait until it is closed; raises LeNetError if none can be opened.

    own_keys: the figure answers the keys itself, so it gets neither matplotlib's keys (s, c, q ...) nor the toolbar.
    """
    import matplotlib.pyplot as plt
    from matplotlib.backends import BackendFilter, backend_registry

    try:
        with plt.rc_context({"toolbar": "None"} if own_keys else {}):
            plt.figure(figure)  # from now on it is pyplot's
        usable = plt.get_backend().lower() not in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)
    except Exception:  # each toolkit has its own way of saying that it is not there, or has no display
        usable = False
    if not usable:
        plt.close(figure)
        raise LeNetError("no window can be opened here: it takes a display and a toolkit (pip install PyQt6), or a browser "
                         "(pip install tornado, and set MPLBACKEND=WebAgg)")
    if own_keys:
        figure.canvas.mpl_disconnect(figure.canvas.manager.key_press_handler_id)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C in the terminal closes the window too
        plt.show(block=wait)


def plot_losses(train_losses, valid_losses, valid_accuracies=None, title="LeNet-5 on MNIST", figure=None):
    """Return a Figure of both losses (nats per image) against the epoch, the epoch of lowest validation loss marked.

    valid_accuracies, in percent, are drawn beside them if given. A given figure is emptied and drawn anew.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    epochs = range(1, len(train_losses) + 1)
    best = min(epochs, key=lambda epoch: valid_losses[epoch - 1])
    figure = figure or Figure(figsize=(9, 3.8) if valid_accuracies else (6, 3.8), layout="constrained")
    figure.clear()
    axes = figure.subplots(1, 2 if valid_accuracies else 1, squeeze=False)[0]
    axes[0].plot(epochs, train_losses, color="#7f8c8d", label="training")
    axes[0].plot(epochs, valid_losses, color=INK, label="validation")
    axes[0].set(title="Loss", ylabel="cross entropy (nats per image)", yscale="log")
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))  # 0.04 rather than 4 x 10^-2
    axes[0].yaxis.set_minor_formatter(FuncFormatter(lambda loss, _: f"{loss:g}" if f"{loss:e}"[0] in "235" else ""))
    axes[0].plot(best, valid_losses[best - 1], "o", color=WRONG,
                 label=f"best epoch {best}: {valid_losses[best - 1]:.4f}")
    if valid_accuracies:
        accuracy = valid_accuracies[best - 1]
        axes[1].plot(epochs, valid_accuracies, color=INK, label="validation")
        axes[1].plot(best, accuracy, "o", color=WRONG, label=f"best epoch {best}: {accuracy:.2f} %")
        axes[1].set(title="Accuracy", ylabel="accuracy (%)")
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3, which="both")
        ax.legend()
    figure.suptitle(title)
    return figure


def plot_confusion(labels, predictions):
    """Return a Figure of the 10x10 counts of (label, prediction), each row with its class's accuracy."""
    from matplotlib.figure import Figure

    counts = torch.bincount(labels * 10 + predictions, minlength=100).view(10, 10)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    wrong = share.clone().fill_diagonal_(0)
    figure = Figure(figsize=(8, 6.6), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow((100 * wrong).numpy(), cmap="Reds")
    for true in range(10):
        for predicted in range(10):
            count = counts[true, predicted].item()
            if true == predicted:
                ax.add_patch(_square(predicted, true))
            if count:
                light = true == predicted or wrong[true, predicted] > 0.6 * wrong.max()
                ax.text(predicted, true, f"{count:,}", ha="center", va="center", fontsize=10,
                        color="white" if light else "black")
        ax.text(9.7, true, f"{100 * share[true, true]:.2f} %", va="center", fontsize=10)
    ax.text(9.7, -0.8, "accuracy", fontsize=10)
    ax.set(xticks=range(10), yticks=range(10), xlabel="predicted digit", ylabel="true digit")
    n_wrong = (labels != predictions).sum().item()
    ax.set_title(f"Confusion on {len(labels):,} test images: {n_wrong} wrong, "
                 f"{100 - 100 * n_wrong / len(labels):.2f} % right", pad=14)
    figure.colorbar(image, ax=ax, label="share of the true digit's images (%), wrong ones only", pad=0.12, shrink=0.9)
    return figure


def _square(x, y):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, color=INK)


def plot_digits(images, titles, wrong, heading, columns=10):
    """Return a Figure with a grid of images, uint8 (N, 1, 32, 32), a title over each, in red where wrong is true."""
    from matplotlib.figure import Figure

    rows = max(1, -(-len(images) // columns))
    wide, high = 34, 34 + 6 * max(title.count("\n") + 1 for title in [*titles, ""])  # of a cell, in pixels of the digit
    figure = Figure(figsize=(9.5, 9.5 * high * rows / (wide * columns) + 0.55), layout="constrained")
    figure.suptitle(heading, fontsize=12)
    ax = figure.subplots()  # one for all: fifty take a second more to draw
    ax.set(xlim=(-1, wide * columns - 1), ylim=(high * rows, 0), aspect="equal")
    ax.axis("off")
    for i, (image, title, is_wrong) in enumerate(zip(images, titles, wrong)):
        x, y = wide * (i % columns), high * (i // columns + 1)
        ax.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255, extent=(x, x + 32, y, y - 32))
        ax.text(x + 16, y - 33, title, ha="center", va="bottom", fontsize=9, linespacing=1.1,
                color=WRONG if is_wrong else "black")
    return figure


def plot_rows(rows, names, heading):
    """Return a Figure with one row of pictures, float or uint8 (N, 1, 32, 32), for each name."""
    from matplotlib.figure import Figure

    strips = [torch.cat([F.pad(image[0].float() / image.max(), (1, 1, 1, 1), value=1.0) for image in row], dim=1)
              for row in rows]
    mosaic = torch.cat(strips)
    figure = Figure(figsize=(9, 9 * mosaic.shape[0] / mosaic.shape[1] + 0.4), layout="constrained")
    ax = figure.subplots()
    ax.imshow(mosaic.numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_title(heading, fontsize=11)
    ax.set_xticks([])
    ax.set_yticks([34 * (i + 0.5) for i in range(len(rows))], names, fontsize=10)
    ax.tick_params(left=False)
    ax.spines[:].set_visible(False)
    return figure


def plot_mistakes(images, labels, probabilities, most=80):
    """Return a Figure of the images (uint8) that were classified wrongly, the most confident first, at most `most`."""
    confidence, predictions = probabilities.max(1)
    wrong = (predictions != labels).nonzero().flatten()
    shown = wrong[confidence[wrong].argsort(descending=True)][:most]
    titles = [f"{labels[i]} read as {predictions[i]}\n{100 * confidence[i]:.0f} %" for i in shown]
    which = f"the {len(shown)} most confident of " if len(shown) < len(wrong) else ""
    heading = (f"Test digits read wrongly: {which}{len(wrong)} of {len(labels):,}\n"
               "true digit, what it was read as, and with which probability")
    return plot_digits(images[shown], titles, [False] * len(shown), heading)


def plot_architecture(model):
    """Return a Figure of model's layers as stacks of feature maps, in the manner of figure 2 of LeCun et al. 1998.

    Shapes and parameter counts are read off the model as one image passes through it.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon, Rectangle

    stages = [("Input", (1, 32, 32), "", 0)]
    names = iter("C1 S2 C3 S4 C5 F6 Output".split())
    kinds = {torch.nn.Conv2d: "5x5 convolution", torch.nn.AvgPool2d: "2x2 average", torch.nn.Linear: "linear"}

    def record(module, inputs, output):
        count = sum(p.numel() for p in module.parameters())
        kind = next(text for kind, text in kinds.items() if isinstance(module, kind))
        stages.append((next(names), tuple(output.shape[1:]), kind, count))

    hooks = [module.register_forward_hook(record) for module in model.modules()
             if isinstance(module, tuple(kinds))]
    with torch.no_grad():
        model(torch.zeros(1, 1, 32, 32, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()

    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    ax = figure.subplots()
    x, previous = 0.0, None
    for name, shape, kind, count in stages:
        if len(shape) == 3 and shape[1] > 1:      # feature maps: a stack of squares, each a bit behind the last
            depth, size = shape[0], shape[1] / 8
            step = 0.16 if depth > 1 else 0
            width, height = size + step * (depth - 1), size + step * (depth - 1)
            for i in reversed(range(depth)):
                ax.add_patch(Rectangle((x + step * i, -height / 2 + step * i), size, size, facecolor="white",
                                       edgecolor=INK, linewidth=0.9, zorder=3))
            what = f"{depth} @ {shape[1]}x{shape[2]}" if depth > 1 else f"{shape[1]}x{shape[2]}"
        else:                                     # single numbers: one narrow column
            width, height = 0.35, shape[0] / 30 + 0.6
            ax.add_patch(Polygon([(x, -height / 2), (x + width, -height / 2 + 0.3), (x + width, height / 2 + 0.3),
                                  (x, height / 2)], facecolor="#dfe8f0", edgecolor=INK, linewidth=0.9, zorder=3))
            what = f"{shape[0]}"
        if previous is not None:
            ax.annotate("", xy=(x - 0.08, 0), xytext=(previous + 0.08, 0),
                        arrowprops=dict(arrowstyle="->", color="#7f8c8d"))
            ax.text((previous + x) / 2, -2.9, kind.replace(" ", "\n"), ha="center", va="top", fontsize=9, color=GREY)
        ax.text(x + width / 2, 2.75, f"{name}\n{what}", ha="center", va="bottom", fontsize=10, color=INK)
        ax.text(x + width / 2, -4.4, f"{count:,}" if count else "0", ha="center", va="top", fontsize=9)
        previous = x + width
        x = previous + 1.7
    total = sum(count for *_, count in stages)
    ax.text(-0.3, -4.4, "parameters", ha="right", va="top", fontsize=9)
    ax.set(xlim=(-2.2, previous + 0.7), ylim=(-5.0, 4.1), aspect="equal",
           title=f"LeNet-5 (LeCun et al. 1998): {total:,} parameters, tanh after every C and F layer")
    ax.axis("off")
    return figure


def plot_readings(pictures, readings, titles):
    """Return a Figure: each picture with the box found on it, the network's input and the ten probabilities as bars.

    pictures: float (H, W, 3) arrays; readings: predict.py's Reading of each, or the LeNetError that kept it from one.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = 1 if len(readings) == 1 else 2
    rows = -(-len(readings) // columns)
    size = 2.6 if columns == 1 else 1.5
    figure = Figure(figsize=(3.4 * size * columns, rows * size + 0.7), layout="constrained")
    grid = figure.subplots(rows, 3 * columns, squeeze=False, width_ratios=[1, 1, 1.3] * columns)
    for ax in grid.flat:
        ax.axis("off")
    for i, (array, reading, title) in enumerate(zip(pictures, readings, titles)):
        picture, seen, bars = grid[i // columns, 3 * (i % columns):][:3]
        picture.imshow(array, interpolation="nearest")
        if isinstance(reading, LeNetError):
            seen.text(0, 0.5, "no reading:\n" + title.replace(": ", ":\n"), va="center", transform=seen.transAxes,
                      fontsize=9, color=WRONG)
            continue
        left, top, right, bottom = (edge * side for edge, side in zip(reading.box, 2 * array.shape[1::-1]))
        picture.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=WRONG,
                                    linewidth=1.5))
        seen.imshow(reading.input, cmap="gray", vmin=0, vmax=255)
        bars.axis("on")
        plot_bars(bars, reading.probabilities)
        bars.tick_params(labelsize=9 if columns == 1 else 6)
        bars.set_title(title, fontsize=12 if columns == 1 else 9, color=INK)
        if columns == 1 or i // columns == rows - 1:
            bars.set_xlabel("probability (%)", fontsize=9 if columns == 1 else 7)
        if columns == 1:
            bars.set_ylabel("digit", fontsize=9)
            picture.set_title("picture, box: the digit", fontsize=10)
            seen.set_title("what the network sees", fontsize=10)
    if columns > 1:
        figure.suptitle("picture with the digit found, what the network sees, probability of each digit", fontsize=10)
    return figure


def plot_bars(ax, probabilities):
    """Draw ten probabilities on ax as horizontal bars, in percent, the largest one dark; return the bars."""
    bars = ax.barh(range(10), [0] * 10, linewidth=0)  # else a bar of nothing is a line
    set_bars(bars, probabilities)
    ax.set(xlim=(0, 100), yticks=range(10), xticks=(0, 50, 100))
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    return bars


def set_bars(bars, probabilities):
    """Show other probabilities on the bars of plot_bars."""
    for bar, p in zip(bars, probabilities):
        bar.set(width=100 * p, color=INK if p == max(probabilities) else PALE)


# How plot_layers arranges a layer: rows and columns of maps, how large their pixels are drawn, and what leads to it
ARRANGEMENT = {
    "C1": (3, 2, 1.2, "5x5\nconvolution"), "S2": (3, 2, 1.2, "2x2\naverage"),
    "C3": (4, 4, 2.5, "5x5\nconvolution"), "S4": (4, 4, 2.5, "2x2\naverage"),
    "C5": (1, 1, 1.0, "5x5\nconvolution"), "F6": (1, 1, 1.0, "linear"),
}


def plot_layers(picture, reading, layers, probabilities, heading):
    """Return a Figure of a picture on its way through LeNet-5, in the manner of figure 2 of LeCun et al. 1998.

    picture: float (H, W, 3); reading: predict.py's; layers: {name: activations, -1..1, of C1, S2, C3, S4 (C, H, W), C5
    (120, 1, 1) and F6 (84,)}; probabilities: ten.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(12, 4.4), layout="constrained")
    ax = figure.subplots()
    top, bottom, side, gap, pad = 64, -64, 54, 22, 3  # in ax's unit: the height of one of the 120 in C5

    def show(image, x, y, width, height, **options):  # y is the middle
        ax.add_patch(Rectangle((x, y - height / 2), width, height, fill=False, edgecolor=GREY, linewidth=0.8, zorder=3))
        return ax.imshow(image, extent=(x, x + width, y - height / 2, y + height / 2), interpolation="nearest", **options)

    def write(x, y, text, **options):
        ax.text(x, y, text, **{"fontsize": 10, "color": INK, "ha": "center", "va": "center", **options})

    def lead(start, end, step=None):  # an arrow, and what it stands for
        ax.annotate("", xy=end, xytext=start, arrowprops=dict(arrowstyle="->", color=GREY))
        if step:
            write((start[0] + end[0]) / 2, bottom, step, va="top", fontsize=9, color=GREY)

    # the picture, and below it what the network sees
    height, width = (side * n / max(picture.shape[:2]) for n in picture.shape[:2])
    show(picture, (side - width) / 2, 33, width, height)
    x0, y0, x1, y1 = reading.box
    ax.add_patch(Rectangle(((side - width) / 2 + x0 * width, 33 + height / 2 - y1 * height), (x1 - x0) * width,
                           (y1 - y0) * height, fill=False, edgecolor=WRONG, linewidth=1.5, zorder=4))
    write(side / 2, top, "Picture", va="bottom")
    show(reading.input, 0, -33, side, side, cmap="gray", vmin=0, vmax=255)
    write(side / 2, bottom, "Input\n32x32", va="top")
    lead((side / 2, 33 - height / 2), (side / 2, -33 + side / 2))
    # the layers, each a grid of maps or one column of numbers
    x, middle = side, -33
    for name, (rows, columns, size, step) in ARRANGEMENT.items():
        maps = layers[name]
        if rows > 1:
            what = f"{maps.shape[0]} @ {maps.shape[1]}x{maps.shape[2]}"
            high, wide = size * maps.shape[1], size * maps.shape[2]
        else:
            what, maps = str(maps.size), maps.reshape(1, -1, 1)
            high, wide = size * maps.shape[1], 16
        lead((x + 2, middle), (x + gap - 2, middle), step)
        x, middle = x + gap, 0
        for i, one in enumerate(maps):
            row, column = divmod(i, columns)
            shown = show(one, x + column * (wide + pad), ((rows - 1) / 2 - row) * (high + pad), wide, high, cmap="RdBu_r",
                         vmin=-1, vmax=1)
        total = columns * wide + (columns - 1) * pad
        write(x + total / 2, top, f"{name}\n{what}", va="bottom")
        x += total
    # the probabilities
    lead((x + 2, 0), (x + gap - 2, 0), "linear,\nsoftmax")
    x += gap + 8
    for digit, p in enumerate(probabilities):
        y = 45 - 10 * digit
        write(x - 5, y, str(digit))
        ax.add_patch(Rectangle((x, y - 3.5), 42 * p, 7, color=INK if p == max(probabilities) else PALE))
        write(x + 42 * p + 3, y, f"{100 * p:.1f} %" if p >= 0.0005 else "", ha="left", fontsize=9)
    write(x + 21, top, "Output\n10", va="bottom")
    ax.set(xlim=(-3, x + 70), ylim=(bottom - 20, top + 20), aspect="equal")
    ax.axis("off")
    bar = figure.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.3, aspect=35, pad=0.02,
                          ticks=(-1, -0.5, 0, 0.5, 1))
    bar.set_label("activation: tanh (S2, S4: the mean of four)", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    figure.suptitle(heading, fontsize=12, color=INK)
    return figure
