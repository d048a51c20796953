"""Train LeNet-5 on MNIST.

    python train.py                       the default recipe, a minute and a half on two CPU cores
    python train.py --epochs 5            a short run for the impatient
    python train.py --recipe classic      the lecture to the letter: Adam, lr 0.001, batch 64, 30 epochs
    python train.py --seeds 5             seeds 0..4 one after the other, mean and standard deviation
    python train.py --live                the loss curves redrawn after every epoch, in a window if there is a display
    python train.py --resume              go on with a run that was interrupted
    python train.py --evaluate            score the checkpoint on the test set, upright and turned

Writes the weights of the epoch with the lowest validation loss to Model/LeNet5.pth, the epochs' figures to
Model/history.csv, and loss curves, confusion matrix, mistakes and the network's picture to Assets/.
"""

import argparse
import copy
import csv
import functools
import io
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import utils
from model import LeNet5
from utils import Batches, LeNetError

RECIPES = {
    # The lecture's. Nothing but Adam.
    "classic": dict(epochs=30, batch_size=64, lr=0.001, ingredients=()),
    # Ours: what each ingredient is worth is in the README's ablation table.
    "modern": dict(epochs=40, batch_size=512, lr=0.0045, ingredients=(
        "rotation", "decay", "paces", "schedule", "averaging", "affine", "turns", "elastic", "strokes", "bfloat16")),
}


# ---------------------------------------------------------------------------------------------------------------------
# Augmentation: each function takes float images (N, 1, 32, 32), 0 paper .. 1 ink, on any device, and a CPU generator,
# so that the same seed distorts alike on every device. What comes in from outside the picture is 0: paper.

def uniform(n, limit, generator):
    """Return n random numbers, uniform in -limit .. limit."""
    return (2 * torch.rand(n, generator=generator) - 1) * limit


@functools.cache
def warp_basis():
    """Return what every warp is a sum of, float (39, 1024), one value for each pixel: x, y, 1 and 36 bumps.

    x and y are those of the pixels' centres, in halves of the side from the middle; the bumps are bicubic, one around
    each knot of a 6x6 grid.
    """
    centres = torch.arange(-31, 32, 2) / 32
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    bump = F.interpolate(torch.eye(6)[None, None], size=(32, 6), mode="bicubic", align_corners=True)[0, 0]  # (32, 6)
    return torch.cat([torch.stack([x, y, torch.ones(32, 32)]).flatten(1), torch.kron(bump, bump).T])


def warp(images, coefficients):
    """Return images with each pixel taken, bilinearly, from another place.

    coefficients, float (N, 2, K), say from where: x and y of the place are sums of the first K functions of warp_basis().
    """
    basis = warp_basis()[:coefficients.shape[2]].to(images.device)
    places = coefficients.to(images.device) @ basis  # (N, 2, 1024), one small matrix product for the whole batch
    grid = places.view(-1, 2, 32, 32).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, align_corners=False)


def affine(radians, scale_x=1.0, scale_y=1.0, shear=0.0, shift=0.0):
    """Return the coefficients (N, 2, 3) of N affine maps about the middle.

    radians, scales and shear have shape (N,); shift has shape (2, N), in halves of the side.
    """
    cos, sin = radians.cos(), radians.sin()
    x, y = torch.broadcast_to(torch.as_tensor(shift), (2, len(radians)))
    return torch.stack([cos / scale_x, (shear * cos - sin) / scale_x, x,
                        sin / scale_y, (shear * sin + cos) / scale_y, y], dim=1).view(-1, 2, 3)


def turn(images, degrees, generator):
    """Turn each image by its own angle, uniform in +-degrees."""
    return warp(images, affine(torch.deg2rad(uniform(len(images), degrees, generator))))


def random_affine(n, generator, turns=True):
    """Return the coefficients of n random affine maps (LeCun et al. 1998, section III.A; Simard et al. 2003).

    All uniform: scale e^(+-0.15), width against height e^(+-0.12), shear +-0.15, shift +-2 pixels, angle +-15 degrees.
    With turns, 6 % of the images get an angle in +-45 instead: enough to learn to read them, and few enough not to
    cost upright digits their accuracy.
    """
    degrees = uniform(n, 15, generator)
    if turns:
        rare = torch.rand(n, generator=generator) < 0.06
        degrees = torch.where(rare, uniform(n, 45, generator), degrees)
    scale_x = uniform(n, 0.15, generator).exp()
    scale_y = scale_x * uniform(n, 0.12, generator).exp()
    shear = uniform(n, 0.15, generator)
    shift = uniform((2, n), 2 / 16, generator)
    return affine(torch.deg2rad(degrees), scale_x, scale_y, shear, shift)


