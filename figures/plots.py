"""All figures: numbers come in, a matplotlib Figure goes out. None of our modules is imported here.

matplotlib is imported by the functions that need it, so that importing this module is quick, and its Figure is used
without pyplot, so that no window, backend or display is involved.
"""

import math
from itertools import zip_longest

import numpy as np
import torch
from torch.nn import functional as F

INK = "#1f3b57"
WRONG = "#c0392b"
PALE = "#aab7c4"
GREY = "#566573"


def plot_losses(train_losses, valid_losses, valid_accuracies=None, title="LeNet-5 on MNIST", figure=None):
    """Return a Figure of both losses (nats per image) against the epoch, the epoch of lowest validation loss marked.

    valid_accuracies, in percent, are drawn beside them if given. A given figure is emptied and drawn anew.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    epochs = range(1, len(train_losses) + 1)
    best = min(epochs, key=lambda epoch: valid_losses[epoch - 1])
    figure = figure or Figure(figsize=(9, 3.8) if valid_accuracies else (6, 3.8), layout="constrained")
    figure.clear()
    axes = figure.subplots(1, 2 if valid_accuracies else 1, squeeze=False)[0]
    axes[0].plot(epochs, train_losses, color="#7f8c8d", label="training")
    axes[0].plot(epochs, valid_losses, color=INK, label="validation")
    axes[0].set(title="Loss", ylabel="cross entropy (nats per image)", yscale="log")
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))  # 0.04 rather than 4 x 10^-2
    axes[0].yaxis.set_minor_formatter(FuncFormatter(lambda loss, _: f"{loss:g}" if f"{loss:e}"[0] in "235" else ""))
    axes[0].plot(best, valid_losses[best - 1], "o", color=WRONG,
                 label=f"best epoch {best}: {valid_losses[best - 1]:.4f}")
    if valid_accuracies:
        accuracy = valid_accuracies[best - 1]
        axes[1].plot(epochs, valid_accuracies, color=INK, label="validation")
        axes[1].plot(best, accuracy, "o", color=WRONG, label=f"best epoch {best}: {accuracy:.2f} %")
        axes[1].set(title="Accuracy", ylabel="accuracy (%)")
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3, which="both")
        ax.legend()
    figure.suptitle(title)
    return figure


def plot_confusion(labels, predictions):
    """Return a Figure of the 10x10 counts of (label, prediction), each row with its class's accuracy."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    counts = torch.bincount(labels * 10 + predictions, minlength=100).view(10, 10)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    wrong = share.clone().fill_diagonal_(0)
    figure = Figure(figsize=(8, 6.6), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow((100 * wrong).numpy(), cmap="Reds")
    for true in range(10):
        for predicted in range(10):
            count = counts[true, predicted].item()
            if true == predicted:
                ax.add_patch(Rectangle((true - 0.5, true - 0.5), 1, 1, color=INK))
            if count:
                light = true == predicted or wrong[true, predicted] > 0.6 * wrong.max()
                ax.text(predicted, true, f"{count:,}", ha="center", va="center", fontsize=10,
                        color="white" if light else "black")
        ax.text(9.7, true, f"{100 * share[true, true]:.2f} %", va="center", fontsize=10)
    ax.text(9.7, -0.8, "accuracy", fontsize=10)
    ax.set(xticks=range(10), yticks=range(10), xlabel="predicted digit", ylabel="true digit")
    n_wrong = (labels != predictions).sum().item()
    ax.set_title(f"Confusion on {len(labels):,} test images: {n_wrong} wrong, "
                 f"{100 - 100 * n_wrong / len(labels):.2f} % right", pad=14)
    figure.colorbar(image, ax=ax, label="share of the true digit's images (%), wrong ones only", pad=0.12, shrink=0.9)
    return figure


def plot_digits(images, titles, wrong, heading, columns=10):
    """Return a Figure with a grid of images, uint8 (N, 1, 32, 32), a title over each, in red where wrong is true."""
    from matplotlib.figure import Figure

    rows = max(1, -(-len(images) // columns))
    wide, high = 34, 34 + 6 * max(title.count("\n") + 1 for title in [*titles, ""])  # of a cell, in pixels of the digit
    figure = Figure(figsize=(9.5, 9.5 * high * rows / (wide * columns) + 0.55), layout="constrained")
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

    strips = [torch.cat([F.pad(image[0].float() / image.max(), (1, 1, 1, 1), value=1.0) for image in row], dim=1)
              for row in rows]
    mosaic = torch.cat(strips)
    figure = Figure(figsize=(9, 9 * mosaic.shape[0] / mosaic.shape[1] + 0.4), layout="constrained")
    ax = figure.subplots()
    ax.imshow(mosaic.numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_title(heading, fontsize=11)
    ax.set_xticks([])
    ax.set_yticks([34 * (i + 0.5) for i in range(len(rows))], names, fontsize=10)
    ax.tick_params(left=False)
    ax.spines[:].set_visible(False)
    return figure


def plot_mistakes(images, labels, probabilities, most=80):
    """Return a Figure of the images (uint8) that were classified wrongly, the most confident first, at most `most`."""
    confidence, predictions = probabilities.max(1)
    wrong = (predictions != labels).nonzero().flatten()
    shown = wrong[confidence[wrong].argsort(descending=True)][:most]
    titles = [f"{labels[i]} read as {predictions[i]}\n{100 * confidence[i]:.0f} %" for i in shown]
    which = f"the {len(shown)} most confident of " if len(shown) < len(wrong) else ""
    heading = (f"Test digits read wrongly: {which}{len(wrong)} of {len(labels):,}\n"
               "true digit, what it was read as, and with which probability")
    return plot_digits(images[shown], titles, [False] * len(shown), heading)


def plot_architecture(model):
    """Return a Figure of model's layers as stacks of feature maps, in the manner of figure 2 of LeCun et al. 1998."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    ax = figure.subplots()
    stages, x, previous = trace_stages(model), 0.0, None
    for name, shape, kind, count in stages:
        width, what = draw_stage(ax, x, shape)
        if previous is not None:
            ax.annotate("", xy=(x - 0.08, 0), xytext=(previous + 0.08, 0),
                        arrowprops=dict(arrowstyle="->", color="#7f8c8d"))
            ax.text((previous + x) / 2, -2.9, kind.replace(" ", "\n"), ha="center", va="top", fontsize=9, color=GREY)
        ax.text(x + width / 2, 2.75, f"{name}\n{what}", ha="center", va="bottom", fontsize=10, color=INK)
        ax.text(x + width / 2, -4.4, f"{count:,}", ha="center", va="top", fontsize=9)
        previous = x + width
        x = previous + 1.7
    total = sum(count for *_, count in stages)
    ax.text(-0.3, -4.4, "parameters", ha="right", va="top", fontsize=9)
    ax.set(xlim=(-2.2, previous + 0.7), ylim=(-5.0, 4.1), aspect="equal",
           title=f"LeNet-5 (LeCun et al. 1998): {total:,} parameters, tanh after every C and F layer")
    ax.axis("off")
    return figure


def trace_stages(model):
    """Return [(name, shape of the output, kind, number of parameters)], read off model as one image passes through it."""
    stages = [("Input", (1, 32, 32), "", 0)]
    names = iter("C1 S2 C3 S4 C5 F6 Output".split())
    kinds = {torch.nn.Conv2d: "5x5 convolution", torch.nn.AvgPool2d: "2x2 average", torch.nn.Linear: "linear"}

    def record(module, inputs, output):
        count = sum(p.numel() for p in module.parameters())
        kind = next(text for kind, text in kinds.items() if isinstance(module, kind))
        stages.append((next(names), tuple(output.shape[1:]), kind, count))

    hooks = [module.register_forward_hook(record) for module in model.modules()
             if isinstance(module, tuple(kinds))]
    with torch.no_grad():
        model(torch.zeros(1, 1, 32, 32, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    return stages


def draw_stage(ax, x, shape):
    """Draw one layer's output, (C, H, W) or (C,), from x on; return (its width, its size in words)."""
    from matplotlib.patches import Polygon, Rectangle

    depth = shape[0]
    if len(shape) == 3 and shape[1] > 1:  # feature maps: a stack of squares, each a bit behind the last
        size, step = shape[1] / 8, 0.16 if depth > 1 else 0
        width = height = size + step * (depth - 1)
        for i in reversed(range(depth)):
            ax.add_patch(Rectangle((x + step * i, -height / 2 + step * i), size, size, facecolor="white",
                                   edgecolor=INK, linewidth=0.9, zorder=3))
        return width, f"{depth} @ {shape[1]}x{shape[2]}" if depth > 1 else f"{shape[1]}x{shape[2]}"
    width, height = 0.35, depth / 30 + 0.6  # single numbers: one narrow column
    ax.add_patch(Polygon([(x, -height / 2), (x + width, -height / 2 + 0.3), (x + width, height / 2 + 0.3),
                          (x, height / 2)], facecolor="#dfe8f0", edgecolor=INK, linewidth=0.9, zorder=3))
    return width, f"{depth}"


def plot_readings(pictures, readings, titles, mains):
    """Return a Figure: each picture with the box found on it, the network's input and the ten probabilities as bars.

    pictures: float arrays (H, W, C), or None for one that could not be opened; readings: the Reading of each, or None, with what
    kept it from one as its title; mains: the most prominent Digit of each.
    """
    from matplotlib.figure import Figure

    columns = 1 if len(readings) == 1 else 2
    rows = -(-len(readings) // columns)
    size = 2.6 if columns == 1 else 1.5
    figure = Figure(figsize=(3.4 * size * columns, rows * size + 0.7), layout="constrained")
    grid = figure.subplots(rows, 3 * columns, squeeze=False, width_ratios=[1, 1, 1.3] * columns)
    for ax in grid.flat:
        ax.axis("off")
    for i, (array, reading, title, main) in enumerate(zip(pictures, readings, titles, mains)):
        picture, seen, bars = grid[i // columns, 3 * (i % columns):][:3]
        picture.imshow(as_rgb(array), interpolation="nearest")
        if reading is None:
            seen.text(0, 0.5, "no reading:\n" + title.replace(": ", ":\n"), va="center", transform=seen.transAxes,
                      fontsize=9, color=WRONG, parse_math=False)  # two $ in what a damaged file says are no formula
            continue
        mark_digits(picture, reading, array.shape)
        views = [digit.view for digit in reading.digits]
        seen.imshow(views[0] if len(views) == 1 else side_by_side(views), cmap="gray", vmin=0, vmax=255)
        bars.axis("on")
        plot_bars(bars, main.probabilities)
        bars.tick_params(labelsize=9 if columns == 1 else 6)
        bars.set_title(shorten(title, 25), fontsize=12 if columns == 1 else 9, color=INK)
        if columns == 1 or i // columns == rows - 1:
            bars.set_xlabel("probability (%)", fontsize=9 if columns == 1 else 7)
        if columns == 1:
            bars.set_ylabel("digit", fontsize=9)
            picture.set_title("picture, box: the digit", fontsize=10)
            seen.set_title("what the network sees", fontsize=10)
            figure.supxlabel(f"taken for ink: {reading.hypothesis}", fontsize=8, color=INK)
    if columns > 1:
        figure.suptitle("picture with the digit found, what the network sees, probability of each digit", fontsize=10)
    return figure


def plot_number(array, reading, title, most=60):
    """Return a Figure: a picture with a box round each digit of its reading, and what the network saw of each below it."""
    from matplotlib.figure import Figure

    digits = reading.digits[:most]
    columns = min(10, len(digits))
    rows = -(-len(digits) // columns)
    high = min(9, max(3, 9 * array.shape[0] / array.shape[1]))
    figure = Figure(figsize=(9, high + 1.15 * rows + 0.9), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[high + 0.4, 1.15 * rows + 0.5])
    ax = upper.subplots()
    ax.imshow(as_rgb(array), interpolation="nearest")
    ax.axis("off")
    ax.set_title(shorten(title, 80), fontsize=12)
    mark_digits(ax, reading, array.shape)
    more = f" (the first {most} of {len(reading.digits)})" if len(reading.digits) > most else ""
    lower.suptitle(f"what the network sees of each digit, its reading and how sure it is{more}", fontsize=10)
    lower.supxlabel(f"taken for ink: {reading.hypothesis}", fontsize=8, color=INK)
    for cell, found in zip_longest(lower.subplots(rows, columns, squeeze=False).flat, digits):
        cell.axis("off")
        if found is not None:
            cell.imshow(found.view, cmap="gray", vmin=0, vmax=255)
            cell.set_title(f"{found.digit}, {100 * found.probability:.0f} %", fontsize=9)
    return figure


def shorten(title, most):
    """Return title, a long one without its middle: its end says how sure the reading is."""
    return title if len(title) <= most else f"{title[:most - 15]} ... {title[-10:]}"


def side_by_side(views):
    """Return views, uint8 (28, 28) arrays, as one picture, uint8, about as wide as high."""
    columns = math.ceil(math.sqrt(len(views)))
    blank = [np.zeros_like(views[0])] * (-len(views) % columns)
    views = [np.pad(view, 1, constant_values=128) for view in [*views, *blank]]
    return np.concatenate([np.concatenate(views[i:i + columns], axis=1) for i in range(0, len(views), columns)])


def mark_digits(ax, reading, shape):
    """Draw a box round each digit of a reading on ax, which shows a picture of that shape; of several, with what was read.
    Return what was drawn, a list of artists."""
    (height, width), marks = shape[:2], []
    for found in reading.digits:
        left, top, right, bottom = found.box[0] * width, found.box[1] * height, found.box[2] * width, found.box[3] * height
        marks += [box(ax, left - 0.5, top - 0.5, right - left, bottom - top, WRONG, 1.5 if len(reading.digits) == 1 else 0.8)]
        if len(reading.digits) > 1:
            above = max(top - 2, 0.04 * height)  # at the upper edge there is no room but in the box
            marks += [ax.text(left, above, str(found.digit), color=WRONG, fontsize=9, va="bottom")]
    return marks


def as_rgb(array):
    """Return a picture, float (H, W, 1 or 3), as matplotlib shows it: (H, W, 3), 0..1; one white pixel if it is None."""
    return np.ones((1, 1, 3)) if array is None else np.clip(np.broadcast_to(array, (*array.shape[:2], 3)), 0, 1)


def plot_bars(ax, probabilities):
    """Draw ten probabilities on ax as horizontal bars, in percent, the largest one dark; return the bars."""
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


# How plot_layers arranges a layer: rows and columns of maps, how large their pixels are drawn, and what leads to it
ARRANGEMENT = {
    "C1": (3, 2, 1.2, "5x5\nconvolution"), "S2": (3, 2, 1.2, "2x2\naverage"),
    "C3": (4, 4, 2.5, "5x5\nconvolution"), "S4": (4, 4, 2.5, "2x2\naverage"),
    "C5": (1, 1, 1.0, "5x5\nconvolution"), "F6": (1, 1, 1.0, "linear"),
}
TOP, BOTTOM, SIDE, GAP, PAD = 64, -64, 54, 22, 3  # in the unit of its axes: the height of one of the 120 in C5


def plot_layers(picture, place, layers, probabilities, heading):
    """Return a Figure of a picture on its way through LeNet-5, in the manner of figure 2 of LeCun et al. 1998.

    picture: float (H, W, C); place: the digit's box; layers: {name: activations, -1..1, of C1, S2, C3, S4 (C, H, W), C5
    (120, 1, 1) and F6 (84,); "Input": uint8 (32, 32)}; probabilities: ten.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.4), layout="constrained")
    ax = figure.subplots()
    draw_input(ax, as_rgb(picture), place, layers["Input"])
    x, middle = SIDE, -33
    for name, (rows, columns, size, step) in ARRANGEMENT.items():
        lead(ax, (x + 2, middle), (x + GAP - 2, middle), step)
        x, middle = x + GAP, 0
        width, shown = draw_layer(ax, x, name, layers[name], rows, columns, size)
        x += width
    lead(ax, (x + 2, 0), (x + GAP - 2, 0), "linear,\nsoftmax")
    x += GAP + 8
    draw_output(ax, x, probabilities)
    ax.set(xlim=(-3, x + 70), ylim=(BOTTOM - 20, TOP + 20), aspect="equal")
    ax.axis("off")
    bar = figure.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.3, aspect=35, pad=0.02,
                          ticks=(-1, -0.5, 0, 0.5, 1))
    bar.set_label("activation: tanh (S2, S4: the mean of four)", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    figure.suptitle(heading, fontsize=12, color=INK)
    return figure


def draw_input(ax, picture, place, seen):
    """Draw the picture with the box of its digit and, below it, what the network sees."""
    height, width = (SIDE * n / max(picture.shape[:2]) for n in picture.shape[:2])
    left, top = (SIDE - width) / 2, 33 + height / 2
    show(ax, picture, left, 33, width, height)
    x0, y0, x1, y1 = place
    box(ax, left + x0 * width, top - y1 * height, (x1 - x0) * width, (y1 - y0) * height, WRONG, 1.5)
    write(ax, SIDE / 2, TOP, "Picture", va="bottom")
    show(ax, seen, 0, -33, SIDE, SIDE, cmap="gray", vmin=0, vmax=255)
    write(ax, SIDE / 2, BOTTOM, "Input\n32x32", va="top")
    lead(ax, (SIDE / 2, 33 - height / 2), (SIDE / 2, -33 + SIDE / 2))


def draw_layer(ax, x, name, maps, rows, columns, size):
    """Draw a layer's activations from x on, as a grid of maps or one column of numbers; return (its width, an image)."""
    if rows > 1:
        what = f"{maps.shape[0]} @ {maps.shape[1]}x{maps.shape[2]}"
        high, wide = size * maps.shape[1], size * maps.shape[2]
    else:
        what, maps = str(maps.size), maps.reshape(1, -1, 1)
        high, wide = size * maps.shape[1], 16
    for i, one in enumerate(maps):
        row, column = divmod(i, columns)
        shown = show(ax, one, x + column * (wide + PAD), ((rows - 1) / 2 - row) * (high + PAD), wide, high, cmap="RdBu_r",
                     vmin=-1, vmax=1)
    width = columns * wide + (columns - 1) * PAD
    write(ax, x + width / 2, TOP, f"{name}\n{what}", va="bottom")
    return width, shown


def draw_output(ax, x, probabilities):
    """Draw ten probabilities from x on."""
    from matplotlib.patches import Rectangle

    for digit, p in enumerate(probabilities):
        y = 45 - 10 * digit
        write(ax, x - 5, y, str(digit))
        ax.add_patch(Rectangle((x, y - 3.5), 42 * p, 7, color=INK if p == max(probabilities) else PALE))
        write(ax, x + 42 * p + 3, y, f"{100 * p:.1f} %" if p >= 0.0005 else "", ha="left", fontsize=9)
    write(ax, x + 21, TOP, "Output\n10", va="bottom")


def show(ax, image, x, y, width, height, **options):
    """Draw a framed image from x on, its middle at y; return matplotlib's."""
    box(ax, x, y - height / 2, width, height, GREY, 0.8)
    return ax.imshow(image, extent=(x, x + width, y - height / 2, y + height / 2), interpolation="nearest", **options)


def box(ax, x, y, width, height, colour, linewidth):
    from matplotlib.patches import Rectangle

    return ax.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=linewidth, zorder=3))


def write(ax, x, y, text, **options):
    ax.text(x, y, text, **{"fontsize": 10, "color": INK, "ha": "center", "va": "center", **options})


def lead(ax, start, end, step=None):
    """Draw an arrow and, below, what it stands for."""
    ax.annotate("", xy=end, xytext=start, arrowprops=dict(arrowstyle="->", color=GREY))
    if step:
        write(ax, (start[0] + end[0]) / 2, BOTTOM, step, va="top", fontsize=9, color=GREY)
