"""MNIST in memory: its images as LeNet-5 takes them, the split, and batches.

Importing this module is quick: torchvision is imported by the function that fetches what is
missing.
"""

import contextlib
import gzip
import hashlib
import math
import os
import tempfile
import zlib
from pathlib import Path

import torch

import utils
from training.checkpoints import DIGITS
from utils import DATA, LeNetError

N_TRAINING = 55_000  # of the 60,000 training images;
N_VALIDATION = 5_000  # the rest: they choose the epoch and every setting

# The archives, NAME.gz, and the MD5 sums of what is in them; torchvision has the archives' own.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def load_mnist(train, data_dir=DATA):
    """Return MNIST's 60,000 training (train=True) or 10,000 test images and their labels.

    images: uint8 (N, 1, 32, 32), 0 paper .. 255 ink; labels: int64 (N,). The archives in
    data_dir/MNIST/raw are read as they are, nothing is unpacked beside them. Missing ones are
    fetched. Raises LeNetError if a file is damaged or can't be had.
    """
    images, labels = read_mnist(train, data_dir)
    return utils.resize(images), labels


def read_mnist(train, data_dir=DATA):
    """Return load_mnist's images at their own size, uint8 (N, 28, 28), and labels; raise what it
    raises."""
    raw, part = Path(data_dir) / "MNIST" / "raw", "train" if train else "t10k"
    images = _read_idx(raw, f"{part}-images-idx3-ubyte", 16).view(-1, 28, 28)
    labels = _read_idx(raw, f"{part}-labels-idx1-ubyte", 8)
    return images, labels.long()


def _read_idx(raw, name, header):
    """Return the bytes after the header of the IDX file called name, uint8 (N,): of raw/name.gz, of
    raw/name, which somebody has unpacked, or fetched."""
    paths = raw / f"{name}.gz", raw / name
    path = next((path for path in paths if os.path.exists(path)), paths[0])
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = _fetch(raw, path.name)
    except OSError as error:
        raise LeNetError(f"{path} can't be read: {error.strerror}") from error
    with contextlib.suppress(OSError, EOFError, zlib.error):  # if damaged, content is no IDX file
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != MD5[name]:
        what = "holds other data than MNIST's" if _is_idx(content) else "is damaged"
        raise LeNetError(f"{path} {what}: move it away to fetch MNIST's, or restore it with "
                         "git checkout")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header)


def _is_idx(content):
    """Say whether content is a whole IDX file of bytes: 0, 0, 8, number of dimensions, these as
    32-bit numbers, data."""
    header = 4 + 4 * content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    sizes = [int.from_bytes(content[i:i + 4], "big") for i in range(4, header, 4)]
    return header > 0 and len(content) == header + math.prod(sizes)


def _fetch(raw, name):
    """Return the content of the archive called name from one of torchvision's mirrors; keep it in
    raw, if possible."""
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_url

    archives = dict(MNIST.resources)
    with tempfile.TemporaryDirectory() as folder:
        for mirror in MNIST.mirrors:
            quietly = contextlib.redirect_stdout(None)  # it prints what it fetches
            with contextlib.suppress(OSError, RuntimeError), quietly:
                download_url(mirror + name, folder, name, archives[name])
                break
        else:
            missing = [f"{name}.gz" for name in MD5
                       if not any(os.path.exists(raw / f"{name}{end}") for end in ("", ".gz"))]
            raise LeNetError("MNIST is incomplete and could not be fetched: put "
                             f"{', '.join(missing)} into {raw}")
        content = (Path(folder) / name).read_bytes()
    with contextlib.suppress(OSError, LeNetError):  # a read-only folder: fetched anew next time
        raw.mkdir(parents=True, exist_ok=True)
        utils.write_atomically(raw / name, content)
    return content


