"""Whatever network model.py draws is the network that trains, is saved, resumed and read with."""

import itertools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import predict
import train
import utils
from figures import layers, readings
from model import LeNet5
from training import checkpoints, fast_cpu, recipes, report
from utils import LeNetError

SOURCE = (utils.ROOT / "model.py").read_text()
EDITS = {  # what a student replaces in model.py, and by what
    "none": [],
    "ReLU": [("nn.Tanh()", "nn.ReLU()")],
    "leaky": [("nn.Tanh()", "nn.LeakyReLU(0.3)")],
    "leakier": [("nn.Tanh()", "nn.LeakyReLU(0.6)")],
    "MaxPool": [("AvgPool2d", "MaxPool2d")],
    "wider": [("(1, 6,", "(1, 8,"), ("(6, 16,", "(8, 16,")],
    "dropout": [("nn.Linear(84, n_classes)", "nn.Dropout(0.2), nn.Linear(84, n_classes)")],
    "deeper": [("nn.Linear(84, n_classes)",
                "nn.Linear(84, 50), nn.Tanh(), nn.Linear(50, n_classes)")],
    "BatchNorm": [("nn.AvgPool2d(kernel_size=2)", "nn.AvgPool2d(2), nn.LazyBatchNorm2d()")],
    "forward": [("features.flatten(1)", "torch.relu(features.flatten(1))")],
    "only logits": [("return logits, torch.softmax(logits, dim=1)", "return logits")],
}
REFUSED = {
    "26 classes": [("n_classes=10", "n_classes=26")],
    "too few": [("nn.Linear(84, n_classes)", "nn.Linear(84, 9)")],
    "does not fit": [("nn.Linear(84, n_classes)", "nn.Linear(83, n_classes)")],
    "no logits": [("return logits, torch.softmax(logits, dim=1)", "return None")],
}


def edit(name):
    """Return model.py's text with one of the edits."""
    text = SOURCE
    for old, new in (EDITS | REFUSED)[name]:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def draw(monkeypatch):
    """draw(name): from now on, model.py is edited so."""
    def use(name):
        room = {}
        exec(compile(edit(name), "model.py", "exec"), room)
        monkeypatch.setattr(checkpoints, "LeNet5", room["LeNet5"])

    return use


@pytest.mark.parametrize("name", EDITS)
def test_its_gradients_are_autograds(draw, training_set, name):
    draw(name)
    images, labels = (part[:256] for part in training_set)
    settings = dict(recipes.RECIPES["modern"], epochs=1, seed=0, batch_size=256,
                    ingredients=["im2col"])
    with fast_cpu.torch_threads(2):
        model, _, loader, how = recipes.prepare(settings, (images, labels), "cpu")
        ((x, y),) = loader
        results = []
        for gradients in (how["gradients"], fast_cpu.autograd_gradients):
            torch.manual_seed(1)  # of the dropout
            results.append(gradients(model, nn.CrossEntropyLoss(), x, y))
    (loss, grads), (expected, theirs) = results
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    for a, b in zip(grads, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)
    products = getattr(how["gradients"], "keywords", {}).get("im2col", False)
    assert products == (name in ("none", "wider", "only logits"))


@pytest.mark.parametrize("name", ["ReLU", "dropout", *(
    pytest.param(name, marks=pytest.mark.slow)
    for name in EDITS if name not in ("none", "ReLU", "dropout"))])
def test_it_trains_is_resumed_scored_and_read_with(
        draw, small_data, seven, monkeypatch, tmp_path, capsys, name):
    def stop(history, is_best):
        raise KeyboardInterrupt

    draw(name)
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    where = ["--checkpoint", str(tmp_path / "net.pth")]
    few = ["--epochs", "2", "--limit", "100", "--batch-size", "50", *where]
    few += ["--without", "styles", "--without", "negatives"]
    assert train.main(few) == 0
    straight = checkpoints.load_checkpoint(tmp_path / "net.pth")[0].state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(report, "epoch_line", stop)
        assert train.main(few) == 130
    assert train.main(["--resume", *where]) == 0
    assert train.main(["--evaluate", *where]) == 0
    model = checkpoints.load_checkpoint(tmp_path / "net.pth")[0]
    assert all(torch.equal(tensor, straight[key]) for key, tensor in model.state_dict().items())
    predict.predict_images([seven], checkpoint=tmp_path / "net.pth")
    says = "so autograd computes its gradients" in capsys.readouterr().out
    assert says == (name not in ("wider", "only logits"))