def random_elastic(n, generator):
    """Return the coefficients (N, 2, 36) of n smooth random displacements (after Simard et al. 2003, section 2).

    At the 6x6 knots they are normal with standard deviation 0.4 pixels; between them they are interpolated.
    """
    return torch.randn(n, 2, 36, generator=generator) * (0.4 / 16)


def thicken(images):
    """Return images dilated with a 2x2 square: each pixel the largest of itself and its right and lower neighbours."""
    images = torch.maximum(images, F.pad(images[..., 1:], (0, 1)))
    return torch.maximum(images, F.pad(images[..., 1:, :], (0, 0, 0, 1)))


def random_strokes(images, generator):
    """Make the strokes of a quarter of the images thicker, of another quarter thinner, by a random amount.

    Grey-scale dilation and erosion with a 2x2 square (Serra 1982), blended in with a weight uniform in 0 .. 1. Pens
    differ more than the two of MNIST's writers. The order of images in a batch is random, so who gets it is too.
    """
    quarter = len(images) // 4
    changed = torch.cat([thicken(images[:quarter]), -thicken(-images[quarter:2 * quarter])])
    weight = torch.rand(2 * quarter, 1, 1, 1, generator=generator).to(images.device)
    return torch.cat([torch.lerp(images[:2 * quarter], changed, weight), images[2 * quarter:]])


def make_augment(ingredients):
    """Return the function augment(images, generator) of a recipe's ingredients, or None if they distort nothing."""
    def augment(images, generator):
        if "strokes" in ingredients:
            images = random_strokes(images, generator)
        if "affine" in ingredients:
            coefficients = random_affine(len(images), generator, turns="turns" in ingredients)
            if "elastic" in ingredients:
                coefficients = torch.cat([coefficients, random_elastic(len(images), generator)], dim=2)
            images = warp(images, coefficients)
        return images

    return augment if {"strokes", "affine"} & set(ingredients) else None


# ---------------------------------------------------------------------------------------------------------------------
# The loop

