"""Training learns, keeps its best weights, repeats itself, and refuses what it can't do."""

import contextlib
import csv
import io

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import distort
import recipe
import report
import train
import utils
from mnist import Batches, standardise
from model import LeNet5
from utils import LeNetError


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
    assert train.train(uneven, model, loss_func, optimizer, "cpu")[2] == pytest.approx(expected, rel=1e-5)


def test_accuracy_is_counted_by_hand(few):
    model, _, _ = make()
    predictions = model(standardise(few[0].float() / 255))[1].argmax(1)
    assert utils.get_accuracy(model, Batches(*few, 64), "cpu") == pytest.approx((predictions == few[1]).float().mean())


def test_best_model_is_a_copy_of_the_best_epoch_and_not_the_last(few, monkeypatch):
    """The validation loss falls for two epochs and rises again: the weights of epoch 2 must come back."""
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
    assert best is not model and not torch.equal(best.classifier[0].weight, model.classifier[0].weight)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_place(few):
    model, loss_func, optimizer = make()
    loader, factors = Batches(*few, 50), iter([1, float("nan"), 1, 1])
    with pytest.raises(LeNetError, match="epoch 1: the loss of batch 2 of 4 is nan.*learning rate"):
        train.training_process(model, lambda logits, labels: next(factors) * loss_func(logits, labels), optimizer,
                               loader, loader, 2, "cpu")


def test_average_is_what_gets_validated_and_kept(few):
    model, loss_func, optimizer = make()
    average = recipe.make_average(model)
    loader = Batches(*few, 50)
    best, _, (_, (valid_loss,)) = train.training_process(
        model, loss_func, optimizer, loader, loader, 1, "cpu", average=average)
    assert train.validate(loader, best, loss_func, "cpu")[1] == pytest.approx(valid_loss)
    assert train.validate(loader, model, loss_func, "cpu")[1] != pytest.approx(valid_loss)


def test_average_follows_its_formula():
    model = LeNet5()
    average, expected = recipe.make_average(model), None
    for t in range(20):
        with torch.no_grad():
            model.classifier[2].bias.fill_(t)
        average.update_parameters(model)
        expected = float(t) if t == 0 else expected + (t - expected) * 9 / (t + 10)
    assert average.module.classifier[2].bias[0].item() == pytest.approx(expected)


def test_schedule_fits_itself_to_the_number_of_steps():
    for steps in (100, 1000):
        optimizer = recipe.make_optimizer(LeNet5(), 0.1, "cpu")
        scheduler, rates = recipe.make_schedule(optimizer, steps), []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step() if len(rates) < steps else None
        assert max(rates) == pytest.approx(0.1) and rates.index(max(rates)) == pytest.approx(0.05 * steps, abs=2)
        assert rates[-1] < 1e-4 and rates[0] < 0.01


def test_paces_multiply_the_rate_of_the_convolutions():
    model = LeNet5()
    for paces in (False, True):
        groups = recipe.make_optimizer(model, 0.1, "cpu", ("paces",) if paces else ()).param_groups
        rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
        for layer, pace in {**recipe.PACES, "classifier.0": 1, "classifier.2": 1}.items():
            for parameter in model.get_submodule(layer).parameters():
                assert rates[id(parameter)] == pytest.approx(0.1 * (pace if paces else 1))


def correlated_gradients(weight, target, generator):
    """Gradients of |weight x - target x|^2 for x whose entries rise and fall together, as pixels do."""
    x = torch.randn(weight.shape[1], 64, generator=generator) * 0.1 + torch.randn(1, 64, generator=generator)
    return (weight - target) @ x @ x.T / 64


def test_rotated_adam_leaves_correlated_inputs_behind():
    """Adam needs many more steps along the direction in which the inputs' differences lie."""
    distances = {}
    for make_optimizer in (torch.optim.Adam, recipe.RotatedAdam):
        generator = torch.Generator().manual_seed(0)
        weight, target = nn.Parameter(torch.zeros(8, 16)), torch.randn(8, 16, generator=generator)
        optimizer = make_optimizer([weight], lr=0.02)
        for _ in range(200):
            weight.grad = correlated_gradients(weight.detach(), target, generator)
            optimizer.step()
        distances[make_optimizer] = (weight - target).norm().item()
    assert distances[recipe.RotatedAdam] < 0.5 * distances[torch.optim.Adam]


