"""MNIST in memory is what torchvision would have made of it, and damage is noticed."""

import gzip
import shutil

import pytest
import torch
from torchvision import datasets, transforms

import mnist
import utils
from mnist import Batches
from utils import LeNetError

ARCHIVES = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]


@pytest.fixture
def data_dir(tmp_path):
    """A copy of the archives, not unpacked."""
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in ARCHIVES:
        shutil.copy(utils.DATA / "MNIST" / "raw" / name, tmp_path / "MNIST" / "raw")
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    """Every download fails, as on a machine without a network."""
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", refuse)


@pytest.mark.parametrize("train", [True, False])
def test_pixels_and_labels_are_those_of_the_lectures_transforms(train):
    images, labels = mnist.load_mnist(train)
    lecture = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    reference = datasets.MNIST(str(utils.DATA), train=train, transform=lecture)
    assert images.shape == (len(reference), 1, 32, 32) and images.dtype == torch.uint8
    for i in range(0, len(reference), 97):
        image, label = reference[i]
        assert torch.equal(images[i].float().div(255), image) and labels[i] == label


def test_batches_are_standardised_as_the_lectures_are():
    images = torch.randint(256, (7, 1, 32, 32), dtype=torch.uint8)
    ((batch, _),) = Batches(images, torch.zeros(7), batch_size=7)
    assert torch.equal(batch, transforms.Normalize(mnist.MEAN, mnist.STD)(images.float() / 255))


def test_mean_and_std_are_those_of_the_training_pixels():
    counts = datasets.MNIST(str(utils.DATA), train=True).data.flatten().bincount().double()  # of each grey, 0..255
    grey = torch.arange(256).double() / 255
    mean = counts @ grey / counts.sum()
    std = (counts @ (grey - mean) ** 2 / counts.sum()).sqrt()
    assert round(mean.item(), 4) == mnist.MEAN and round(std.item(), 4) == mnist.STD


def test_split_is_balanced_disjoint_and_always_the_same(training_set):
    images, labels = training_set
    index = torch.arange(len(labels))
    torch.manual_seed(1)
    (train, train_labels), (valid, valid_labels) = mnist.split_validation(index, labels)
    torch.manual_seed(2)
    assert torch.equal(mnist.split_validation(index, labels)[1][0], valid)
    assert len(train) == mnist.N_TRAINING and len(valid) == mnist.N_VALIDATION
    assert torch.equal(torch.cat([train, valid]).sort().values, index)
    assert valid_labels.bincount().tolist() == [500] * 10
    assert torch.equal(labels[train], train_labels) and torch.equal(labels[valid], valid_labels)


def test_batches_show_every_image_once_in_a_new_order_each_epoch():
    images = torch.zeros(10, 1, 32, 32, dtype=torch.uint8)
    batches = Batches(images, torch.arange(10), batch_size=4, generator=torch.Generator().manual_seed(0))
    first, second = ([label for _, labels in batches for label in labels.tolist()] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert len(batches) == len(list(batches)) == 3 and len(batches.dataset) == 10


def test_without_a_generator_the_order_is_kept():
    batches = Batches(torch.zeros(5, 1, 32, 32, dtype=torch.uint8), torch.arange(5), batch_size=2)
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [2, 3], [4]]


def test_archives_are_unpacked_without_a_network(data_dir, no_network):
    images, labels = mnist.load_mnist(False, data_dir)
    assert len(images) == len(labels) == 10_000


@pytest.mark.parametrize("damage", ["cut", "altered", "empty", "swapped"])
def test_a_damaged_archive_is_named_and_refused(data_dir, no_network, damage):
    raw = data_dir / "MNIST" / "raw"
    victim = raw / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(victim.read_bytes())
    content[1000] ^= 1
    victim.write_bytes({"cut": content[:1000], "altered": content, "empty": b"",
                        "swapped": (raw / "train-labels-idx1-ubyte.gz").read_bytes()}[damage])
    with pytest.raises(LeNetError, match="t10k-labels-idx1-ubyte.gz is damaged"):
        mnist.load_mnist(False, data_dir)


def test_missing_archives_are_named(data_dir, no_network):
    (data_dir / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(LeNetError) as error:
        mnist.load_mnist(False, data_dir)
    assert "put t10k-images-idx3-ubyte.gz into" in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_unpacked_file_is_unpacked_again(data_dir, no_network):
    mnist.load_mnist(False, data_dir)
    raw = data_dir / "MNIST" / "raw"
    whole = gzip.decompress((raw / "t10k-images-idx3-ubyte.gz").read_bytes())
    (raw / "t10k-images-idx3-ubyte").write_bytes(whole[:5000])
    mnist.load_mnist(False, data_dir)
    assert (raw / "t10k-images-idx3-ubyte").read_bytes() == whole