def train(train_loader, model, loss_func, optimizer, device, *, scheduler=None, average=None, bfloat16=False):
    """Train for one epoch; return (model, optimizer, epoch_loss), the mean loss over the images seen, in nats.

    scheduler and average (an AveragedModel) are stepped after every batch. With bfloat16, activations and their
    gradients are rounded to 8 significant bits; weights, loss and steps keep their 24 (Micikevicius et al. 2018,
    section 3.1). Raises FloatingPointError, naming the batch, if a loss was not finite.
    """
    model.train()
    losses, sizes = [], []
    for x, y in tqdm(train_loader, leave=False, disable=None):  # None: only on a terminal
        x, y = x.to(device), y.to(device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
            logits, _ = model(x)
        loss = loss_func(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if average is not None:
            average.update_parameters(model)
        losses.append(loss.detach())
        sizes.append(len(y))
    losses = torch.stack(losses).double().cpu()  # one wait for the device per epoch, not one per batch
    bad = (~losses.isfinite()).nonzero().flatten()
    if len(bad):
        raise FloatingPointError(f"the loss of batch {bad[0] + 1} of {len(losses)} is {losses[bad[0]].item()}")
    sizes = torch.tensor(sizes)
    return model, optimizer, ((losses * sizes).sum() / sizes.sum()).item()


def validate(valid_loader, model, loss_func, device):
    """Return (model, epoch_loss), the mean loss over all images of valid_loader, in nats."""
    loss, _ = utils.evaluate(model, valid_loader, loss_func, device)
    return model, loss


def training_process(model, loss_func, optimizer, train_loader, valid_loader, epochs, device, *,
                     scheduler=None, average=None, bfloat16=False, history=None, best_weights=None, on_epoch=None):
    """Train and validate until `epochs` epochs are done; return (best_model, optimizer, (train_losses, valid_losses)).

    best_model is a copy with the weights of the epoch whose validation loss was lowest. If average is given, it is what
    gets validated and copied. history is a list of one dict per epoch, extended in place; a run that goes on passes
    the epochs already done and their best_weights. on_epoch(history, best_weights) is called after each epoch.
    scheduler, average and bfloat16 are train()'s. Raises LeNetError if a loss is not finite.
    """
    history = [] if history is None else history
    scored = model if average is None else average.module
    while len(history) < epochs:
        started, epoch = time.perf_counter(), len(history) + 1
        lr = optimizer.param_groups[-1]["lr"]  # of the output layer, whose pace is 1
        try:
            _, _, train_loss = train(train_loader, model, loss_func, optimizer, device,
                                     scheduler=scheduler, average=average, bfloat16=bfloat16)
        except FloatingPointError as error:
            raise LeNetError(f"epoch {epoch}: {error}; most likely the learning rate of {lr:g} is too high") from error
        valid_loss, wrong = utils.evaluate(scored, valid_loader, loss_func, device)
        if not math.isfinite(valid_loss):
            raise LeNetError(f"epoch {epoch}: the validation loss is {valid_loss}; most likely the learning rate "
                             f"of {lr:g} is too high")
        history.append(dict(epoch=epoch, train_loss=train_loss, valid_loss=valid_loss,
                            valid_accuracy=100 - 100 * wrong / len(valid_loader.dataset), valid_wrong=wrong,
                            lr=lr, seconds=time.perf_counter() - started))
        if best_epoch(history) is history[-1]:
            best_weights = copy.deepcopy(scored.state_dict())
        if on_epoch is not None:
            on_epoch(history, best_weights)
    best_model = copy.deepcopy(scored)
    best_model.load_state_dict(best_weights)
    losses = [row["train_loss"] for row in history], [row["valid_loss"] for row in history]
    return best_model, optimizer, losses


def best_epoch(history):
    """Return the row of history with the lowest validation loss, the earliest if several have it."""
    return min(history, key=lambda row: row["valid_loss"])


def make_average(model):
    """Return an AveragedModel whose t-th update weighs the new weights by 9 / (t + 9).

    Polynomial-decay averaging (Shamir and Zhang 2013, section 4): about the last tenth of all steps counts, however many
    there are, so a short run needs no other setting than a long one.
    """
    def step(averaged, current, n_averaged):
        torch._foreach_lerp_(averaged, current, 9 / (float(n_averaged) + 10))  # in place, all tensors in one call

    return AveragedModel(model, multi_avg_fn=step)


class RotatedAdam(torch.optim.Optimizer):
    """Adam in the coordinates in which a layer's gradients are least correlated: SOAP (Vyas et al. 2024, algorithm 3).

    Adam looks at each weight alone, but weights are not alone: neighbouring pixels rise and fall together, and so do the
    gradients of the weights that they meet. Here the gradient G of a layer, as a matrix (outputs, inputs), is turned into
    the eigenvectors of the running means of G G' and G' G; Adam's step is made there, and turned back. The eigenvectors
    follow the means by one step of orthogonal iteration now and then. Biases get plain Adam.

    A group's decay shrinks its weights by lr * decay in each step (Loshchilov and Hutter 2019).
    """

    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=0.0))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state, update = self.state[weight], weight.grad.reshape(len(weight), -1)  # (outputs, inputs)
                if weight.ndim > 1:
                    follow_axes(state, update)
                    update = state["left"].T @ update @ state["right"]
                update = adam_step(state, update, *group["betas"])
                if weight.ndim > 1:
                    update = state["left"] @ update @ state["right"].T
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.view_as(weight), alpha=group["lr"])


def follow_axes(state, gradient):
    """Let the axes, the columns of state's left and right, follow the eigenvectors of the running means of G G' and G' G.

    Both change slowly and cost much, so the means take in every fourth gradient, the axes every twentieth mean.
    """
    step = state.get("step", 0)
    if step % 4:
        return
    for side, product in ("left", gradient @ gradient.T), ("right", gradient.T @ gradient):
        if step == 0:
            state[f"{side}_mean"], state[side] = product, torch.eye(len(product), device=product.device)
        mean, old = state[f"{side}_mean"].lerp_(product, 0.04), state[side]
        if step % 20 == 0:
            state[side] = torch.linalg.qr((mean @ old).cpu())[0].to(old.device)  # not every device has a qr
            if step > 0:  # what Adam remembers turns with the axes
                turn = state[side].T @ old
                state["mean"] = turn @ state["mean"] if side == "left" else state["mean"] @ turn.T


def adam_step(state, gradient, beta1, beta2):
    """Return Adam's step for gradient, in units of the learning rate (Kingma and Ba 2015, algorithm 1)."""
    if "step" not in state:
        state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    state["step"] += 1
    mean, square = state["mean"].lerp_(gradient, 1 - beta1), state["square"].lerp_(gradient.square(), 1 - beta2)
    return mean / (1 - beta1 ** state["step"]) / ((square / (1 - beta2 ** state["step"])).sqrt_() + 1e-8)


PACES = {"feature_extractor.0": 4.0, "feature_extractor.3": 2.0, "feature_extractor.6": 0.7}  # C1, C3, C5