def test_rotated_adams_axes_are_the_eigenvectors_of_the_gradients_products():
    generator = torch.Generator().manual_seed(0)
    weight, mix = nn.Parameter(torch.zeros(4, 6)), torch.randn(6, 6, generator=generator)
    optimizer = recipe.RotatedAdam([weight], lr=0.001)
    for _ in range(400):
        weight.grad = torch.randn(4, 6, generator=generator) @ mix
        optimizer.step()
    state = optimizer.state[weight]
    for side in ("left", "right"):
        basis = state[side]
        torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis)), atol=1e-5, rtol=0)
    found = state["right"].T @ (mix.T @ mix) @ state["right"]
    assert (found - found.diag().diag()).norm() < 0.5 * found.diag().norm()
    assert found.diag()[0] == pytest.approx(torch.linalg.eigvalsh(mix.T @ mix).max().item(), rel=0.1)


def test_what_rotated_adam_remembers_turns_with_its_axes():
    generator, remembered = torch.Generator().manual_seed(0), torch.zeros(4, 6)
    weight = nn.Parameter(torch.zeros(4, 6))
    optimizer = recipe.RotatedAdam([weight], lr=0.001, betas=(0.95, 0.99))
    for _ in range(50):
        weight.grad = torch.randn(4, 6, generator=generator)
        remembered.lerp_(weight.grad, 0.05)
        optimizer.step()
    state = optimizer.state[weight]
    torch.testing.assert_close(state["left"] @ state["mean"] @ state["right"].T, remembered, atol=1e-5, rtol=0)


def test_rotated_adam_is_adam_for_biases_and_weights_decay_by_the_rate():
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    optimizers = recipe.RotatedAdam([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for step in range(10):
        ours.grad = theirs.grad = torch.arange(5.0) - step
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    for ingredients in (("decay",), ("decay", "rotation")):
        model = LeNet5()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        recipe.make_optimizer(model, 0.1, "cpu", ingredients).step()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter, before[name] * (0.98 if parameter.ndim > 1 else 1))


def test_the_recipes_optimizers():
    assert type(recipe.make_optimizer(LeNet5(), 0.001, "cpu", recipe.RECIPES["classic"]["ingredients"])) is torch.optim.Adam
    assert type(recipe.make_optimizer(LeNet5(), 0.001, "cpu", recipe.RECIPES["modern"]["ingredients"])) is recipe.RotatedAdam


def test_bfloat16_rounds_what_is_computed_but_not_the_weights(few):
    losses, weights = [], []
    for bfloat16 in (False, True):
        model, loss_func, optimizer = make()
        losses.append(train.train(Batches(*few, 50), model, loss_func, optimizer, "cpu", bfloat16=bfloat16)[2])
        weights.append(model.classifier[0].weight.detach())
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.01)
    assert weights[1].dtype == torch.float32 and not torch.equal(weights[1], weights[1].bfloat16().float())


@pytest.mark.parametrize("names, expected", [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)])
def test_bfloat16_only_where_the_processor_has_it(monkeypatch, names, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: names)
    assert recipe.in_bfloat16(("bfloat16",), "cpu") is expected
    assert not recipe.in_bfloat16((), "cpu") and not recipe.in_bfloat16(("bfloat16",), "cuda")


# Augmentation

def test_affine_turns_counterclockwise_by_the_angle_asked_for():
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 15:17, 24:28] = 1  # a bar to the right of the centre
    turned = distort.warp(image, distort.affine(torch.tensor([torch.pi / 2])))
    assert turned[0, 0, 4:8, 15:17].min() > 0.99 and turned.sum() == pytest.approx(image.sum())


def test_nothing_but_paper_comes_in_from_outside():
    augment = distort.make_augment(recipe.RECIPES["modern"]["ingredients"])
    blank = augment(torch.zeros(64, 1, 32, 32), torch.Generator().manual_seed(0))
    assert blank.abs().max() == 0