def split_validation(images, labels):
    """Return ((images, labels) for training, (images, labels) for validation).

    The validation set holds 500 images of each class, a tenth if there are fewer, the same ones in
    every run: the split has a seed of its own, so that results of training seeds can be compared.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1998))
    is_validation = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        of_class = order[labels[order] == label]
        is_validation[of_class[:min(N_VALIDATION // 10, max(1, len(of_class) // 10))]] = True
    train, valid = ~is_validation, is_validation
    return (images[train], labels[train]), (images[valid], labels[valid])


def load_data(data_dir, device, limit=None, name="mnist"):
    """Return ((images, labels) for training, validation, test) on device, the first `limit`
    training images only; name: of a data set as class_names() takes it."""
    train_set, valid_set = split_validation(*load_set(name, True, data_dir))
    if not len(train_set[1]):
        raise LeNetError(f"{name}: one picture of each class is kept for validation, and none is "
                         "left to train on; more are needed")
    train_set = [tensor[:limit] for tensor in train_set]
    test_set = load_set(name, False, data_dir)
    return [tuple(tensor.to(device) for tensor in part)
            for part in (train_set, valid_set, test_set)]


# --------------------------------------------------------------------------------------------------
# Sets like MNIST

OTHERS = {  # by name: torchvision's class, further arguments of it
    "fashion": ("FashionMNIST", {}), "kmnist": ("KMNIST", {}), "qmnist": ("QMNIST", {}),
    "emnist-letters": ("EMNIST", {"split": "letters"})}


def class_names(name):
    """Return the names of the classes of a data set, in the order of their labels.

    name: mnist, one of OTHERS, or a folder with train/CLASS/ and test/CLASS/ of pictures, light on
    dark. Raises ValueError if it is none of them.
    """
    if name in ("mnist", "qmnist"):
        return DIGITS
    if name in OTHERS:
        from torchvision import datasets

        kind = getattr(datasets, OTHERS[name][0])
        return kind.classes_split_dict["letters"][1:] if name == "emnist-letters" else kind.classes
    names = [sorted(path.name for path in Path(name, part).glob("*") if path.is_dir())
             for part in ("train", "test")]
    if len(names[0]) < 2 or names[0] != names[1]:
        raise ValueError(f"argument --data: mnist, {', '.join(OTHERS)} or a folder with the same "
                         f"classes, two or more, in train/CLASS and test/CLASS, got {name}")
    return names[0]


def load_set(name, train, data_dir=DATA):
    """Return the training (train=True) or test images of a data set and their labels, as
    load_mnist() does. Raises LeNetError if they can't be had."""
    if name == "mnist":
        return load_mnist(train, data_dir)
    from torchvision import datasets, transforms

    try:
        if name not in OTHERS:
            as_views = transforms.Compose([transforms.Grayscale(), transforms.Resize((28, 28)),
                                           transforms.PILToTensor()])
            part = datasets.ImageFolder(Path(name, "train" if train else "test"), as_views)
            images, labels = zip(*part)
            return utils.resize(torch.cat(images)), torch.tensor(labels)
        kind, more = OTHERS[name]
        with contextlib.redirect_stdout(None):  # what it fetches
            part = getattr(datasets, kind)(str(data_dir), train=train, download=True, **more)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        if name in OTHERS:
            raw = Path(data_dir) / OTHERS[name][0] / "raw"
            reason += f"; put its archives into {raw}, or try again later"
        raise LeNetError(f"{name} could neither be read nor fetched: {reason}") from error
    images, labels = part.data, part.targets.long()
    if name == "emnist-letters":  # on their side, and counted from 1
        images, labels = images.transpose(1, 2).contiguous(), labels - 1
    return utils.resize(images), labels[:, 0] if labels.ndim > 1 else labels  # qmnist says more


class Batches:
    """Iterate over (inputs, labels) batches of a set in memory, without worker processes.

    images are uint8 (N, 1, 32, 32); inputs come out standardised, float32 (B, 1, 32, 32), on the
    images' device. With a generator (a CPU one) the order is new in every epoch.
    augment(images, generator) takes and returns float images 0..1 (B, 1, 32, 32). table, the
    sampling table, int64 (M, K) on the CPU: an epoch has M images, each a random one of the K whose
    numbers stand in its row. Like a DataLoader it has .dataset and a length in batches.
    """

    def __init__(self, images, labels, batch_size, generator=None, augment=None, table=None):
        self.dataset = torch.utils.data.TensorDataset(images, labels)
        self.batch_size = batch_size
        self.generator = generator
        self.augment = augment
        self.table = torch.arange(len(labels))[:, None] if table is None else table

    def __len__(self):
        return -(-len(self.table) // self.batch_size)

    def __iter__(self):
        images, labels = self.dataset.tensors
        (n, k), table = self.table.shape, self.table
        if self.generator is not None:
            table = table[torch.randperm(n, generator=self.generator)]
        if k > 1:
            table = table.gather(1, torch.randint(k, (n, 1), generator=self.generator))
        for index in table[:, 0].to(labels.device).split(self.batch_size):
            batch = images.index_select(0, index).float().div_(255)
            if self.augment is not None:
                batch = self.augment(batch, self.generator)
            yield utils.standardise(batch), labels[index]
