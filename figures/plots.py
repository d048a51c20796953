"""All figures: numbers come in, a matplotlib Figure goes out. No other module of ours is imported.

matplotlib is imported by the functions that need it, so that importing this module is quick. Its
Figure is used without pyplot, so that no window, backend or display is involved.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

INK = "#1f3b57"
WRONG = "#c0392b"
DOUBT = "#d35400"  # of what the network was not sure of
PALE = "#aab7c4"
GREY = "#566573"


def plot_losses(train_losses, valid_losses, valid_accuracies=None, title="LeNet-5 on MNIST",
                figure=None, epochs=None, note="", train_accuracies=()):
    """Return a Figure of both losses (nats per image) against the epoch.

    The epoch of the lowest validation loss is marked. valid_accuracies, and train_accuracies, in
    percent, are drawn beside them as errors, if given. A given figure is emptied and drawn anew.
    epochs: how many there will be, for the axis of a run that goes on; note: a line below it.
    """
    from matplotlib.figure import Figure

    done = range(1, len(train_losses) + 1)
    best = min(done, key=lambda epoch: valid_losses[epoch - 1])
    size = (9, 3.8) if valid_accuracies else (6, 3.8)
    figure = figure or Figure(figsize=size, layout="constrained")
    figure.clear()
    axes = figure.subplots(1, 2 if valid_accuracies else 1, squeeze=False)[0]
    dot = "o" if len(done) == 1 else ""  # a line through one point is nothing
    axes[0].plot(done, train_losses, color="#7f8c8d", label="training", marker=dot)
    axes[0].plot(done, valid_losses, color=INK, label="validation")
    axes[0].plot(best, valid_losses[best - 1], "o", color=WRONG,
                 label=f"best epoch {best}: {valid_losses[best - 1]:.4f}")
    axes[0].set(title="Loss", ylabel="cross entropy (nats per image)", yscale="log")
    if valid_accuracies:
        errors, learnt = ([100 - accuracy for accuracy in accuracies]
                          for accuracies in (valid_accuracies, train_accuracies))
        if any(map(math.isfinite, learnt)):  # not in a history of an older version
            axes[1].plot(done, learnt, color="#7f8c8d", label="training", marker=dot)
        axes[1].plot(done, errors, color=INK, label="validation")
        axes[1].plot(best, errors[best - 1], "o", color=WRONG,
                     label=f"best epoch {best}: {errors[best - 1]:.2f} %")
        least = min((error for error in errors + learnt if error > 0), default=0)
        axes[1].set(title="Error", ylabel="misread (%)", yscale="log" if least else "linear",
                    ylim=(least / 1.5, None))
    for ax in axes:
        ax.set(xlabel="epoch", xlim=(0.5, (epochs or len(done)) + 0.5))
        ax.set_ylim(top=5 * ax.get_ylim()[1])  # room for the legend
        set_plain_ticks(ax)
        ax.legend(loc="upper right")
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=8, color=GREY)
    return figure


def plot_comparison(runs):
    """Return a Figure of the curves of runs, pairs of (name, {column of its history: numbers})."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    for name, history in runs:
        epochs, style = history["epoch"], {"marker": "." if len(history["epoch"]) < 20 else ""}
        label = f" {name}"  # one that begins with _ is left out of a legend
        (line,) = losses.plot(epochs, history["valid_loss"], label=label, **style)
        style["color"] = line.get_color()
        losses.plot(epochs, history["train_loss"], ":", **style)
        errors.plot(epochs, [100 - accuracy for accuracy in history["valid_accuracy"]], **style)
    losses.set(title="Loss: validation; training, dotted", ylabel="cross entropy (nats)")
    errors.set(title="Validation error", ylabel="misread (%)")
    for ax in losses, errors:
        ax.set(xlabel="epoch", yscale="log" if ax.dataLim.ymax > 0 else "linear")
        set_plain_ticks(ax)
    losses.legend(fontsize="small")
    return figure


