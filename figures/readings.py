"""Draw what was read in pictures, and the way of one digit through the network."""

import math
from itertools import zip_longest
from textwrap import wrap

import numpy as np
import torch
from torch.nn import functional as F

import utils
from figures import layers, plots
from reading.account import account
from reading.image import NoDigit, PictureError, to_array
from reading.output import say, told
from reading.reader import ask, find_best, most_prominent
from training.judge import read_views

MOST = 60  # pictures in a figure
KINDS = {"paper": "white", "not counted": "#cfd6dc", "left out as too faint": "#f0a830",
         "left out": plots.WRONG, "explained, but soft or at an edge": "#7d9fc2",
         "explained": plots.INK}


def plot(pairs, model=None, invert=None, every_layer=False, names=()):
    """Return a Figure of pairs, each (PIL image or None, its Reading or PictureError).

    Of several, each is called by its name, if names are given. One picture is looked at again, if
    there is a model, and the figure shows what the looks took for ink; with every_layer, its way
    through the model instead.
    """
    arrays = [None if image is None else to_array(image, 512) for image, _ in pairs]
    if every_layer:
        return explain(*arrays, pairs[0][1], model)
    readings, titles = zip(*(told(reading) for _, reading in pairs))
    again = len(pairs) == 1 and model is not None
    looks = find_looks(*pairs[0], model, invert) if again else []
    if len(pairs) == 1 and readings[0] is not None and len(readings[0].digits) > 1:
        return plot_number(*arrays, *readings, *titles, looks)
    mains = [None if reading is None else most_prominent(reading.digits) for reading in readings]
    names = names[:len(pairs)] if len(pairs) > 1 else ()
    titles = [caption(*each) for each in zip_longest(readings, titles, names)]
    return plot_readings(arrays, readings, titles, mains, looks)


def caption(reading, said, name=None):
    """Return what a figure says of one picture in some lines: its name, if any, and what was
    read, or, if reading is None, why nothing was."""
    lines = ["no reading:", *wrap(said, 40)] if reading is None else [shorten(said, 25)]
    return "\n".join([shorten(utils.one_line(name), 25), *lines] if name else lines)


def find_looks(image, reading, model, invert):
    """Return account() of each look at a picture that is read, or holds no digit."""
    if image is None or isinstance(reading, PictureError) and not isinstance(reading, NoDigit):
        return []
    best = ask(find_best(image, invert), lambda views: read_views(model, views))
    return [account(look, best.looks[0]) for look in best.looks] if best is not None else []