def make_optimizer(model, lr, device, ingredients=()):
    """Return Adam over model's parameters, or RotatedAdam if "rotation" is among the ingredients.

    With "decay", weights (not biases) shrink by 0.2 * lr in each step (Loshchilov and Hutter 2019). With "paces", lr is
    multiplied by PACES in the convolutions: Adam moves each weight by about lr per step, so a unit's input moves by lr times
    its number of inputs: 25 in C1, 150 in C3, 400 in C5. Fewer inputs bear a higher rate (Yang et al. 2022, "Tensor Programs
    V", section 3, for the argument; the numbers are from validation loss).
    """
    groups = {}
    for name, parameter in model.named_parameters():
        pace = PACES.get(name.rpartition(".")[0], 1.0) if "paces" in ingredients else 1.0
        decay = 0.2 if "decay" in ingredients and parameter.ndim > 1 else 0.0
        groups.setdefault((pace, decay), []).append(parameter)
    groups = [dict(params=parameters, lr=lr * pace, weight_decay=decay) for (pace, decay), parameters in groups.items()]
    if "rotation" in ingredients:
        return RotatedAdam(groups, lr)
    return torch.optim.Adam(groups, lr, decoupled_weight_decay=True, fused=torch.device(device).type in ("cpu", "cuda"))


def make_schedule(optimizer, steps):
    """Return the learning rate's schedule: up to each group's rate in a twentieth of the steps, then down to nearly 0, in
    straight lines (Smith and Topin 2018, without the cycled momentum)."""
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, pct_start=0.05,
                      anneal_strategy="linear", cycle_momentum=False)


def in_bfloat16(ingredients, device):
    """Say whether to compute in bfloat16: if the recipe has it and the device is a CPU with instructions for it.

    AVX512_BF16 or AMX, that is; without them it would be slower. On a GPU this network is too small for it to matter.
    """
    cpu = torch.cpu.get_capabilities() if torch.device(device).type == "cpu" else {}
    return "bfloat16" in ingredients and bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


# ---------------------------------------------------------------------------------------------------------------------
# A run

HEADER = "epoch  train loss  val loss  val accuracy  wrong        lr  seconds"


def epoch_line(row, is_best):
    return (f"{row['epoch']:5d}  {row['train_loss']:10.4f}  {row['valid_loss']:8.4f}  {row['valid_accuracy']:10.2f} %  "
            f"{row['valid_wrong']:5d}  {row['lr']:8.6f}  {row['seconds']:7.1f}{' *' if is_best else ''}")


def prepare(settings, train_set, device):
    """Return what a training starts with: (model, optimizer, train_loader, extras), the extras being the keyword arguments
    scheduler, average and bfloat16 of train() and training_process().

    settings: epochs, batch_size, lr, seed, ingredients. train_set: (images, labels), uint8 and int64 on device.
    """
    ingredients = settings["ingredients"]
    torch.manual_seed(settings["seed"])
    model = LeNet5().to(device, memory_format=torch.channels_last)  # the faster layout for these convolutions
    optimizer = make_optimizer(model, settings["lr"], device, ingredients)
    generator = torch.Generator().manual_seed(settings["seed"])
    train_loader = Batches(*train_set, settings["batch_size"], generator, make_augment(ingredients))
    steps = settings["epochs"] * len(train_loader)
    extras = dict(scheduler=make_schedule(optimizer, steps) if "schedule" in ingredients else None,
                  average=make_average(model) if "averaging" in ingredients else None,
                  bfloat16=in_bfloat16(ingredients, device))
    return model, optimizer, train_loader, extras