def set_plain_ticks(ax):
    """Label epochs with whole numbers, values with plain ones: 0.04 rather than 4 x 10^-2."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = ax.get_ylim()
    if high < 4 * low:  # too little for the steps of a logarithmic axis
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(FuncFormatter(
        lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else ""))
    ax.grid(alpha=0.3, which="both")


def plot_confusion(labels, predictions, classes="0123456789"):
    """Return a Figure of the counts of (label, prediction), with each class's accuracy."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    n = len(classes)
    counts = torch.bincount(labels * n + predictions, minlength=n * n).view(n, n)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    wrong = share.clone().fill_diagonal_(0)
    figure = Figure(figsize=(0.74 * max(n, 10), 0.66 * max(n, 10)), layout="constrained")
    ax = figure.subplots()
    ax.imshow((100 * wrong).numpy(), cmap="Reds")
    for true in range(n):
        ax.add_patch(Rectangle((true - 0.5, true - 0.5), 1, 1, color=INK))
        for predicted in range(n):
            if count := counts[true, predicted].item():
                light = true == predicted or wrong[true, predicted] > 0.6 * wrong.max()
                ax.text(predicted, true, f"{count:,}", ha="center", va="center", fontsize=10,
                        color="white" if light else "black")
        ax.text(n - 0.3, true, f"{100 * share[true, true]:.2f} %", va="center", fontsize=10)
    ax.text(n - 0.3, -0.8, "accuracy", fontsize=10)
    ax.set(xticks=range(n), yticks=range(n), xticklabels=classes, yticklabels=classes,
           xlabel="predicted", ylabel="true")
    n_wrong = (labels != predictions).sum().item()
    ax.set_title(f"Confusion on {len(labels):,} test images: {n_wrong} misread, accuracy "
                 f"{100 - 100 * n_wrong / len(labels):.2f} %", pad=14)
    return figure


def plot_digits(images, titles, wrong, heading, columns=10):
    """Return a Figure with a grid of images, uint8 (N, 1, 32, 32), a title over each.

    The title is red where wrong is true.
    """
    from matplotlib.figure import Figure

    rows = max(1, -(-len(images) // columns))
    lines = max(title.count("\n") + 1 for title in [*titles, ""])
    wide, high = 34, 34 + 6 * lines  # of a cell, in pixels of the digit
    size = 9.5, 9.5 * high * rows / (wide * columns) + 0.55
    figure = Figure(figsize=size, layout="constrained")
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

    strips = [torch.cat([F.pad(image[0].float() / image.max(), (1, 1, 1, 1), value=1.0)
                         for image in row], dim=1) for row in rows]
    mosaic = torch.cat(strips)
    size = 9, 8.1 * mosaic.shape[0] / mosaic.shape[1] + 0.4  # names take a tenth of the width
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    ax.imshow(mosaic.numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_title(heading, fontsize=11)
    ax.set_xticks([])
    ax.set_yticks([34 * (i + 0.5) for i in range(len(rows))], names, fontsize=10)
    ax.tick_params(left=False)
    ax.spines[:].set_visible(False)
    return figure


def plot_mistakes(images, labels, probabilities, classes="0123456789", most=80):
    """Return a Figure of the images (uint8) that are misread, the most confident ones first."""
    confidence, predictions = probabilities.max(1)
    wrong = (predictions != labels).nonzero().flatten()
    shown = wrong[confidence[wrong].argsort(descending=True)][:most]
    titles = [f"{classes[labels[i]]} read as {classes[predictions[i]]}\n"
              f"{100 * confidence[i]:.0f} %" for i in shown]
    which = f"the {len(shown)} most confident of " if len(shown) < len(wrong) else ""
    heading = (f"Misread test digits: {which}{len(wrong)} of {len(labels):,}\n"
               "true digit, what it was read as, and with which probability")
    return plot_digits(images[shown], titles, [False] * len(shown), heading)


def colour_of(digit):
    """Return the colour of a Digit: INK, or DOUBT if the network was not quite sure of it."""
    return INK if digit.probability >= 0.95 else DOUBT


def mark_digits(ax, reading, shape):
    """Draw a box round each digit of a reading on ax, which shows a picture of that shape.

    Of several, each is written above its box. Return what was drawn, a list of artists.
    """
    (height, width), marks, alone = shape[:2], [], len(reading.digits) == 1
    for digit in reading.digits:
        left, top, right, bottom = np.multiply(digit.box, (width, height, width, height))
        colour, line = colour_of(digit), 1.5 if alone else 0.8
        marks += [box(ax, left - 0.5, top - 0.5, right - left, bottom - top, colour, line)]
        if not alone:
            above = max(top - 2, 0.04 * height)  # at the upper edge there is no room but in the box
            marks += [ax.text(left, above, str(digit.digit), color=colour, fontsize=9, va="bottom")]
    return marks


def as_rgb(array):
    """Return a picture, float (H, W, 1 or 3) or None, as matplotlib shows it: (H, W, 3), 0..1."""
    if array is None:
        return np.ones((1, 1, 3))  # one white pixel
    return np.clip(np.broadcast_to(array, (*array.shape[:2], 3)), 0, 1)


def plot_bars(ax, probabilities):
    """Draw ten probabilities on ax as bars, in percent, the largest one dark; return the bars."""
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


def box(ax, x, y, width, height, colour, linewidth):
    from matplotlib.patches import Rectangle

    style = dict(fill=False, edgecolor=colour, linewidth=linewidth, zorder=3)
    return ax.add_patch(Rectangle((x, y), width, height, **style))
