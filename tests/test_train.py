"""Training learns, keeps its best weights, repeats itself, and refuses what it can't do."""

import contextlib
import csv
import functools
import io
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from figures import window
from training import checkpoints
from training import fast_cpu
from training import recipes
from training import report, runs
import train
import utils
from training.data import Batches, split_validation
from utils import standardise
from model import LeNet5
from utils import LeNetError
from conftest import write_idx


@pytest.fixture
def few(training_set):
    """200 training digits."""
    images, labels = training_set
    return images[:200], labels[:200]


def loaders(images, labels):
    """The same digits in our iterable and in an ordinary DataLoader."""
    inputs = standardise(images.float() / 255)
    return Batches(images, labels, 50), DataLoader(TensorDataset(inputs, labels), batch_size=50)


def make(seed=0, lr=0.003):
    torch.manual_seed(seed)
    model = LeNet5()
    return model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=lr)


def test_one_batch_can_be_learnt_by_heart(few):
    model, loss_func, optimizer = make()
    loader = Batches(few[0][:32], few[1][:32], 32)
    losses = [train.train(loader, model, loss_func, optimizer, "cpu")[2] for _ in range(60)]
    assert losses[-1] < 0.01 < losses[0]
    assert utils.get_accuracy(model, loader, "cpu") == 1


def test_train_and_validate_take_a_dataloader_too(few):
    results = []
    for loader in loaders(*few):
        model, loss_func, optimizer = make()
        _, _, train_loss = train.train(loader, model, loss_func, optimizer, "cpu")
        same, valid_loss = train.validate(loader, model, loss_func, "cpu")
        assert same is model
        results.append((train_loss, valid_loss, utils.get_accuracy(model, loader, "cpu")))
    assert results[0] == pytest.approx(results[1])


def test_losses_are_means_over_images_whatever_the_batches(few):
    model, loss_func, optimizer = make(lr=1e-12)  # stands still
    expected = loss_func(model(standardise(few[0].float() / 255))[0], few[1]).item()
    uneven = Batches(*few, 150)  # 150 and 50 images
    assert train.validate(uneven, model, loss_func, "cpu")[1] == pytest.approx(expected)
    assert train.train(uneven, model, loss_func, optimizer, "cpu")[2] == pytest.approx(
        expected, rel=1e-5
    )


def test_accuracy_is_counted_by_hand(few):
    model, _, _ = make()
    predictions = model(standardise(few[0].float() / 255))[1].argmax(1)
    assert utils.get_accuracy(model, Batches(*few, 64), "cpu") == pytest.approx(
        (predictions == few[1]).float().mean()
    )


def test_best_model_is_a_copy_of_the_best_epoch_and_not_the_last(few, monkeypatch):
    """The validation loss falls for two epochs and rises again: the weights of epoch 2 must come
    back."""
    model, loss_func, optimizer = make()
    loader, seen, losses = Batches(*few, 50), [], iter([0.5, 0.2, 0.3, 0.4])

    def evaluate(model, *_):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(losses), 1

    monkeypatch.setattr(utils, "evaluate", evaluate)
    best, _, (train_losses, valid_losses) = train.training_process(
        model, loss_func, optimizer, loader, loader, 4, "cpu")
    assert valid_losses == [0.5, 0.2, 0.3, 0.4] and len(train_losses) == 4
    for name, tensor in best.state_dict().items():
        assert torch.equal(tensor, seen[1][name])
    assert best is not model and not torch.equal(
        best.classifier[0].weight, model.classifier[0].weight
    )


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_place(few):
    model, loss_func, optimizer = make()
    loader, factors = Batches(*few, 50), iter([1, float("nan"), 1, 1])
    with pytest.raises(LeNetError, match="epoch 1: the loss of batch 2 of 4 is nan.*learning rate"):
        train.training_process(
            model,
            lambda logits, labels: next(factors) * loss_func(logits, labels),
            optimizer,
            loader,
            loader,
            2,
            "cpu",
        )


def test_bfloat16_rounds_what_is_computed_but_not_the_weights(few):
    losses, weights = [], []
    for bfloat16 in (False, True):
        model, loss_func, optimizer = make()
        gradients = functools.partial(fast_cpu.gradients, bfloat16=bfloat16)
        losses.append(train.train(Batches(*few, 50), model, loss_func, optimizer, "cpu",
                                  gradients=gradients)[2])
        weights.append(model.classifier[0].weight.detach())
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.01)
    assert weights[1].dtype == torch.float32
    assert not torch.equal(weights[1], weights[1].bfloat16().float())


