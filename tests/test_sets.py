"""Any set like MNIST is trained on, scored under the names of its classes, and not read as
digits."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import predict
import train
import utils
from training import checkpoints, data, recipes, report
from utils import LeNetError
from conftest import write_idx

N = {"fashion": 10, "kmnist": 10, "qmnist": 10, "emnist-letters": 26}


def make(root, name):
    """Write a small set under torchvision's names: of class c, images whose row 2 c + 1 is
    white."""
    folder = {"fashion": "FashionMNIST", "kmnist": "KMNIST", "qmnist": "QMNIST",
              "emnist-letters": "EMNIST"}[name]
    for part, n in ("train", 20), ("t10k" if name in ("fashion", "kmnist") else "test", 3):
        labels = np.repeat(np.arange(N[name]), n).astype(np.uint8)
        images = np.zeros((len(labels), 28, 28), np.uint8)
        images[np.arange(len(labels)), labels + 1] = 255
        if name == "emnist-letters":  # on their side, and counted from 1
            images, labels = images.transpose(0, 2, 1).copy(), labels + 1
        raw, kind = root / folder / "raw", 8
        names = [f"{part}-{what}" for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
        if name == "emnist-letters":
            names = [f"emnist-letters-{each}" for each in names]
        if name == "qmnist":
            names = [f"qmnist-{part}-images-idx3-ubyte", f"qmnist-{part}-labels-idx2-int"]
            kind = 12
            labels = np.pad(labels[:, None], ((0, 0), (0, 7))).astype(">i4")
        write_idx(raw / names[0], images, 8)
        write_idx(raw / names[1], labels, kind)


@pytest.fixture
def folder(tmp_path):
    """A folder of PNGs in three classes."""
    for part, n in ("train", 20), ("test", 3):
        for row, name in enumerate(("cat", "dog", "eel")):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for i in range(n):
                image = np.zeros((40, 40, 3), np.uint8)
                image[10 * row:10 * row + 8] = 255
                Image.fromarray(image).save(tmp_path / "pets" / part / name / f"{i}.png")
    return tmp_path / "pets"


@pytest.mark.parametrize("name", N)
def test_images_stand_upright_and_labels_count_from_0(tmp_path, name):
    make(tmp_path, name)
    for is_training in True, False:
        images, labels = data.load_set(name, is_training, tmp_path)
        assert images.shape[1:] == (1, 32, 32) and images.dtype == torch.uint8
        assert labels.unique().tolist() == list(range(N[name])) == list(
            range(len(data.class_names(name))))
        rows = images[:, 0].float().mean(2).argmax(1)
        assert ((rows - (labels + 1.5) * 32 / 28).abs() < 1.2).all()


@pytest.mark.parametrize("name", [
    "folder", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qmnist", "fashion"))])
def test_it_is_trained_on_scored_and_not_read_as_digits(tmp_path, folder, seven, monkeypatch,
                                                        capsys, name):
    if name == "folder":
        name = str(folder)
        monkeypatch.setattr(report, "write_figures", lambda *_: [])
    else:
        make(tmp_path, name)
    where = ["--data-dir", str(tmp_path), "--checkpoint", str(tmp_path / "net.pth")]
    assert train.main(["--data", name, "--epochs", "2", "--batch-size", "20", *where]) == 0
    classes = data.class_names(name)
    assert train.main(["--evaluate", *where]) == 0
    out = capsys.readouterr().out
    kind = "digit" if name == "qmnist" else "class"
    assert all(f"  {kind} {each}: " in out for each in classes)
    assert train.main(["--resume", *where]) == 0
    with pytest.raises(SystemExit):
        train.main(["--resume", "--data", "mnist", *where])
    assert f"the interrupted run has data {name}, not mnist" in capsys.readouterr().err
    _, metadata = checkpoints.load_checkpoint(tmp_path / "net.pth")
    assert metadata["settings"]["data"] == name and metadata["settings"]["classes"] == classes
    if name == "qmnist":
        predict.predict_images([seven], checkpoint=tmp_path / "net.pth")
    else:
        with pytest.raises(LeNetError, match="was trained on .* predict.py reads digits"):
            predict.predict_images([seven], checkpoint=tmp_path / "net.pth")
    assert train.main(["--epochs", "1", "--limit", "50", *where[2:]]) == 0
    assert "a different one, is " in capsys.readouterr().out
    _, metadata = checkpoints.load_checkpoint(tmp_path / "net.other.pth")
    assert metadata["settings"]["data"] == name


def test_too_few_to_hold_any_out_is_one_line(tmp_path, folder, capsys):
    for path in folder.glob("train/*/*[1-9].png"):
        path.unlink()
    for path in folder.glob("train/*/10.png"):
        path.unlink()
    where = ["--data-dir", str(tmp_path), "--checkpoint", str(tmp_path / "net.pth")]
    assert train.main(["--data", str(folder), "--epochs", "1", *where]) == 1
    assert capsys.readouterr().err.endswith("none is left to train on; more are needed\n")


def test_the_test_set_alone_can_be_scored(tmp_path, monkeypatch, capsys):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (utils.DATA / "MNIST" / "raw").glob("t10k-*"):
        shutil.copy(path, raw)
    monkeypatch.setattr(report, "print_scores", lambda name, model, test_set, *_: print(
        *map(len, test_set)))
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    arguments = ["--evaluate", "--checkpoint", str(utils.SHIPPED), "--data-dir", str(tmp_path)]
    assert train.main(arguments) == 0
    assert capsys.readouterr() == ("10000 10000\n", "")


def test_other_classes_are_not_augmented_as_digits_are():
    ours = recipes.make_settings(data="fashion")["ingredients"]
    assert not set(ours) & {"styles", "negatives", "random-rotation"} and "soap" in ours
    assert "styles" in recipes.make_settings(data="qmnist")["ingredients"]
    assert "data" not in recipes.make_settings(data="mnist")


@pytest.mark.parametrize("arguments, complaint", [
    (["--data", "nothing"], "argument --data: mnist, fashion"),
    (["--data", "tests"], "argument --data: mnist, fashion"),
    (["--data", "fashion", "--mine"], "--mine cannot be combined with --data"),
    (["--data", "fashion", "--evaluate"], "--evaluate cannot be combined with --data")])
def test_what_cannot_be_trained_on_is_one_line(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as exit:
        train.main(arguments)
    err = capsys.readouterr().err
    assert exit.value.code == 2 and err.count("\n") == 1 and complaint in err


def test_what_cannot_be_fetched_is_one_line(tmp_path, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", refuse)
    where = ["--data-dir", str(tmp_path), "--checkpoint", str(tmp_path / "net.pth")]
    assert train.main(["--data", "kmnist", *where]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "kmnist could neither be read nor fetched" in err


def test_the_default_network_is_one_of_digits(monkeypatch, tmp_path):
    monkeypatch.setattr(utils, "CHECKPOINT", tmp_path / "net.pth")
    settings = dict(data="pets", classes=["cat", "dog"])
    checkpoints.save_checkpoint(
        utils.CHECKPOINT, checkpoints.build_network(2).state_dict(), recipe="modern", seed=0,
        epoch=1, valid_loss=0.0, settings=settings)
    assert checkpoints.choose_checkpoint() == (utils.SHIPPED, None)
