"""A generator of pictures of digits as people make them, for tests of predict.py and for tuning it.

    python tests/pictures.py [N [CHECKPOINT]]    how predict.py reads N (200) pictures of each kind

Every kind is a function of (digit, rng): digit is a float (28, 28) array, 0 paper .. 1 ink, from MNIST's validation
images, which the network was not trained on; rng is a numpy Generator. It returns a PIL image. Here are plain pictures
and what makes sets of them; in corruptions.py what MNIST-C does to 28x28 pixels, in troubles.py a digit among other
things, in nothing.py what is no digit, in pages.py numbers. strokes.py has the pens, the paper and the camera.
"""

import functools
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

import nothing  # noqa: E402
import pages  # noqa: E402
import troubles  # noqa: E402
from corruptions import CORRUPTIONS, corrupted, fog, impulse_noise, stripe  # noqa: E402, F401 (used as pictures.fog ...)
from strokes import (blur, colours, enlarge, light, pen_line, place, rotate, ruling, shoot, tight, to_image)  # noqa: E402, F401


def photograph(digit, rng, degrees=8, ruled=False, line_width=None):
    size = int(rng.integers(70, 220))
    if line_width is None:
        ink = enlarge(digit, size)
    else:
        ink = pen_line(digit, size, rng.uniform(*line_width) * size / 100)
    ink = tight(rotate(ink, rng.uniform(-degrees, degrees)))
    height, width = (int(max(ink.shape) * rng.uniform(1.25, 3)) for _ in range(2))
    paper, pen = colours(rng)
    lines = line_colour = None
    if ruled:
        lines = ruling(rng, height, width, squared=rng.random() < 0.5)
        line_colour = paper + rng.uniform(0.2, 0.45) * (rng.uniform(0, 1, 3) - paper)
    return shoot(place(ink, rng, height, width), rng, paper, pen, lines, line_colour)


def ruled(digit, rng):
    return photograph(digit, rng, ruled=True)


def turned(digit, rng):
    return photograph(digit, rng, degrees=30)


def ballpoint(digit, rng):
    return photograph(digit, rng, ruled=rng.random() < 0.5, line_width=(2, 4))


def paint(digit, rng):
    """A line drawn in a paint program: exact colours, a white page more often than not."""
    size = int(rng.integers(100, 300))
    ink = tight(pen_line(digit, size, rng.uniform(1.5, 6)))
    if rng.random() < 0.5:
        ink = (ink > 0.5).astype(np.float32)
    paper, pen = (np.ones(3), np.zeros(3)) if rng.random() < 0.6 else colours(rng)
    canvas = place(ink, rng, *(int(max(ink.shape) * rng.uniform(1.1, 3)) for _ in range(2)))
    return to_image(paper + canvas[..., None] * (pen - paper))


def sheet_edge(digit, rng):
    """A photograph with a strip of the table, or of the next sheet, at one or two of its sides."""
    size = int(rng.integers(70, 200))
    ink = tight(enlarge(digit, size) if rng.random() < 0.5 else pen_line(digit, size, rng.uniform(2, 4) * size / 100))
    height, width = (int(max(ink.shape) * rng.uniform(1.2, 2.5)) for _ in range(2))
    canvas = place(ink, rng, height, width)
    top, left = (int(rng.integers(0, 2) * rng.uniform(0.05, 0.2) * side) for side in (height, width))
    canvas = np.pad(canvas, ((top, 0), (left or int(0.1 * width), 0)))
    strips = np.zeros(canvas.shape, dtype=np.float32)
    strips[:top], strips[:, :left or int(0.1 * width)] = 1, 1
    paper, pen = rng.uniform(0.75, 1, 3), rng.uniform(0, 0.4, 3)
    return shoot(canvas, rng, paper, pen, strips, rng.uniform(0, 1, 3) * 0.6)


def screen(digit, rng):
    """A digit on the ruled page of a note-taking program: exact colours, lines and all."""
    image = paint(digit, rng).convert("RGB")
    lines = ruling(rng, image.height, image.width, squared=rng.random() < 0.5)[..., None]
    page = np.asarray(image, dtype=np.float32) / 255
    paper = page[0, 0]
    blank = np.abs(page - paper).max(axis=2, keepdims=True) < 0.01
    return to_image(page + blank * lines * rng.uniform(0.15, 0.4) * (0.5 - paper))


def small_scan(digit, rng):
    """16x16, the digit up to the edges, as postal scans are; dark on light or light on dark."""
    ink = tight(enlarge(digit, 112))
    scale = 16 / max(ink.shape)
    size = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
    ink = np.asarray(to_image(blur(ink, 1)).resize(size, Image.Resampling.BOX), dtype=np.float32) / 255
    canvas = np.zeros((16, 16), dtype=np.float32)
    y, x = (16 - ink.shape[0]) // 2, (16 - ink.shape[1]) // 2
    canvas[y:y + ink.shape[0], x:x + ink.shape[1]] = ink
    image = to_image(canvas if rng.random() < 0.5 else 1 - canvas)
    return image if rng.random() < 0.5 else image.resize((128, 128), Image.Resampling.BICUBIC)