class Doubles(TorchDispatchMode):
    """Notes every operation that makes numbers of 64 bits with a point."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        parts = result if isinstance(result, (tuple, list)) else [result]
        if any(isinstance(part, torch.Tensor) and part.dtype == torch.float64 for part in parts):
            self.found.add(str(operation))
        return result


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_nothing_is_computed_in_float64(few, name):
    """Apple's MPS has none: a run there would stop at the first such tensor."""
    settings = dict(recipes.RECIPES[name], epochs=2, batch_size=100, seed=0)
    with Doubles() as doubles:
        model, optimizer, loader, extras = recipes.prepare(settings, few, "cpu")
        best, *_ = train.training_process(
            model, nn.CrossEntropyLoss(), optimizer, loader, Batches(*few, 100), 2, "cpu", **extras
        )
        report.score(best, few, "cpu")
    assert doubles.found == set()
    with doubles:
        torch.ones(1).double()
    assert doubles.found  # it would have been seen


# Any number of steps

@pytest.fixture(scope="module")
def train_a_little(training_set):
    """train_a_little(epochs, limit, batch_size) follows the default recipe, on two threads if the
    batches are to be cut."""
    def train_on(epochs, limit, batch_size):
        images, labels = (part[:limit] for part in training_set)
        settings = dict(recipes.RECIPES["modern"], epochs=epochs, batch_size=batch_size, seed=0)
        with fast_cpu.torch_threads(2 if batch_size >= 2 * fast_cpu.SMALLEST_CHUNK else 1):
            model, optimizer, loader, extras = recipes.prepare(settings, (images, labels), "cpu")
            _, _, (losses, _) = train.training_process(
                model,
                nn.CrossEntropyLoss(),
                optimizer,
                loader,
                Batches(images, labels, 1000),
                epochs,
                "cpu",
                **extras,
            )
        assert len(losses) == epochs and optimizer.param_groups[0]["lr"] > 0

    return train_on


