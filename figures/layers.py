"""Draw the network's layers, and one picture on its way through every one of them."""

import math

import numpy as np
import torch

import utils
from figures import plots
from reading.output import percent

# What plot_layers draws with, in the unit of its axes: the height of one of the 120 numbers in C5
TOP, BOTTOM, SIDE, GAP, PAD, HIGH = 64, -64, 54, 30, 3, 107
STAGES = {"Conv2d": ("C", "{0}x{0} convolution"), "AvgPool2d": ("S", "{0}x{0} average"),
          "MaxPool2d": ("S", "{0}x{0} maximum"), "Linear": ("F", "linear")}


def plot_architecture(model):
    """Return a Figure of model's layers as stacks of feature maps, as figure 2 of LeCun et al."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    ax = figure.subplots()
    stages, x, previous = trace_stages(model), 0.0, None
    for name, output, kind, count in stages:
        width, what = draw_stage(ax, x, output.shape)
        if previous is not None:
            ax.annotate("", xy=(x - 0.08, 0), xytext=(previous + 0.08, 0),
                        arrowprops=dict(arrowstyle="->", color="#7f8c8d"))
            ax.text((previous + x) / 2, -2.9, kind.replace(" ", "\n"), ha="center", va="top",
                    fontsize=9, color=plots.GREY)
        ax.text(x + width / 2, 2.75, f"{name}\n{what}", ha="center", va="bottom", fontsize=10,
                color=plots.INK)
        ax.text(x + width / 2, -4.4, f"{count:,}", ha="center", va="top", fontsize=9)
        previous = x + width
        x = previous + 1.7
    total = sum(p.numel() for p in model.parameters())
    ax.text(-0.3, -4.4, "parameters", ha="right", va="top", fontsize=9)
    ax.set(xlim=(-2.2, previous + 0.7), ylim=(-5.0, 4.1), aspect="equal",
           title=f"LeNet-5 after LeCun et al. (1998), as it is built today: {total:,} parameters")
    ax.axis("off")
    return figure


def trace_stages(model, x=None):
    """Return [(name, its output, kind, number of parameters)] of the stages that x passes through.

    x: float (1, 1, 32, 32). A stage is a convolution (C), pooling (S) or a linear layer (F), with
    the activation behind it: Input, C1, S2, C3, S4, C5, F6, Output in LeNet-5.
    """
    x = torch.zeros(1, 1, 32, 32, device=next(model.parameters()).device) if x is None else x
    stages = [["Input", x[0], "", 0]]

    def record(module, inputs, output):
        letter, kind = STAGES.get(type(module).__name__, (None, None))
        if letter:
            size = getattr(module, "kernel_size", 0)
            kind = kind.format(size[0] if isinstance(size, tuple) else size)
            count = sum(p.numel() for p in module.parameters())
            stages.append([f"{letter}{len(stages)}", output[0], kind, count])
        elif len(stages) > 1:
            stages[-1][1] = output[0]

    hooks = [module.register_forward_hook(record) for module in model.modules()
             if not list(module.children())]
    try:
        with torch.no_grad():
            logits = utils.compute_logits(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    stages[-1][:2] = "Output", logits[0]
    return stages


def draw_stage(ax, x, shape):
    """Draw one layer's output, (C, H, W) or (C,), from x on; return (width, its size in words)."""
    from matplotlib.patches import Polygon, Rectangle

    depth, style = shape[0], dict(edgecolor=plots.INK, linewidth=0.9, zorder=3)
    if len(shape) == 3 and shape[1] > 1:  # feature maps: a stack of squares, one behind the other
        size, step = shape[1] / 8, 0.16 if depth > 1 else 0
        width = height = size + step * (depth - 1)
        for i in reversed(range(depth)):
            corner = x + step * i, -height / 2 + step * i
            ax.add_patch(Rectangle(corner, size, size, facecolor="white", **style))
        words = f"{shape[1]}x{shape[2]}"
        return width, f"{depth} @ {words}" if depth > 1 else words
    width, height = 0.35, depth / 30 + 0.6  # single numbers: one narrow column
    corners = [(x, -height / 2), (x + width, -height / 2 + 0.3), (x + width, height / 2 + 0.3),
               (x, height / 2)]
    ax.add_patch(Polygon(corners, facecolor="#dfe8f0", **style))
    return width, f"{depth}"