def as_mnist(digit, rng):
    return to_image(digit if rng.random() < 0.5 else 1 - digit)


KINDS = [as_mnist, photograph, ruled, ballpoint, paint, screen, sheet_edge, turned, small_scan]


def uci():
    """Return ([PIL image], [digit]) of the UCI test digits by 13 other writers, dark on light, enlarged from 8x8."""
    data = np.load(Path(__file__).with_name("uci_digits.npz"))
    images = [to_image(1 - image / 16).resize((128, 128), Image.Resampling.BICUBIC) for image in data["images"]]
    return images, data["labels"].tolist()


@functools.cache
def validation():
    """Return MNIST's validation images, uint8 (5000, 28, 28), and their labels; loaded once."""
    from training import data

    return data.split_validation(*data.read_mnist(train=True))[1]


def digits(n, seed=0):
    """Return (float (n, 28, 28), labels) drawn from MNIST's validation images."""
    import torch

    images, labels = validation()
    pick = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:n]
    return images[pick].numpy().astype(np.float32) / 255, labels[pick].tolist()


def make(kind, n, seed=0):
    """Return ([PIL image], [digit]) of n pictures of one kind; of kinds of no digit, None is the digit."""
    images, labels = digits(n, seed)
    rng = np.random.default_rng([seed, sum(kind.__name__.encode())])
    return [kind(image, rng) for image in images], [ALWAYS.get(kind, label) for label in labels]


def make_numbers(kind, n, seed=0):
    """Return ([PIL image], [text]) of n pictures of several digits; lines of text are separated by newlines."""
    images, labels = digits(5000, seed)
    rng = np.random.default_rng([seed, sum(kind.__name__.encode())])
    made = []
    for _ in range(n):
        pick = rng.integers(0, len(labels), pages.MOST)
        made.append(kind([(images[i], labels[i]) for i in pick], rng))
    return [image for image, _ in made], [text for _, text in made]


ALWAYS = troubles.ALWAYS | dict.fromkeys(nothing.KINDS)  # the digit that a kind shows, whatever it is given


# ---------------------------------------------------------------------------------------------------------------------
# The table: how predict.py reads each kind

def said(reading):
    """Return (text, whether it is sure of it) of a reading; text is None if it was refused."""
    from reading.image import PictureError
    import predict

    if isinstance(reading, PictureError):
        return None, False
    return reading.text, reading.probability >= predict.output.SURE


def distance(a, b):
    """Return the edit distance of two strings."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            new.append(min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (x != y)))
        row = new
    return row[-1]


def score(readings, wanted):
    """Return the shares in % of readings that are right, refused, and wrong though sure; and of digits that are wrong.

    wanted: texts; or None for no digit, where right is what is refused or unsure; or "" for an empty page, to be refused.
    """
    answers = [said(reading) for reading in readings]
    right = [not sure if want is None else (text or "") == want for (text, sure), want in zip(answers, wanted)]
    refused = [text is None for text, _ in answers]
    misled = [sure and not good for (_, sure), good in zip(answers, right)]
    wrong = sum(min(distance(text or "", want), len(want)) for (text, _), want in zip(answers, wanted) if want)
    digits = sum(len(want) for want in wanted if want)
    return *(100 * float(np.mean(column)) for column in (right, refused, misled)), 100 * wrong / max(digits, 1)


def sets(n):
    """Yield (group, name, [PIL image], [text or None]) of all kinds."""
    single = {"plain": KINDS, "28x28": [corrupted(c) for c in CORRUPTIONS], "troubles": troubles.KINDS,
              "no digit": nothing.DRAWN, "empty": nothing.EMPTY}
    images, labels = uci()
    yield "plain", "uci", images, [str(label) for label in labels]
    for group, kinds in single.items():
        for kind in kinds:
            images, labels = make(kind, n)
            blank = "" if group == "empty" else None
            yield group, kind.__name__, images, [blank if label is None else str(label) for label in labels]
    for kind in pages.KINDS:
        yield "numbers", kind.__name__, *make_numbers(kind, n)


def main(n=200, checkpoint=None):
    import predict
    import utils
    from training import checkpoints

    model, _ = checkpoints.load_checkpoint(checkpoint or utils.SHIPPED)
    groups = {}
    print(f"{'in %':24}   right  refused  wrong, sure  digit errors", flush=True)
    for group, name, images, wanted in sets(n):
        row = score(predict.predict_images(images, model), wanted)
        groups.setdefault(group, []).append(row)
        print_row(name, row, group)
    for group, rows in groups.items():
        print_row(f"mean of {group}", np.mean(rows, axis=0), group)
    return groups


def print_row(name, row, group):
    """Print a row of the table; only numbers have errors by digit of their own."""
    right, refused, misled, errors = row
    last = f"{errors:14.2f}" if group == "numbers" else ""
    print(f"{name:24} {right:7.2f}  {refused:7.2f}  {misled:11.2f}{last}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
