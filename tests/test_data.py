"""MNIST in memory is what torchvision would have made of it, and damage is noticed."""

import errno
import gzip
import shutil

import pytest
import torch
from torchvision import datasets, transforms

from training import data
import utils
from training.data import Batches
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


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """MNIST as torchvision has it."""
    folder = tmp_path_factory.mktemp("unpacked")
    shutil.copytree(utils.DATA / "MNIST", folder / "MNIST")
    datasets.MNIST(str(folder), download=True)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_pixels_and_labels_are_those_of_the_lectures_transforms(unpacked, train):
    images, labels = data.load_mnist(train)
    lecture = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    reference = datasets.MNIST(unpacked, train=train, transform=lecture)
    assert images.shape == (len(reference), 1, 32, 32) and images.dtype == torch.uint8
    for i in range(0, len(reference), 97):
        image, label = reference[i]
        assert torch.equal(images[i].float().div(255), image) and labels[i] == label


def test_batches_are_standardised_as_the_lectures_are():
    images = torch.randint(256, (7, 1, 32, 32), dtype=torch.uint8)
    ((batch, _),) = Batches(images, torch.zeros(7), batch_size=7)
    assert torch.equal(batch, transforms.Normalize(utils.MEAN, utils.STD)(images.float() / 255))


def test_mean_and_std_are_those_of_the_training_pixels(unpacked):
    # of each grey, 0..255
    counts = datasets.MNIST(unpacked, train=True).data.flatten().bincount().double()
    grey = torch.arange(256).double() / 255
    mean = counts @ grey / counts.sum()
    std = (counts @ (grey - mean) ** 2 / counts.sum()).sqrt()
    assert round(mean.item(), 4) == utils.MEAN and round(std.item(), 4) == utils.STD


def test_split_is_balanced_disjoint_and_always_the_same(training_set):
    images, labels = training_set
    index = torch.arange(len(labels))
    torch.manual_seed(1)
    (train, train_labels), (valid, valid_labels) = data.split_validation(index, labels)
    torch.manual_seed(2)
    assert torch.equal(data.split_validation(index, labels)[1][0], valid)
    assert len(train) == data.N_TRAINING and len(valid) == data.N_VALIDATION
    assert torch.equal(torch.cat([train, valid]).sort().values, index)
    assert valid_labels.bincount().tolist() == [500] * 10
    assert torch.equal(labels[train], train_labels) and torch.equal(labels[valid], valid_labels)


def test_batches_show_every_image_once_in_a_new_order_each_epoch():
    images = torch.zeros(10, 1, 32, 32, dtype=torch.uint8)
    batches = Batches(
        images, torch.arange(10), batch_size=4, generator=torch.Generator().manual_seed(0)
    )
    first, second = (
        [label for _, labels in batches for label in labels.tolist()] for _ in range(2)
    )
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert len(batches) == len(list(batches)) == 3 and len(batches.dataset) == 10


def test_a_row_of_the_sampling_table_shows_one_of_its_images_anew_in_each_epoch():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 32, 32)
    table = torch.tensor([[0, 0, 1], [2, 2, 2], [3, 4, 5]])
    batches = Batches(images, torch.arange(6), 2, torch.Generator().manual_seed(0), table=table)
    epochs = [torch.cat([labels for _, labels in batches]).tolist() for _ in range(300)]
    assert len(batches) == 2 and all(
        len({(0, 0, 2, 3, 3, 3)[x] for x in epoch}) == 3 for epoch in epochs
    )
    shown = torch.tensor(epochs).flatten().bincount()
    assert shown[2] == 300 and shown[0] + shown[1] == 300 and shown[3:].sum() == 300
    assert 70 < shown[1] < 130 and (70 < shown[3:]).all() and (shown[3:] < 130).all()
    assert len({tuple(epoch) for epoch in epochs}) > 20  # in any order


def test_without_a_generator_the_order_is_kept():
    batches = Batches(torch.zeros(5, 1, 32, 32, dtype=torch.uint8), torch.arange(5), batch_size=2)
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [2, 3], [4]]