def make_figure(wide, high, looks):
    """Return (Figure, the upper part of it, in inches): looks are drawn in the rest, if any."""
    from matplotlib.figure import Figure

    if not looks:
        figure = Figure(figsize=(wide, high), layout="constrained")
        return figure, figure
    lines = [[part for line in words.split("\n") for part in wrap(line, 144 // len(looks))]
             for _, words, *_ in looks]
    tallest = max(kinds.shape[0] / kinds.shape[1] for _, _, kinds, _ in looks)
    heights = min(2.4, wide / len(looks) * tallest), 0.16 * (1 + max(map(len, lines)))
    figure = Figure(figsize=(wide, high + sum(heights) + 0.9), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[high, sum(heights) + 0.9])
    draw_looks(lower, looks, ["\n".join(each) for each in lines], heights)
    return figure, upper


def draw_looks(figure, looks, words, heights):
    """Draw side by side what each of looks took for ink and its digits' boxes, words below.

    looks: a list of (title, its words in one line each, kinds, boxes in 0..1 of its sides), kinds:
    uint8 (H, W), each the n-th of KINDS; heights: of kinds and of words, in inches.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    colours = list(KINDS.values())
    axes = figure.subplots(2, len(looks), squeeze=False, height_ratios=heights)
    for ax, below, (title, _, kinds, boxes), said in zip(*axes, looks, words):
        step = max(1, int(kinds.shape[0] / heights[0] / 100))  # else thin strokes are hardly seen
        shown = F.max_pool2d(torch.from_numpy(kinds)[None].float(), step, ceil_mode=True)
        ax.imshow(shown[0].numpy(), ListedColormap(colours), vmin=0, vmax=len(colours) - 1)
        for left, top, right, bottom in np.array(boxes) * np.tile(kinds.shape[::-1], 2) / step:
            plots.box(ax, left - 0.5, top - 0.5, right - left, bottom - top, plots.GREY, 0.5)
        ax.set(xticks=(), yticks=(), anchor="S")
        ax.spines[:].set_color(plots.PALE)
        ax.set_title(shorten(title, 96 // len(looks)), fontsize=10, color=plots.INK)
        below.axis("off")
        below.text(0.5, 1, said, ha="center", va="top", fontsize=8, color=plots.INK,
                   linespacing=1.4, in_layout=False)
    figure.suptitle("the likeliest texts, each with its share P of the looks, and what its best "
                    "look took for ink", fontsize=10)
    patches = [Patch(color=colour, label=name) for name, colour in KINDS.items()][:0:-1]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=8, frameon=False)


def plot_readings(pictures, readings, titles, mains, looks=()):
    """Return a Figure: each picture with its digits boxed, what the network saw, what it said.

    pictures: float arrays (H, W, C), or None for one that could not be opened; readings: the
    Reading of each, or None, with what kept it from one as its title; mains: the most prominent
    Digit of each; looks: of draw_looks(), at a picture that is alone.
    """
    columns = 1 if len(readings) == 1 else 2
    rows = -(-len(readings) // columns)
    size = 2.6 if columns == 1 else 1.5
    figure, upper = make_figure(3.4 * size * columns, rows * size + 0.7, looks)
    grid = upper.subplots(rows, 3 * columns, squeeze=False, width_ratios=[1, 1, 1.3] * columns)
    for ax in grid.flat:
        ax.axis("off")
    for i, (array, reading, title, main) in enumerate(zip(pictures, readings, titles, mains)):
        axes = grid[i // columns, 3 * (i % columns):][:3]
        axes[0].imshow(plots.as_rgb(array), interpolation="nearest")
        if reading is None:  # two $ in what a damaged file says are no formula
            axes[1].text(0, 0.5, title, va="center", transform=axes[1].transAxes, fontsize=9,
                         color=plots.WRONG, parse_math=False, in_layout=False)
            continue
        draw_reading(axes, array, reading, title, main, columns == 1)
        if columns == 1 or i // columns == rows - 1:
            axes[2].set_xlabel("probability (%)", fontsize=9 if columns == 1 else 7)
    if columns > 1:
        figure.suptitle("picture with its digits, what the network sees, the probabilities of the "
                        "most prominent digit", fontsize=10)
    return figure


def draw_reading(axes, array, reading, title, main, alone):
    """Draw a picture, what the network saw of it and its probabilities on three axes."""
    picture, seen, bars = axes
    plots.mark_digits(picture, reading, array.shape)
    views = [digit.view for digit in reading.digits]
    image = views[0] if len(views) == 1 else side_by_side(views)
    seen.imshow(image, cmap="gray", vmin=0, vmax=255)
    bars.axis("on")
    plots.plot_bars(bars, main.probabilities)
    bars.tick_params(labelsize=9 if alone else 6)
    bars.set_title(title, fontsize=12 if alone else 9, color=plots.INK, parse_math=False)
    if alone:
        bars.set_ylabel("digit", fontsize=9)
        picture.set_title("picture, box: the digit", fontsize=10)
        seen.set_title("what the network sees", fontsize=10)


def plot_number(array, reading, title, looks=(), most=60):
    """Return a Figure: a picture with a box round each digit, and what the network saw of each.

    looks: of draw_looks().
    """
    digits = reading.digits[:most]
    columns = min(12, len(digits))
    rows = -(-len(digits) // columns)
    most_high = max(4.6, len(reading.digits) / 14)  # inches; few digits fit a screen
    high = min(most_high, max(2.5, 9 * array.shape[0] / array.shape[1]))
    figure, upper = make_figure(9, high + 0.95 * rows + 0.9, looks)
    upper, lower = upper.subfigures(2, 1, height_ratios=[high + 0.4, 0.95 * rows + 0.5])
    ax = upper.subplots()
    ax.imshow(plots.as_rgb(array), interpolation="nearest")
    ax.axis("off")
    ax.set_title(shorten(title, 80), fontsize=12)
    plots.mark_digits(ax, reading, array.shape)
    more = f" (the first {most} of {len(reading.digits)})" if len(reading.digits) > most else ""
    lower.suptitle(f"what the network sees of each digit and how sure it is{more}; in orange: not "
                   "quite sure", fontsize=10)
    for cell, digit in zip_longest(lower.subplots(rows, columns, squeeze=False).flat, digits):
        cell.axis("off")
        if digit is not None:
            cell.imshow(digit.view, cmap="gray", vmin=0, vmax=255)
            cell.set_title(f"{digit.digit}, {100 * digit.probability:.0f} %", fontsize=9,
                           color=plots.colour_of(digit))
    return figure


def shorten(title, most):
    """Return title, a long one without its middle: its end says how sure the reading is."""
    return title if len(title) <= most else f"{title[:most - 15]} ... {title[-10:]}"


def side_by_side(views):
    """Return views, uint8 (28, 28) arrays, as one picture, uint8, about as wide as high."""
    columns = math.ceil(math.sqrt(len(views)))
    blank = [np.zeros_like(views[0])] * (-len(views) % columns)
    views = [np.pad(view, 1, constant_values=128) for view in [*views, *blank]]
    return np.concatenate([np.concatenate(views[i:i + columns], axis=1)
                           for i in range(0, len(views), columns)])


def plot_random(images, labels, probabilities):
    """Return (Figure, number misread) of MNIST's digits with what the network said of each.

    images: uint8 (N, 1, 32, 32); labels: int64 (N,); probabilities: float (N, 10).
    """
    confidence, digits = probabilities.max(1)
    wrong = digits != labels
    blank = "\n" if wrong.any() else ""  # keeps the titles of a row at one height
    titles = [f"{digit} ({100 * p:.0f} %)" + (f"\nis a {label}" if digit != label else blank)
              for digit, p, label in zip(digits.tolist(), confidence.tolist(), labels.tolist())]
    n_wrong = wrong.sum().item()
    digits = "1 random test digit" if len(labels) == 1 else f"{len(labels)} random test digits"
    heading = f"{digits}: reading and probability; {n_wrong} wrong, in red"
    return plots.plot_digits(images, titles, wrong.tolist(), heading), n_wrong


def explain(array, reading, model):
    """Return a Figure of a picture, float (H, W, C), on its way through every layer of model."""
    main = most_prominent(reading.digits)
    activations, steps, probabilities = watch(model, main.view)
    heading = f"{say(reading)}: from the picture to the reading, through every layer"
    if len(reading.digits) > 1:
        heading = f"The most prominent digit of {say(reading)} on its way through every layer"
    elif np.abs(probabilities - main.probabilities).max() > 0.001:
        heading = f"One of several views of the picture; their mean is read as {say(reading)}"
    return layers.plot_layers(array, main.box, activations, probabilities, heading, steps)


def watch(model, view):
    """Return ({stage: activations}, {stage: its kind}, probabilities (10,)) of a digit, uint8
    (28, 28).

    The stages are layers.trace_stages()'s, float arrays without a batch's dimension, but for Input:
    uint8 (32, 32).
    """
    view = torch.from_numpy(view[None])
    x = utils.to_inputs(view).to(next(model.parameters()).device)
    stages = layers.trace_stages(model, x)
    found = {name: output.cpu().numpy() for name, output, _, _ in stages[:-1]}
    found["Input"] = utils.resize(view)[0, 0].numpy()
    probabilities = stages[-1][1].softmax(0).cpu().numpy()
    return found, {name: kind for name, _, kind, _ in stages}, probabilities
