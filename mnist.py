"""MNIST in memory: its images as LeNet-5 takes them, the split, and batches.

Importing this module is quick: torchvision is imported by the function that needs it.
"""

import hashlib
from pathlib import Path

import torch
from torch.nn import functional as F

from utils import DATA, MEAN, STD, LeNetError

N_TRAINING = 55_000  # of the 60,000 training images;
N_VALIDATION = 5_000  # the rest: they choose the epoch and every setting

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


def load_data(data_dir, device, limit=None):
    """Return ((images, labels) for training, validation, test) on device, the first `limit` training images only."""
    train_set, valid_set = split_validation(*load_mnist(True, data_dir))
    train_set = [tensor[:limit] for tensor in train_set]
    test_set = load_mnist(False, data_dir)
    return [tuple(tensor.to(device) for tensor in part) for part in (train_set, valid_set, test_set)]


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