def test_archives_are_read_where_they_are(data_dir, no_network):
    """Nothing is written: two first starts at once can't meet, and a read-only install works."""
    folders = [data_dir, data_dir / "MNIST", data_dir / "MNIST" / "raw"]
    for folder in folders:
        folder.chmod(0o500)
    images, labels = data.load_mnist(False, data_dir)
    assert len(images) == len(labels) == 10_000 and sorted(
        path.name for path in folders[2].iterdir()
    ) == sorted(ARCHIVES)
    for folder in folders:
        folder.chmod(0o700)


@pytest.mark.parametrize("damage", ["cut", "altered", "empty", "not an archive"])
def test_a_damaged_archive_is_named_and_refused(data_dir, no_network, damage):
    victim = data_dir / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(victim.read_bytes())
    content[1000] ^= 1
    victim.write_bytes(
        {"cut": content[:1000], "altered": content, "empty": b"", "not an archive": b"<html>"}[
            damage
        ]
    )
    with pytest.raises(LeNetError, match="t10k-labels-idx1-ubyte.gz is damaged: ") as error:
        data.load_mnist(False, data_dir)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("packed", [True, False])
def test_other_data_under_mnists_names_is_not_called_damaged(data_dir, no_network, packed):
    """Fashion-MNIST, say, has the same names."""
    raw = data_dir / "MNIST" / "raw"
    other = gzip.decompress((raw / "train-labels-idx1-ubyte.gz").read_bytes())
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    path = raw / f"t10k-labels-idx1-ubyte{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(other) if packed else other)
    with pytest.raises(LeNetError, match="t10k-labels.* holds other data than MNIST's") as error:
        data.load_mnist(False, data_dir)
    assert "damaged" not in str(error.value) and "delete" not in str(error.value)


def test_an_archive_packed_anew_or_unpacked_is_as_good(data_dir, no_network):
    raw = data_dir / "MNIST" / "raw"
    images, labels = (raw / f"t10k-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1"))
    images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes()), compresslevel=1))
    labels.with_suffix("").write_bytes(gzip.decompress(labels.read_bytes()))
    labels.unlink()
    for mine, theirs in zip(data.load_mnist(False, data_dir), data.load_mnist(False)):
        assert torch.equal(mine, theirs)


def test_a_half_unpacked_file_beside_its_archive_does_no_harm(data_dir, no_network):
    (data_dir / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(b"half")
    assert len(data.load_mnist(False, data_dir)[0]) == 10_000


def test_missing_archives_are_named(data_dir, no_network):
    (data_dir / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(LeNetError) as error:
        data.load_mnist(False, data_dir)
    assert "put t10k-images-idx3-ubyte.gz into" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("reason", ["File name too long", "Permission denied", "Not a directory"])
def test_a_place_that_cannot_be_looked_into_is_one_line(data_dir, no_network, monkeypatch, reason):
    place = (
        data_dir / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
        if reason == "Not a directory"
        else data_dir
    )
    if reason == "File name too long":
        place = data_dir / ("n" * 300)
    elif reason == "Permission denied":  # root may look into every folder
        def refuse(path, *args, **kwargs):
            raise PermissionError(errno.EACCES, reason, str(path))

        monkeypatch.setattr("pathlib.Path.stat", refuse)
        monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    # Windows words it otherwise
    with pytest.raises(LeNetError, match=f"can't be read: {reason}|put .* into") as error:
        data.load_mnist(False, place)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("writable", [True, False])
def test_a_missing_archive_is_fetched_and_kept_if_that_can_be(
    data_dir, monkeypatch, capsys, writable
):
    raw = data_dir / "MNIST" / "raw"
    name = "t10k-labels-idx1-ubyte.gz"
    (raw / name).unlink()
    first, *_ = datasets.MNIST.mirrors

    def download(url, path, *args, **kwargs):
        if url.startswith(first):
            raise OSError("this mirror is down")
        shutil.copy(utils.DATA / "MNIST" / "raw" / name, path)

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", download)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    if not writable:
        def refuse(path, content):
            raise LeNetError("read-only")

        monkeypatch.setattr(utils, "write_atomically", refuse)
    assert len(data.load_mnist(False, data_dir)[1]) == 10_000
    assert (raw / name).exists() == writable and capsys.readouterr() == ("", "")