def test_augmentation_repeats_itself_stays_in_range_and_keeps_the_ink(training_set):
    images = training_set[0][:256].float() / 255
    augment = distort.make_augment(recipe.RECIPES["modern"]["ingredients"])
    once, again = (augment(images.clone(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(once, again) and not torch.equal(once, images)
    assert once.min() >= 0 and once.max() <= 1 and once.shape == images.shape
    assert 0.7 < once.mean() / images.mean() < 1.4


def test_elastic_field_is_smooth_and_as_large_as_it_says():
    coefficients = distort.random_elastic(500, torch.Generator().manual_seed(0))
    field = (coefficients @ distort.warp_basis()[3:]).view(500, 2, 32, 32).permute(0, 2, 3, 1) * 16  # pixels
    assert field.shape == (500, 32, 32, 2) and field[:, 0, 0].std() == pytest.approx(0.4, abs=0.04)
    assert field.diff(dim=1).abs().max() < 0.6 and field.mean().abs() < 0.02


def test_strokes_get_thicker_and_thinner(training_set):
    images = training_set[0][:100].float() / 255
    changed = distort.random_strokes(images, torch.Generator().manual_seed(0))
    assert (changed[:25] >= images[:25]).all() and (changed[25:50] <= images[25:50]).all()
    assert changed[:25].sum() > 1.1 * images[:25].sum() and changed[25:50].sum() < 0.9 * images[25:50].sum()
    assert torch.equal(changed[50:], images[50:])


def test_expected_calibration_error_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 1, 1])
    # two images at 0.9 of which half are right, two at 0.6 that are right: 2/4 * 0.4 + 2/4 * 0.4
    assert report.expected_calibration_error(probabilities, labels) == pytest.approx(0.4)


# The script

def small(tmp_path, *extra):
    return ["train.py", "--epochs", "2", "--limit", "600", "--batch-size", "100",
            "--checkpoint", tmp_path / "out" / "net.pth", "--assets-dir", tmp_path / "pictures", *extra]


@pytest.fixture(scope="module")
def trained(load_small, tmp_path_factory):
    """A run in this process: (its folder, what it printed). test_dry_run_leaves_no_trace starts a real one."""
    folder, out, err = tmp_path_factory.mktemp("run"), io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(train, "load_data", load_small)
        assert train.main([str(argument) for argument in small(folder)[1:]]) == 0
    assert err.getvalue() == ""
    return folder, out.getvalue()


def test_a_run_writes_what_it_says(trained):
    folder, out = trained
    lines = out.splitlines()
    rows = [line for line in lines if line[:5].strip().isdigit()]
    assert len(rows) == 2 and all(len(row.rstrip(" *")) == len(report.HEADER) for row in rows)
    history = list(csv.DictReader(open(folder / "out" / "history.csv")))
    assert [row["epoch"] for row in history] == ["1", "2"]
    names = ["augmentation.png", "confusion_matrix.png", "loss_curves.png", "mistakes.png"]
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == names
    for name in names:
        assert (folder / "pictures" / name).read_bytes().startswith(b"\x89PNG")
        assert name in out
    model, metadata = utils.load_checkpoint(folder / "out" / "net.pth")
    best = min(history, key=lambda row: float(row["valid_loss"]))
    assert metadata["epoch"] == int(best["epoch"]) and metadata["recipe"] == "modern"
    assert metadata["valid_loss"] == pytest.approx(float(best["valid_loss"]), rel=1e-5)
    assert f"test accuracy {metadata['test_accuracy']:.2f} %" in out


def test_the_same_seed_gives_the_same_weights(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "write_figures", lambda *_: [])  # slow, and looked at elsewhere
    weights = []
    for seed, name in ((5, "one"), (5, "same"), (6, "other")):
        arguments = small(tmp_path, "--seed", seed, "--checkpoint", tmp_path / name / "net.pth")
        assert train.main([str(argument) for argument in arguments[1:]]) == 0
        weights.append(utils.load_checkpoint(tmp_path / name / "net.pth")[0].state_dict())
    one, same, other = weights
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_several_seeds_end_in_their_mean(small_data, tmp_path, capsys):
    arguments = small(tmp_path, "--seeds", "2", "--epochs", "1")
    assert train.main([str(argument) for argument in arguments[1:]]) == 0
    table = capsys.readouterr().out.split("accuracy in %")[1].splitlines()
    seed0, seed1, mean, _ = ([float(value) for value in line.split()[-6:]] for line in table[1:5])
    assert seed0[0] == pytest.approx(0.4 * (100 - seed0[2]), abs=0.01) and table[0].split()[:3] == ["errors", "valid", "upright"]
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(seed0, seed1)], abs=0.01) and seed0 != seed1
    assert utils.load_checkpoint(tmp_path / "out" / "net.pth")[1]["seed"] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(small_data, tmp_path):
    arguments = small(tmp_path, "--device", "cuda")
    assert train.main([str(argument) for argument in arguments[1:]]) == 0
    assert utils.load_checkpoint(tmp_path / "out" / "net.pth")[0].classifier[0].weight.device.type == "cpu"