def run(settings, data, device, checkpoint, state=None, watch=None):
    """Train one network as settings say and write it to checkpoint, with history.csv and last.pth beside it.

    settings: recipe, epochs, batch_size, lr, seed, limit, ingredients. data: ((images, labels) for training,
    validation, test), uint8 on device. state: what last.pth held, to go on from there. watch(history) is called after
    each epoch. Returns (best_model, history, errors on the test set as score() gives them): the final figures.
    """
    train_set, valid_set, test_set = data
    model, optimizer, train_loader, extras = prepare(settings, train_set, device)
    loss_func = nn.CrossEntropyLoss()
    valid_loader = Batches(*valid_set, 1000)
    parts = {"model": model, "optimizer": optimizer, "scheduler": extras["scheduler"], "average": extras["average"]}
    parts = {name: part for name, part in parts.items() if part is not None}
    history, best_weights = [], None
    if state is not None:
        try:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            train_loader.generator.set_state(state["generator"])
            history, best_weights = state["history"], state["best_weights"]
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise LeNetError(f"{last_path(checkpoint)} does not fit this version of train.py; start a new run") from error

    def save_best(**metadata):
        best = best_epoch(history)
        utils.save_checkpoint(checkpoint, best_weights, recipe=settings["recipe"], settings=settings,
                              seed=settings["seed"], epoch=best["epoch"], valid_loss=best["valid_loss"],
                              valid_accuracy=best["valid_accuracy"], **metadata)

    def on_epoch(history, weights):
        nonlocal best_weights
        best_weights = weights
        is_best = best_epoch(history) is history[-1]
        print(epoch_line(history[-1], is_best), flush=True)
        if is_best:
            save_best()
        write_history(history, checkpoint.with_name("history.csv"))
        utils.save_file(last_path(checkpoint), dict(
            {name: part.state_dict() for name, part in parts.items()}, format_version=utils.FORMAT_VERSION,
            settings=settings, history=history, best_weights=best_weights, generator=train_loader.generator.get_state()))
        if watch is not None:
            watch(history)

    print(HEADER, flush=True)
    best_model, _, _ = training_process(
        model, loss_func, optimizer, train_loader, valid_loader, settings["epochs"], device, history=history,
        best_weights=best_weights, on_epoch=on_epoch, **extras)
    errors = score(best_model, test_set, device)
    save_best(test_accuracy=100 - errors["upright"])
    return best_model, history, errors


def last_path(checkpoint):
    """Return where the whole state of a run is kept after each epoch."""
    return checkpoint.with_name("last.pth")


def load_last(checkpoint):
    """Return the state of the run that was interrupted; raises LeNetError if there is none that can be used."""
    path = last_path(checkpoint)
    if not path.exists():
        raise LeNetError(f"{path}: there is no run to resume; start one without --resume")
    state = utils.read_file(path)
    wanted = {"settings": dict, "history": list, "best_weights": dict, "model": dict, "optimizer": dict}
    if not isinstance(state, dict) or not all(isinstance(state.get(key), kind) for key, kind in wanted.items()):
        raise LeNetError(f"{path} is not the state of a run; delete it and start a new run")
    return state


def keep_previous(checkpoint):
    """Copy a checkpoint that a new run is about to replace to NAME.previous.pth, beside it."""
    if checkpoint.exists():
        content = checkpoint.read_bytes()
        utils.write_atomically(previous_path(checkpoint), lambda file: file.write(content))


def previous_path(checkpoint):
    return checkpoint.with_suffix(".previous" + checkpoint.suffix)


def compare_with_previous(checkpoint, best):
    """Return a line that says whether the new checkpoint or the one it replaced did better on validation."""
    path = previous_path(checkpoint)
    try:
        old = utils.load_checkpoint(path)[1].get("valid_loss")
    except LeNetError:
        old = None
    if not isinstance(old, float):
        return None
    better = "the new one is better" if best["valid_loss"] <= old else "the old one is better"
    return (f"the checkpoint that was there before is kept in {os.path.relpath(path)}; validation loss "
            f"{best['valid_loss']:.4f} now, {old:.4f} then: {better}")


def describe(settings):
    """Return settings as one line for people."""
    plain = [f"{key} {value}" for key, value in settings.items() if key != "ingredients" and value is not None]
    return ", ".join(plain) + f"; {', '.join(settings['ingredients']) or 'no augmentation, no schedule, no averaging'}"


def write_history(history, path):
    """Write one line per epoch to a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    utils.write_atomically(path, lambda file: file.write(text.getvalue().encode()))


TURNS = (15, 30, 45)  # degrees


def score(model, test_set, device):
    """Return the errors on test_set in percent: {"upright": ..., "+-15": ..., "+-30": ..., "+-45": ...}.

    For +-d each image is turned by its own angle, uniform in -d .. d degrees, the same ones in every call.
    """
    images, labels = test_set
    errors = {"upright": 100 - 100 * utils.get_accuracy(model, Batches(images, labels, 1000), device)}
    for degrees in TURNS:
        generator = torch.Generator().manual_seed(degrees)
        turned = turn(images.float(), degrees, generator).round().to(torch.uint8)
        errors[f"+-{degrees}"] = 100 - 100 * utils.get_accuracy(model, Batches(turned, labels, 1000), device)
    return errors


def plot_history(history, settings, figure=None):
    columns = [[row[key] for row in history] for key in ("train_loss", "valid_loss", "valid_accuracy")]
    return utils.plot_losses(*columns, f"LeNet-5 on MNIST, {settings['recipe']} recipe, seed {settings['seed']}", figure)


def make_watch(settings, path):
    """Return the function watch(history) of --live: it redraws the loss curves in a window or, without one, in path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained", label="LeNet-5 learns")
    try:
        utils.open_window(figure, wait=False)
    except LeNetError:
        return lambda history: utils.save_figure(plot_history(history, settings), path)
    open_here = [True]
    figure.canvas.mpl_connect("close_event", lambda event: open_here.clear())  # the training goes on without it

    def watch(history):
        if open_here:
            plot_history(history, settings, figure)
            figure.canvas.draw()
            figure.canvas.flush_events()

    return watch