def plot_layers(picture, place, layers, probabilities, heading, steps):
    """Return a Figure of a picture on its way through the network, as figure 2 of LeCun et al.

    picture: float (H, W, C); place: the digit's box; layers: {name: activations, maps (C, H, W) or
    numbers (N,)}, first of all "Input": uint8 (32, 32); probabilities: ten; steps: {name: what
    leads to the layer, in words}.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    ax = figure.subplots()
    layers, size = dict(layers), 1.2
    draw_input(ax, plots.as_rgb(picture), place, layers.pop("Input"))
    limit = max(1.0, *(float(np.abs(maps).max()) for maps in layers.values()))
    x, middle = SIDE, -33
    for name, maps in layers.items():
        lead(ax, (x + 4, middle), (x + GAP - 4, middle), steps[name])
        x, middle = x + GAP, 0
        if name.startswith("C") and maps.ndim == 3:  # what is pooled keeps the size of its pixels
            rows = -(-len(maps) // max(1, math.isqrt(len(maps))))
            size = (HIGH - PAD * (rows - 1)) / (rows * maps.shape[1])
        width, shown = draw_layer(ax, x, name, maps, size, limit)
        x += width
    lead(ax, (x + 4, 0), (x + GAP - 4, 0), steps["Output"] + " softmax")
    x += GAP + 8
    draw_output(ax, x, probabilities)
    ax.set(xlim=(-3, x + 74), ylim=(BOTTOM - 24, TOP + 24), aspect="equal")
    ax.axis("off")
    bar = figure.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.3, aspect=35, pad=0.02)
    bar.set_label("activation", fontsize=10)
    figure.suptitle(heading, fontsize=12, color=plots.INK)
    return figure


def draw_input(ax, picture, place, seen):
    """Draw the picture with the box of its digit and, below it, what the network sees."""
    height, width = (SIDE * n / max(picture.shape[:2]) for n in picture.shape[:2])
    left, top = (SIDE - width) / 2, 33 + height / 2
    show(ax, picture, left, 33, width, height)
    x0, y0, x1, y1 = place
    plots.box(ax, left + x0 * width, top - y1 * height, (x1 - x0) * width, (y1 - y0) * height,
              plots.WRONG, 1.5)
    write(ax, SIDE / 2, TOP, "Picture", va="bottom")
    show(ax, seen, 0, -33, SIDE, SIDE, cmap="gray", vmin=0, vmax=255)
    write(ax, 0, BOTTOM, "Input\n32x32", va="top", ha="left")
    lead(ax, (SIDE / 2, 33 - height / 2), (SIDE / 2, -33 + SIDE / 2))


def draw_layer(ax, x, name, maps, size, limit):
    """Draw a layer's activations, -limit..limit, from x on; return (its width, an image).

    Maps become a grid, `size` the height of a pixel; numbers become one column.
    """
    if maps.ndim == 3 and maps.shape[1] > 1:
        columns = max(1, math.isqrt(len(maps)))
        what = f"{maps.shape[0]} @ {maps.shape[1]}x{maps.shape[2]}"
        high, wide = size * maps.shape[1], size * maps.shape[2]
    else:
        what, maps, columns = str(maps.size), maps.reshape(1, -1, 1), 1
        high, wide = min(maps.shape[1], 2 * TOP), 16
    rows = -(-len(maps) // columns)
    for i, one in enumerate(maps):
        row, column = divmod(i, columns)
        y = ((rows - 1) / 2 - row) * (high + PAD)
        shown = show(ax, one, x + column * (wide + PAD), y, wide, high, cmap="RdBu_r", vmin=-limit,
                     vmax=limit)
    width = columns * wide + (columns - 1) * PAD
    write(ax, x + width / 2, TOP, f"{name}\n{what}", va="bottom")
    return width, shown


def draw_output(ax, x, probabilities):
    """Draw ten probabilities from x on."""
    from matplotlib.patches import Rectangle

    for digit, p in enumerate(probabilities):
        y, colour = 45 - 10 * digit, plots.INK if p == max(probabilities) else plots.PALE
        write(ax, x - 5, y, str(digit))
        ax.add_patch(Rectangle((x, y - 3.5), 42 * p, 7, color=colour))
        write(ax, x + 42 * p + 3, y, percent(p) if p >= 0.0005 else "", ha="left", fontsize=9)
    write(ax, x + 21, TOP, "Output\n10", va="bottom")


def show(ax, image, x, y, width, height, **options):
    """Draw a framed image from x on, its middle at y; return matplotlib's."""
    plots.box(ax, x, y - height / 2, width, height, plots.GREY, 0.8)
    extent = x, x + width, y - height / 2, y + height / 2
    return ax.imshow(image, extent=extent, interpolation="nearest", **options)


def write(ax, x, y, text, **options):
    style = {"fontsize": 11, "color": plots.INK, "ha": "center", "va": "center", **options}
    ax.text(x, y, text, **style)


def lead(ax, start, end, step=None):
    """Draw an arrow and, below, what it stands for."""
    ax.annotate("", xy=end, xytext=start, arrowprops=dict(arrowstyle="->", color=plots.GREY))
    if step:
        words = step.replace(" ", "\n")
        write(ax, (start[0] + end[0]) / 2, BOTTOM, words, va="top", fontsize=10, color=plots.GREY)