@pytest.mark.slow
@hypothesis.settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data(), epochs=st.integers(1, 6), limit=st.integers(1, 300))
def test_any_short_run_trains(train_a_little, data, epochs, limit):
    least = min(limit, 1 + limit * epochs // 15)  # some fifteen steps: to be quick
    train_a_little(epochs, limit, data.draw(st.integers(least, limit), "batch size"))


@pytest.mark.parametrize("epochs, limit, batch_size", [
    pytest.param(5, 2000, 512, marks=pytest.mark.slow),  # twenty steps: a twentieth of them is one
    (20, 2, 2), (1, 1, 1), (6, 1, 1), (1, 30, 1),
    pytest.param(2, 513, 512, marks=pytest.mark.slow), (1, 257, 256)])
def test_short_runs_of_awkward_lengths_train(train_a_little, epochs, limit, batch_size):
    train_a_little(epochs, limit, batch_size)


@hypothesis.settings(deadline=None, derandomize=True)
@given(steps=st.integers(1, 10_000))
def test_any_number_of_steps_has_a_schedule(steps):
    optimizer = recipes.make_optimizer(LeNet5(), 0.1, "cpu")
    rate = recipes.make_schedule(optimizer, steps).lr_lambdas[0]
    assert all(0 < rate(step) <= 1 for step in {0, 1, steps // 20, steps // 2, steps - 1, steps})


# The script

def small(tmp_path, *extra):
    return [
        "train.py",
        "--epochs",
        "2",
        "--limit",
        "600",
        "--batch-size",
        "100",
        "--checkpoint",
        tmp_path / "net.pth",
        "--assets-dir",
        tmp_path / "pictures",
        *extra,
    ]


@pytest.fixture(scope="module")
def trained(load_small, tmp_path_factory):
    """A run in this process: (its folder, what it printed). test_dry_run_leaves_no_trace starts a
    real one."""
    folder, out, err = tmp_path_factory.mktemp("run"), io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(runs, "load_data", load_small)
        assert train.main([str(argument) for argument in small(folder)[1:]]) == 0
    assert err.getvalue() == ""
    return folder, out.getvalue()


def test_a_run_writes_what_it_says(trained, training_set):
    folder, out = trained
    lines = out.splitlines()
    rows = [line for line in lines if line[:5].strip().isdigit()]
    assert len(rows) == 2 and all(len(row.rstrip(" *")) == len(report.HEADER) for row in rows)
    history = list(csv.DictReader(open(folder / "net.history.csv")))
    assert [row["epoch"] for row in history] == ["1", "2"]
    names = ["augmentation.png", "confusion_matrix.png", "loss_curves.png", "mistakes.png"]
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == names
    for name in names:
        assert (folder / "pictures" / name).read_bytes().startswith(b"\x89PNG")
        assert name in out
    model, metadata = checkpoints.load_checkpoint(folder / "net.pth")
    best = min(history, key=lambda row: float(row["valid_loss"]))
    assert metadata["epoch"] == int(best["epoch"]) and metadata["recipe"] == "modern"
    assert metadata["valid_loss"] == pytest.approx(float(best["valid_loss"]), rel=1e-5)
    assert f"test accuracy {metadata['test_accuracy']:.2f} %" in out
    plain = Batches(*(part[:600] for part in split_validation(*training_set)[0]), 1000)
    learnt = 100 * utils.get_accuracy(model, plain, "cpu")
    assert float(best["train_accuracy"]) == pytest.approx(learnt, rel=1e-5)


def test_the_same_seed_gives_the_same_weights(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "write_figures", lambda *_: [])  # slow, and looked at elsewhere
    weights = []
    for seed, name in ((5, "one"), (5, "same"), (6, "other")):
        (tmp_path / name).mkdir()
        arguments = small(tmp_path, "--seed", seed, "--device", "cpu",
                          "--checkpoint", tmp_path / name / "net.pth")
        assert train.main([str(argument) for argument in arguments[1:]]) == 0
        weights.append(checkpoints.load_checkpoint(tmp_path / name / "net.pth")[0].state_dict())
    one, same, other = weights
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_several_seeds_end_in_their_mean(small_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    arguments = small(tmp_path, "--seeds", "2", "--epochs", "1")
    assert train.main([str(argument) for argument in arguments[1:]]) == 0
    table = capsys.readouterr().out.split("accuracy in %: ")[1].splitlines()[1:]
    seed0, seed1, mean, _ = ([float(value) for value in line.split()[-6:]] for line in table[1:5])
    assert seed0[0] == pytest.approx(0.4 * (100 - seed0[2]), abs=0.01) and table[0].split()[:3] == [
        "errors",
        "valid",
        "upright",
    ]
    assert (
        mean == pytest.approx([(a + b) / 2 for a, b in zip(seed0, seed1)], abs=0.01)
        and seed0 != seed1
    )
    assert checkpoints.load_checkpoint(tmp_path / "net.pth")[1]["seed"] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(small_data, tmp_path):
    arguments = small(tmp_path, "--device", "cuda")
    assert train.main([str(argument) for argument in arguments[1:]]) == 0
    assert (
        checkpoints.load_checkpoint(tmp_path / "net.pth")[0]
        .classifier[0]
        .weight.device.type
        == "cpu"
    )


@pytest.mark.slow
def test_live_redraws_the_curves_after_each_epoch(small_data, tmp_path, monkeypatch):
    drawn, save_figure = [], window.save_figure

    def no_display(*args, **kwargs):
        raise LeNetError("no window")

    def save(figure, path):
        drawn.extend(
            [len(figure.axes[0].lines[0].get_xdata())]
            if path.name in ("live.png", "loss_curves.png")
            else []
        )
        save_figure(figure, path)

    monkeypatch.setattr(window, "save_figure", save)
    monkeypatch.setattr(window, "open_window", no_display)
    assert train.main([str(argument) for argument in small(tmp_path, "--live")[1:]]) == 0
    assert drawn == [1, 2, 2]  # points on the curve: after each epoch, and at the end


def test_evaluate_says_what_training_said(trained, small_data, capsys):
    folder, out = trained
    assert train.main(["--evaluate", "--checkpoint", str(folder / "net.pth"),
                       "--assets-dir", str(folder / "pictures")]) == 0
    again = capsys.readouterr().out
    accuracy = out.split("test accuracy ")[1].split(" %")[0]
    assert f"net.pth: test accuracy {accuracy} %" in again
    assert "written: " in again and "mistakes.png" in again
    assert "+-45" in again and "digit 9" in again and "calibration error" in again


def test_the_default_checkpoint_is_that_however_it_is_written(monkeypatch):
    for folder, name in (utils.ROOT, "Model/LeNet5.pth"), (utils.DATA, "../Model/LeNet5.pth"):
        monkeypatch.chdir(folder)
        args = train.get_parser().parse_args(["--checkpoint", name])
        train.check(args)
        assert args.checkpoint == utils.CHECKPOINT
        assert (args.pictures, args.runs) == (utils.ASSETS, utils.ROOT / "runs")


@pytest.mark.slow
def test_dry_run_leaves_no_trace(run):
    def state():
        folders = utils.SHIPPED.parent, utils.ASSETS, utils.ROOT
        return {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()
                if path.name != "__pycache__"}

    before = state()
    process = run("train.py", "--dry-run", "--live")
    assert process.returncode == 0 and "test accuracy" in process.stdout and state() == before
    assert process.stderr == ""


@pytest.mark.parametrize("arguments, complaint", [
    (["--epochs", "0"], "--epochs: must be at least 1"),
    (["--epochs", "two"], "--epochs: invalid int value"),
    (["--lr", "nan"], "--lr: must be at least 1e-30"),
    (["--lr", "0"], "--lr: must be at least 1e-30"),
    (["--lr", "inf"], "--lr: must be at least 1e-30"),
    (["--batch-size", "55001"], "more than the 55000 training images"),
    (["--batch-size", "20", "--limit", "10"], "more than the 10 training images"),
    (["--limit", "0"], "--limit: must be at least 1"),
    (["--seed", "-1"], "--seed: must be in"),
    (["--seeds", "0"], "--seeds: must be at least 1"),
    (["--device", "cuda:99"], "'cuda:99' is not available"),
    (["--device", "toaster"], "'toaster' is not available"),
    (["--device", "meta"], "'meta' is not available"),
    (["--recipe", "secret"], "--recipe: invalid choice"),
    (["--recipe", "classic", "--without", "affine"], "the classic recipe has no affine"),
    (["--assets-dir", "model.py"], "--assets-dir: can't write in model.py"),
    (["--checkpoint", "model.py/net.pth"], "--checkpoint: can't write in model.py"),
    (["--checkpoint", "nosuch/net.pth"], "--checkpoint: can't write in nosuch (No such file"),
    (["--assets-dir", "nosuch/here"], "--assets-dir: can't write in nosuch/here (No such file"),
    (["--checkpoint", "Model"], "Model is a folder"),
    (["--evaluate", "--epochs", "3"], "--evaluate cannot be combined with --epochs"),
    (["--resume", "--seeds", "2"], "not allowed with argument"),
    (["--evaluate", "--live"], "--evaluate cannot be combined with --live"),
    (["--resume", "--evaluate"], "not allowed with argument"),
    (["--epoch", "3"], "unrecognized arguments: --epoch"),
])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_refusals_are_one_line_with_status_2(capsys, arguments, complaint, dry):
    """A dry run refuses what the real one would."""
    with pytest.raises(SystemExit) as exit:
        train.main([*arguments, *dry])
    out, err = capsys.readouterr()
    if dry and {"--resume", "--evaluate"} & {*arguments}:
        complaint = "not allowed with argument"
    assert exit.value.code == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("train.py: ") and complaint in err


def test_failed_work_is_one_line_with_status_1(capsys, tmp_path):
    assert (
        train.main(
            [
                "--evaluate",
                "--checkpoint",
                str(tmp_path / "nothing.pth"),
                "--assets-dir",
                str(tmp_path),
            ]
        )
        == 1
    )
    out, err = capsys.readouterr()
    assert (
        out == ""
        and err
        == f"train.py: {tmp_path / 'nothing.pth'}: no such checkpoint; python train.py makes one\n"
    )


def test_a_training_of_no_epochs_is_refused():
    with pytest.raises(ValueError, match="epochs is 0"):
        train.training_process(None, None, None, None, None, 0, "cpu")


def test_a_run_that_learned_nothing_says_so(small_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    few = ["--epochs", "1", "--limit", "100", "--batch-size", "100", "--lr", "1e-9"]
    where = ["--checkpoint", str(tmp_path / "net.pth"), "--without", "schedule"]
    assert train.main([*few, *where]) == 0
    assert "near chance" in capsys.readouterr().out


@pytest.mark.slow
def test_deterministic_weights_do_not_depend_on_the_instructions(load_small, tmp_path, monkeypatch):
    """Whatever torch would choose on this processor, or is told to choose by the environment."""
    train_set, _, test_set = load_small(None, "cpu", 1000)
    for part, (images, labels) in ("train", train_set), ("test", test_set):
        name = f"{tmp_path}/QMNIST/raw/qmnist-{part}"
        write_idx(Path(f"{name}-images-idx3-ubyte"), images[:, 0].numpy(), 8)
        labels = np.pad(labels.numpy()[:, None], ((0, 0), (0, 7))).astype(">i4")
        write_idx(Path(f"{name}-labels-idx2-int"), labels, 12)
    weights = []
    for capability in "default", "avx2":
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", capability)
        net = tmp_path / f"{capability}.pth"
        subprocess.run([sys.executable, "train.py", "--deterministic", "--epochs", "1", "--data",
                        "qmnist", "--data-dir", tmp_path, "--checkpoint", net],
                       cwd=utils.ROOT, check=True)
        weights.append(checkpoints.load_checkpoint(net)[0].state_dict())
    for other in weights[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in weights[0].items())