def draw(model, history, train_set, test_set, device, assets, settings):
    """Write the pictures of a run (of an evaluation, if history is None) into the folder assets; return their paths."""
    logits, labels = utils.predict_all(model, Batches(*test_set, 1000), device)
    images = test_set[0].cpu()
    figures = {
        "architecture.png": utils.plot_architecture(model),
        "confusion_matrix.png": utils.plot_confusion(labels, logits.argmax(1)),
        "mistakes.png": utils.plot_mistakes(images, labels, logits.softmax(1)),
    }
    if history is not None:
        figures["loss_curves.png"] = plot_history(history, settings)
        if augment := make_augment(settings["ingredients"]):
            images, labels = train_set
            digits = torch.stack([images[labels == digit][0] for digit in labels.unique()]).cpu()
            batch = digits.repeat(24, 1, 1, 1).float() / 255  # strokes: first quarter thicker, second thinner, rest as is
            distorted = augment(batch, torch.Generator().manual_seed(0)).view(24, *digits.shape)
            names = ["thicker", "thinner", "as is", "as is"] if "strokes" in settings["ingredients"] else [""] * 4
            figures["augmentation.png"] = utils.plot_rows([digits, *distorted[[0, 6, 12, 18]]], ["MNIST", *names],
                                                          "Training digits, and what the network sees of them in four epochs")
    for name, figure in figures.items():
        utils.save_figure(figure, assets / name)
    return [assets / name for name in figures]


def expected_calibration_error(probabilities, labels, bins=15):
    """Return the mean gap between confidence and accuracy, 0..1 (Guo et al. 2017, equation 3).

    Images are put into `bins` equal intervals of the largest probability; gaps are weighted by the images in them.
    """
    confidence, predictions = probabilities.max(1)
    right = (predictions == labels).float()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins).index_add(0, index, right - confidence)
    return (gaps.abs().sum() / len(labels)).item()


def report(model, test_set, device):
    """Print everything that --evaluate promises about model on the test set."""
    logits, labels = utils.predict_all(model, Batches(*test_set, 1000), device)
    probabilities, right = logits.softmax(1), logits.argmax(1) == labels
    print(f"test accuracy {percent(right.float().mean().item())} ({(~right).sum().item()} of {len(labels):,} wrong)")
    for degrees, errors in score(model, test_set, device).items():
        if degrees != "upright":
            print(f"  turned within {degrees:>4} degrees: {100 - errors:.2f} %")
    for digit in range(10):
        of_digit = right[labels == digit]
        if len(of_digit):
            print(f"  digit {digit}: {percent(of_digit.float().mean().item())} "
                  f"({(~of_digit).sum().item():2d} of {len(of_digit):,} wrong)")
    print(f"expected calibration error {percent(expected_calibration_error(probabilities, labels))} (15 bins)")


def percent(fraction):
    return f"{100 * fraction:.2f} %"


# ---------------------------------------------------------------------------------------------------------------------
# Command line

