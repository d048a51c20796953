"""Make Assets/readme/training.gif: eight epochs of the default recipe, on twenty digits.

    python tests/make_figures.py gif
"""

import io
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import predict  # noqa: E402
import train  # noqa: E402
import utils  # noqa: E402
from figures import plots  # noqa: E402
from training import recipes, report  # noqa: E402


def watch(train_set, valid_set, epochs=8, stops=(5, 10, 20, 40, 80), seed=0):
    """Train with the default recipe; yield (heading, probabilities of valid_set's images, float (N,
    10)).

    First untrained, then after each number of batches in stops, then after each epoch.
    """
    settings = dict(recipes.RECIPES["modern"], epochs=epochs, seed=seed)
    model, optimizer, loader, extras = recipes.prepare(settings, train_set, "cpu")

    def look():
        return predict.read_inputs(model.eval(), valid_set[0])

    yield "untrained", look()
    for epoch in range(1, epochs + 1):
        batches = iter(loader)
        marks = [mark for mark in stops if mark < len(loader)] if epoch == 1 else []
        for done, mark in itertools.pairwise([0, *marks, len(loader)]):
            train.train(
                list(itertools.islice(batches, mark - done)),
                model,
                torch.nn.CrossEntropyLoss(),
                optimizer,
                "cpu",
                **extras,
            )
            yield (
                f"after epoch {epoch}"
                if mark == len(loader)
                else f"after {mark} of {len(loader)} batches",
                look(),
            )


def choose(probabilities, labels):
    """Return indices of 20 images: of each digit the first, then of each the one that came right
    after most errors.

    probabilities: a list of float (N, 10), one for each frame. The second is right in the last
    frame, and wrong in as many others as any such image; the first of several.
    """
    right = torch.stack([p.argmax(1) == labels for p in probabilities])
    errors = torch.where(right[-1], (~right).sum(0), -1)
    of_digit = [(labels == digit).nonzero().flatten() for digit in range(10)]
    return [index[0].item() for index in of_digit] + [
        index[errors[index].argmax()].item() for index in of_digit
    ]


def plot_frame(images, labels, probabilities, heading):
    """Return a Figure: images in rows of ten, over each what was read, in red if wrong, under each
    all ten probabilities.

    images: uint8 (N, 1, 32, 32). Everything has a fixed place, so that nothing but what changed
    moves in a film.
    """
    from matplotlib.figure import Figure

    wide, high, rows = 38, 66, -(-len(images) // 10)  # of a cell, in pixels of the digit
    figure = Figure(figsize=(9.4, 9.4 * (high * rows + 22) / (10 * wide)))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 10 * wide), ylim=(high * rows, -22))
    ax.axis("off")
    ax.text(5 * wide, -8, heading, ha="center", va="center", fontsize=13, color=plots.INK)
    for i, (image, label, p) in enumerate(zip(images, labels.tolist(), probabilities)):
        x, y = wide * (i % 10) + 3, high * (i // 10)
        digit = p.argmax().item()
        colour = plots.INK if digit == label else plots.WRONG
        ax.text(
            x + 16,
            y + 5,
            f"{digit} ({100 * p[digit]:.0f} %)",
            ha="center",
            va="center",
            fontsize=10,
            color=colour,
        )
        ax.imshow(
            image[0].numpy(), cmap="gray", vmin=0, vmax=255, extent=(x, x + 32, y + 42, y + 10)
        )
        ax.plot((x, x + 32), (y + 57, y + 57), color=plots.PALE, linewidth=0.8)
        colours = [colour if k == digit else plots.PALE for k in range(10)]
        ax.bar(x + 1.6 + 3.2 * np.arange(10), -13 * p.numpy(), 2.6, bottom=y + 57, color=colours)
        ax.text(x + 1.6, y + 58, "0", ha="center", va="top", fontsize=7, color=plots.INK)
        ax.text(x + 30.4, y + 58, "9", ha="center", va="top", fontsize=7, color=plots.INK)
    ax.set_aspect("equal")
    return figure


def save_gif(figures, path, milliseconds=800):
    """Write figures to path as a film that starts again at its end; the first and the last one stay
    longer."""
    from matplotlib.colors import to_rgb

    frames = []
    for figure in figures:
        file = io.BytesIO()
        figure.savefig(file, dpi=100)
        frames.append(Image.open(file).convert("RGB"))
    # All share one palette, so that nothing flickers: greys, and the few colours that plot_frame
    # draws with, thinned out.
    greys = [(255 * i // 31,) * 3 for i in range(32)]
    colours = [to_rgb(name) for name in (plots.INK, plots.WRONG, plots.PALE)]
    tints = [
        [round(255 - (1 - c) * 255 * i / 8) for c in colour]
        for colour in colours
        for i in range(1, 9)
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in [*greys, *tints] for value in colour])
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [milliseconds] * len(frames)
    durations[0], durations[-1] = 2 * milliseconds, 5 * milliseconds
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    utils.write_atomically(path, file.getvalue())


def film(train_set, valid_set, path, **options):
    """Train as watch() does, write the film to path and return its headings."""
    headings, probabilities = zip(*watch(train_set, valid_set, **options))
    images, labels = valid_set
    shown = choose(probabilities, labels)
    figures = []
    for heading, p in zip(headings, probabilities):
        right = (p.argmax(1) == labels).float().mean().item()
        figures.append(
            plot_frame(
                images[shown],
                labels[shown],
                p[shown],
                f"{heading}: {report.percent(right)} of {len(labels):,} validation digits are read",
            )
        )
    save_gif(figures, path)
    return headings