def test_live_redraws_the_curves_after_each_epoch(small_data, tmp_path, monkeypatch):
    drawn, save_figure = [], utils.save_figure

    def no_display(*args, **kwargs):
        raise LeNetError("no window")

    def save(figure, path):
        drawn.extend([len(figure.axes[0].lines[0].get_xdata())] if path.name == "loss_curves.png" else [])
        save_figure(figure, path)

    monkeypatch.setattr(utils, "save_figure", save)
    monkeypatch.setattr(utils, "open_window", no_display)
    assert train.main([str(argument) for argument in small(tmp_path, "--live")[1:]]) == 0
    assert drawn == [1, 2, 2]  # points on the curve: after each epoch, and at the end


def test_evaluate_says_what_training_said(trained, small_data, capsys):
    folder, out = trained
    assert train.main(["--evaluate", "--checkpoint", str(folder / "out" / "net.pth"),
                       "--assets-dir", str(folder / "pictures")]) == 0
    again = capsys.readouterr().out
    accuracy = out.split("test accuracy ")[1].split(" %")[0]
    assert f"test accuracy {accuracy} %" in again
    assert "+-45" in again and "digit 9" in again and "calibration error" in again


def test_dry_run_leaves_no_trace(run):
    def state():
        files = [utils.CHECKPOINT, *utils.CHECKPOINT.parent.iterdir(), *utils.ASSETS.iterdir()]
        return {path: path.stat().st_mtime_ns for path in files}

    before = state()
    process = run("train.py", "--dry-run")
    assert process.returncode == 0 and "test accuracy" in process.stdout and state() == before


@pytest.mark.parametrize("arguments, complaint", [
    (["--epochs", "0"], "--epochs: must be at least 1"),
    (["--epochs", "two"], "--epochs: invalid int value"),
    (["--lr", "nan"], "--lr: must be a positive finite number"),
    (["--lr", "0"], "--lr: must be a positive finite number"),
    (["--lr", "inf"], "--lr: must be a positive finite number"),
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
    (["--checkpoint", "Model"], "Model is a folder"),
    (["--evaluate", "--epochs", "3"], "--epochs has no meaning"),
    (["--resume", "--seeds", "2"], "--seeds has no meaning"),
    (["--evaluate", "--live"], "--live has no meaning"),
    (["--resume", "--evaluate"], "--resume has no meaning"),
    (["--epoch", "3"], "unrecognized arguments: --epoch"),
])
def test_refusals_are_one_line_with_status_2(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as exit:
        train.main(arguments)
    out, err = capsys.readouterr()
    assert exit.value.code == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("train.py: ") and complaint in err


def test_failed_work_is_one_line_with_status_1(capsys, tmp_path):
    assert train.main(["--evaluate", "--checkpoint", str(tmp_path / "nothing.pth"), "--assets-dir", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err == f"train.py: {tmp_path / 'nothing.pth'}: no such checkpoint; python train.py makes one\n"