def get_parser():
    parser = utils.OneLineParser(prog="train.py", description=__doc__)
    add = parser.add_argument

    def of_recipe(what, key):
        return f"{what} (default: " + ", ".join(f"{r[key]} for {name}" for name, r in RECIPES.items()) + ")"

    unset = argparse.SUPPRESS  # --resume has to know what was asked for and what is but a default
    add("--recipe", choices=RECIPES, default=unset, help="which recipe to follow (default: modern)")
    add("--epochs", type=int, default=unset, help=of_recipe("passes over the training set", "epochs"))
    add("--batch-size", type=int, default=unset, help=of_recipe("images per step", "batch_size"))
    add("--lr", type=float, default=unset, help=of_recipe("learning rate of Adam, its peak", "lr"))
    add("--seed", type=int, default=unset, help="of weights, order and distortions (default: 0)")
    add("--without", action="append", default=unset, metavar="INGREDIENT",
        choices=sorted({name for recipe in RECIPES.values() for name in recipe["ingredients"]}),
        help="leave an ingredient out of the recipe, may be repeated: %(choices)s")
    add("--limit", type=int, default=unset, metavar="N", help="train on the first N training images only")
    add("--seeds", type=int, default=1, metavar="N", help="train N seeds from --seed on; the files are the first's")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    add("--data-dir", type=Path, default=utils.DATA, help="MNIST is in, or put into, MNIST/raw under it")
    add("--checkpoint", type=Path, default=utils.CHECKPOINT, help="file for the weights")
    add("--assets-dir", type=Path, default=utils.ASSETS, help="folder for the pictures")
    add("--live", action="store_true", help="redraw the loss curves after each epoch: in a window or, with no display, "
        "in loss_curves.png")
    add("--resume", action="store_true", help="go on with the run whose state is in last.pth beside the checkpoint")
    add("--evaluate", action="store_true", help="score the checkpoint on the test set instead of training")
    add("--dry-run", action="store_true", help="one batch and one epoch, to see that all works; leaves no files")
    return parser


SETTINGS = ("recipe", "epochs", "batch_size", "lr", "seed", "limit", "without")


def check(args):
    """Return (settings, device) of parsed arguments; raises ValueError, in one line, for what can't be done."""
    given = {key: value for key, value in vars(args).items() if key in SETTINGS}
    if args.evaluate or args.resume:
        what = "--evaluate: trains nothing" if args.evaluate else "--resume: goes on with one run"
        useless = ["--" + key.replace("_", "-") for key in given if args.evaluate]
        useless += ["--seeds"] * (args.seeds > 1) + ["--dry-run"] * args.dry_run
        useless += [f"--{name}" for name in ("resume", "live") if args.evaluate and getattr(args, name)]
        if useless:
            raise ValueError(f"argument {what}, so {', '.join(useless)} has no meaning")
    name = given.get("recipe", "modern")
    recipe, without = RECIPES[name], given.pop("without", [])
    unknown = set(without) - set(recipe["ingredients"])
    if unknown:
        raise ValueError(f"argument --without: the {name} recipe has no {', '.join(sorted(unknown))}")
    ingredients = [ingredient for ingredient in recipe["ingredients"] if ingredient not in without]
    settings = dict(recipe, recipe=name, seed=0, limit=None, ingredients=ingredients) | given
    n_train = utils.N_TRAINING if settings["limit"] is None else min(settings["limit"], utils.N_TRAINING)
    for option, value in (("--epochs", settings["epochs"]), ("--batch-size", settings["batch_size"]),
                          ("--seeds", args.seeds), ("--limit", n_train)):
        if value < 1:
            raise ValueError(f"argument {option}: must be at least 1, got {value}")
    if not (math.isfinite(settings["lr"]) and settings["lr"] > 0):
        raise ValueError(f"argument --lr: must be a positive finite number, got {settings['lr']}")
    if not 0 <= settings["seed"] < 2**32:
        raise ValueError(f"argument --seed: must be in 0 .. 2**32 - 1, got {settings['seed']}")
    if settings["batch_size"] > n_train:
        raise ValueError(f"argument --batch-size: {settings['batch_size']} is more than the {n_train} training images")
    if args.dry_run:
        settings["epochs"] = 1
    else:
        utils.check_folder(args.assets_dir, "--assets-dir")
        if args.checkpoint.is_dir():
            raise ValueError(f"argument --checkpoint: {args.checkpoint} is a folder")
        if not args.evaluate:
            utils.check_folder(args.checkpoint.parent, "--checkpoint")
    return settings, utils.pick_device(args.device)


def check_resume(args, settings, saved):
    """Raise ValueError, naming them, if settings that were asked for contradict the saved ones."""
    asked = {key for key in SETTINGS if key in args}
    if "without" in asked:
        asked = asked - {"without"} | {"ingredients"}
    other = [f"{key} {saved.get(key)}, not {settings[key]}" for key in sorted(asked) if settings[key] != saved.get(key)]
    if other:
        raise ValueError(f"argument --resume: the interrupted run has {'; '.join(other)}")


def load_data(data_dir, device, limit=None):
    """Return ((images, labels) for training, validation, test) on device, the first `limit` training images only."""
    train_set, valid_set = utils.split_validation(*utils.load_mnist(True, data_dir))
    train_set = [tensor[:limit] for tensor in train_set]
    test_set = utils.load_mnist(False, data_dir)
    return [tuple(tensor.to(device) for tensor in part) for part in (train_set, valid_set, test_set)]