def test_no_file_is_read_into_another_network(draw, tmp_path):
    """Neither one that says its network nor, by any but the lecture's, a bare state dict."""
    for name in EDITS:
        draw(name)
        torch.manual_seed(0)
        checkpoints.save_checkpoint(tmp_path / name, checkpoints.build_network().state_dict(),
                                    recipe="classic", seed=0, epoch=1)
    torch.save(torch.load(tmp_path / "none")["weights"], tmp_path / "bare")
    same = {"none", "only logits", "bare"}
    for ours, theirs in itertools.product(EDITS, [*EDITS, "bare"]):
        draw(ours)
        if ours == theirs or {ours, theirs} <= same:
            checkpoints.load_checkpoint(tmp_path / theirs)
        elif (ours, theirs) != ("forward", "bare"):  # nothing in the file tells them apart
            with pytest.raises(LeNetError, match="another network|has shape") as error:
                checkpoints.load_checkpoint(tmp_path / theirs)
            assert "\n" not in str(error.value) and str(tmp_path / theirs) in str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_one_line_that_names_the_place(
        draw, small_data, checkpoint, tmp_path, capsys, name):
    draw(name)
    few = ["--epochs", "1", "--limit", "100", "--checkpoint", str(tmp_path / "net.pth")]
    assert train.main(few) == 1
    assert train.main(["--evaluate", "--checkpoint", str(checkpoint)]) == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2 and all("model.py: LeNet5" in line for line in err)


def test_another_network_that_is_replaced_is_kept(draw, small_data, checkpoint, monkeypatch,
                                                  tmp_path, capsys):
    shutil.copy(checkpoint, tmp_path / "net.pth")
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    draw("ReLU")
    assert train.main(["--epochs", "1", "--limit", "100", "--checkpoint",
                       str(tmp_path / "net.pth")]) == 0
    assert "a different one, is " in capsys.readouterr().out
    assert (tmp_path / "net.other.pth").read_bytes() == checkpoint.read_bytes()
    checkpoints.load_checkpoint(tmp_path / "net.pth")
    draw("none")
    with pytest.raises(LeNetError, match="ReLU where model.py has Tanh"):
        checkpoints.load_checkpoint(tmp_path / "net.pth")


def test_stages_have_the_papers_names(draw):
    draw("deeper")
    names = [name for name, *_ in layers.trace_stages(checkpoints.build_network())]
    assert names == ["Input", "C1", "S2", "C3", "S4", "C5", "F6", "F7", "Output"]
    draw("ReLU")
    stages = layers.trace_stages(checkpoints.build_network())
    assert [name for name, *_ in stages] == ["Input", "C1", "S2", "C3", "S4", "C5", "F6", "Output"]
    assert all((output >= 0).all() for _, output, *_ in stages[1:-1])  # with their activation


class Reused(LeNet5):
    """LeNet-5 with one pooling layer, one activation, each called wherever it is due."""

    def __init__(self):
        super().__init__()
        self.pool, self.act = nn.AvgPool2d(2), nn.Tanh()
        c1, _, _, c3, _, _, c5, _ = self.feature_extractor
        f6, _, self.last = self.classifier
        self.feature_extractor, self.classifier = nn.ModuleList([c1, c3, c5]), f6

    def forward(self, x):
        for i, layer in enumerate(self.feature_extractor):
            x = self.act(layer(x))
            x = self.pool(x) if i < 2 else x
        logits = self.last(self.act(self.classifier(x.flatten(1))))
        return logits, logits.softmax(1)


def test_a_layer_that_is_called_twice_is_two_stages():
    view = (np.random.default_rng(0).random((28, 28)) * 255).astype(np.uint8)
    torch.manual_seed(0)
    plain, reused = LeNet5(), Reused()
    reused.load_state_dict(dict(zip(reused.state_dict(), plain.state_dict().values())))
    seen, kinds, _ = readings.watch(reused, view)
    expected, same_kinds, _ = readings.watch(plain, view)
    assert list(seen) == list(expected) and kinds == same_kinds
    assert all(np.allclose(seen[name], expected[name], atol=1e-6) for name in seen)


@pytest.mark.slow
def test_a_copy_with_an_edited_file_learns(tmp_path):
    """From the command line; with the default recipe it learns as without the fast path."""
    for folder in ("training", "reading", "figures"):
        shutil.copytree(utils.ROOT / folder, tmp_path / folder)
    for script in ("train.py", "predict.py", "utils.py"):
        shutil.copy(utils.ROOT / script, tmp_path)
    (tmp_path / "model.py").write_text(edit("ReLU").replace("AvgPool2d", "MaxPool2d"))
    os.symlink(utils.DATA, tmp_path / "data")
    accuracies = []
    for more in ([], ["--without", "im2col"]):
        process = subprocess.run(
            [sys.executable, "train.py", "--epochs", "2", "--limit", "5000", *more], cwd=tmp_path,
            capture_output=True, text=True, timeout=600)
        assert process.returncode == 0, process.stderr
        accuracies.append(float(process.stdout.split("test accuracy ")[1].split()[0]))
    assert accuracies[0] == pytest.approx(accuracies[1], abs=5)