def main(argv=None):
    """Run the command line argv; return the exit status."""
    parser = get_parser()
    args = parser.parse_args(argv)
    try:
        settings, device = check(args)
        state = load_last(args.checkpoint) if args.resume else None
        if state is not None:
            check_resume(args, settings, state["settings"])
            settings = state["settings"]
    except ValueError as error:
        parser.error(str(error))
    except LeNetError as error:
        return fail(error)
    terminate = signal.signal(signal.SIGTERM, raise_interrupt)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            if args.dry_run:
                args.checkpoint, args.assets_dir = Path(scratch) / "LeNet5.pth", Path(scratch)
            if args.evaluate:
                evaluate(args, device)
            else:
                with utils.lock_folder(args.checkpoint.parent):
                    train_seeds(args, settings, device, Path(scratch), state)
    except LeNetError as error:
        return fail(error)
    except KeyboardInterrupt as stop:
        last = last_path(args.checkpoint)
        print(f"train.py: stopped; every finished epoch is in {last}: python train.py --resume goes on from there"
              if last.exists() and not args.dry_run else "train.py: stopped before the first epoch was done", file=sys.stderr)
        return 143 if stop.args == (signal.SIGTERM,) else 130
    finally:
        signal.signal(signal.SIGTERM, terminate)
    return 0


def raise_interrupt(signum, frame):
    raise KeyboardInterrupt(signum)


def fail(error):
    print(f"train.py: {error}", file=sys.stderr)
    return 1


def evaluate(args, device):
    """Do what --evaluate asks for."""
    model, _ = utils.load_checkpoint(args.checkpoint, device)
    *_, test_set = load_data(args.data_dir, device)
    report(model, test_set, device)
    draw(model, None, None, test_set, device, args.assets_dir, None)


def train_seeds(args, settings, device, scratch, state):
    """Train args.seeds networks and say how each did on the test set."""
    utils.save_figure(utils.plot_architecture(LeNet5()), args.assets_dir / "architecture.png")  # a try: plots work here
    data = load_data(args.data_dir, device, settings["limit"])
    utils.keep_freed_memory()
    if args.dry_run:  # one batch of everything
        data = [tuple(tensor[:settings["batch_size"]] for tensor in part) for part in data]
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    n_train, n_valid, n_test = (len(labels) for _, labels in data)
    print(f"LeNet-5 on {device}{threads}: {n_train:,} training, {n_valid:,} validation, {n_test:,} test images")
    if state is None:
        keep_previous(args.checkpoint)
        last_path(args.checkpoint).unlink(missing_ok=True)  # of an older run
    results, first = [], settings["seed"]
    for seed in range(first, first + args.seeds):
        settings = dict(settings, seed=seed)
        print(describe(settings))
        checkpoint = args.checkpoint if seed == first else scratch / f"seed{seed}.pth"
        started = time.perf_counter()
        watch = make_watch(settings, args.assets_dir / "loss_curves.png") if args.live else None
        model, history, errors = run(settings, data, device, checkpoint, state, watch)
        best, n_wrong = best_epoch(history), round(errors["upright"] * n_test / 100)
        print(f"best epoch {best['epoch']} (validation loss {best['valid_loss']:.4f}) after "
              f"{time.perf_counter() - started:.0f} s; test accuracy {100 - errors['upright']:.2f} % "
              f"({n_wrong} of {n_test:,} wrong)", flush=True)
        accuracies = {key: 100 - value for key, value in errors.items()}
        results.append({"errors": n_wrong, "valid": best["valid_accuracy"], **accuracies})
        if seed == first:
            pictures = draw(model, history, data[0], data[2], device, args.assets_dir, settings)
            written = [args.checkpoint, args.checkpoint.with_name("history.csv"), *pictures]
            if not args.dry_run:
                print("written: " + " ".join(os.path.relpath(path) for path in written))
                comparison = compare_with_previous(args.checkpoint, best)
    if args.seeds > 1:
        summarise(results, first)
    if not args.dry_run and comparison:
        print(comparison)


def summarise(results, first):
    """Print each seed's errors on the test set and accuracies, their mean and standard deviation."""
    print("accuracy in %    " + "".join(f"{key:>9}" for key in results[0]))
    for seed, result in enumerate(results, first):
        print(f"  seed {seed:<9} " + "".join(f"{value:9.2f}" for value in result.values()))
    columns = list(zip(*(result.values() for result in results)))
    print("  mean           " + "".join(f"{statistics.mean(column):9.3f}" for column in columns))
    print("  std            " + "".join(f"{statistics.stdev(column):9.3f}" for column in columns))


if __name__ == "__main__":
    sys.exit(main())
