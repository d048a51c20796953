"""Negatives: pictures of what is no digit, made of MNIST's training digits and of strokes.

A network that saw nothing but digits is sure of a digit in whatever it is shown: LeCun's own system
was trained to reject what is none (LeCun et al. 1998, sections VII and VIII). Here negatives are
shown with the uniform distribution as their target, so that ten outputs stay ten: outlier exposure
(Hendrycks, Mazeika and Dietterich 2019, section 3).

Images are float (N, 1, H, W), 0 paper .. 1 ink, on the CPU; generator is a CPU generator, so the
same seed makes the same.
"""

import math

import torch

from training.augment import CENTRES, affine, thicken, uniform, warp
from training.styles import between, extent, line, normalize_digits, pen

# Halves that are no digit themselves: not the right half of a 4 (a 1), nor the upper half of an 8
# (a 0), nor ...
HALVES = {"left": (0, 2, 3, 4, 5, 6, 8, 9), "right": (0, 6), "top": (0, 3, 4, 5),
          "bottom": (0, 2, 3, 5)}


def pick(images, labels, digits, n, generator):
    """Return n of the images whose label is among digits, as floats 0..1."""
    index = torch.isin(labels, torch.tensor(digits)).nonzero().flatten()
    if len(index) == 0:  # a handful of training images, as --limit allows
        index = torch.arange(len(labels))
    return images[index[torch.randint(len(index), (n,), generator=generator)]].float() / 255


def half(images, side, generator):
    """Return images with only one side, about half, of their ink: cut along a slanted line."""
    n = len(images)
    left, top, right, bottom = extent(images)
    slant = uniform(n, 0.15, generator)[:, None, None]
    share = between(n, 0.3, 0.5, generator)  # that is left
    share = share if side in ("left", "top") else 1 - share
    x, y = CENTRES, CENTRES[:, None]
    low, high, along, across = ((left, right, x, y) if side in ("left", "right") else
                                (top, bottom, y, x))
    away = along - slant * across - (low + share * (high - low))[:, None, None]
    keep = (away < 0) if side in ("left", "top") else (away > 0)
    return images * keep[:, None]


def side_by_side(first, second, generator, overlap=0.1):
    """Return (N, 1, 32, 64): second's ink to the right of first's, from a small gap to a small
    overlap."""
    n = len(first)
    _, _, right, _ = extent(first)
    left, _, _, _ = extent(second)
    gap = between(n, -overlap, 0.25, generator)

    def move(images, x):
        y = uniform(n, 0.1, generator)
        return warp(images, affine(torch.zeros(n), shift=torch.stack([x, y])))

    # each in its half of the picture; where they overlap, a pixel or two is cut off at the seam
    return torch.cat([move(first, right - 1 + gap / 2), move(second, left + 1 - gap / 2)], dim=3)


def halves(images, labels, n, generator):
    """Return n halves of digits, normalized as if they were digits: what a wrong cut leaves."""
    parts = [half(pick(images, labels, digits, m, generator), side, generator)
             for (side, digits), m in zip(HALVES.items(), portions(n, len(HALVES)))]
    return normalize_digits(torch.cat(parts))


def neighbours(images, labels, n, generator):
    """Return n pictures of two digits, or of a digit and half of its neighbour, normalized as if
    they were one."""
    every, third = tuple(range(10)), n // 3
    first = pick(images, labels, every, n, generator)
    second = pick(images, labels, every, n, generator)
    digits = pick(images, labels, (0, 2, 3, 4, 5, 6, 8, 9), third, generator)
    second[:third] = half(digits, "left", generator)
    digits = pick(images, labels, (0, 2, 3, 5, 6, 8), third, generator)
    first[third:2 * third] = half(digits, "right", generator)
    both = normalize_digits(side_by_side(first, second, generator))
    return torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.7, thicken(both), both)


def turned(images, labels, n, generator):
    """Return n digits on their side, upside down or mirrored, where that makes no digit."""
    ways = (((2, 3, 4, 5, 6, 7, 9), lambda x: x.rot90(1, (2, 3))),
            ((2, 3, 4, 5, 6, 7, 9), lambda x: x.rot90(3, (2, 3))),
            ((3, 4, 7), lambda x: x.rot90(2, (2, 3))), ((3, 4, 6, 7, 9), lambda x: x.flip(3)))
    return torch.cat([normalize_digits(way(pick(images, labels, digits, m, generator)))
                      for (digits, way), m in zip(ways, portions(n, len(ways)))])


def scribbles(n, generator):
    """Return n pictures of three to five strokes at random, straight or bent.

    Most end on a 3x3 grid, as those of letters do.
    """
    on_grid = torch.rand(n, 1, generator=generator) < 0.7
    number = torch.randint(3, 6, (n,), generator=generator)

    def ends():
        grid = torch.randint(-1, 2, (n, 2), generator=generator) * torch.tensor([0.5, 0.7])
        near = grid + uniform((n, 2), 0.08, generator)
        return torch.where(on_grid, near, uniform((n, 2), 0.8, generator))

    strokes = []
    for i in range(5):
        start, end = ends(), ends()
        if i > 0:  # half of the strokes go on where the last one ended, as a pen does
            go_on = torch.rand(n, 1, generator=generator) < 0.5
            start = torch.where(go_on, strokes[-1][:, -1], start)
        straight = torch.rand(n, generator=generator) < 0.5
        bend = torch.where(straight, 0.0, uniform(n, 0.5, generator))
        strokes.append(line(start, end, bend, 32))
    for i, stroke in enumerate(strokes):
        stroke[number <= i] = float("nan")
    return normalize_digits(pen(torch.cat(strokes, 1), between(n, 2.2, 4.5, generator)))


# Signs as strokes, x and y in halves of the side: ("line", x0, y0, x1, y1) or
# ("arc", x, y, radius, start, end in half turns)
SIGNS = {
    "L": [("line", -.5, -.7, -.5, .7), ("line", -.5, .7, .5, .7)],
    "upper left corner": [("line", -.5, -.7, .5, -.7), ("line", -.5, -.7, -.5, .7)],
    "lower right corner": [("line", .5, -.7, .5, .7), ("line", -.5, .7, .5, .7)],
    "T": [("line", -.6, -.7, .6, -.7), ("line", 0, -.7, 0, .7)],
    "+": [("line", -.7, 0, .7, 0), ("line", 0, -.7, 0, .7)],
    "X": [("line", -.5, -.7, .5, .7), ("line", .5, -.7, -.5, .7)],
    "-": [("line", -.7, 0, .7, 0)],
    "=": [("line", -.7, -.2, .7, -.2), ("line", -.7, .3, .7, .3)],
    "||": [("line", -.4, -.7, -.4, .7), ("line", .4, -.7, .4, .7)],
    "H": [("line", -.4, -.7, -.4, .7), ("line", .4, -.7, .4, .7), ("line", -.4, 0, .4, 0)],
    "box": [("line", -.6, -.7, .6, -.7), ("line", .6, -.7, .6, .7), ("line", .6, .7, -.6, .7),
            ("line", -.6, .7, -.6, -.7)],
    "A": [("line", -.5, .7, 0, -.7), ("line", 0, -.7, .5, .7), ("line", -.25, .15, .25, .15)],
    "V": [("line", -.5, -.7, 0, .7), ("line", 0, .7, .5, -.7)],
    "Y": [("line", -.5, -.7, 0, 0), ("line", .5, -.7, 0, 0), ("line", 0, 0, 0, .7)],
    "ring in ring": [("arc", 0, 0, .65, 0, 2), ("arc", 0, 0, .25, 0, 2)],
    "crossed ring": [("arc", 0, 0, .65, 0, 2), ("line", -.6, 0, .6, 0)],
    "C": [("arc", 0, 0, .6, .25, 1.75)],
    "C mirrored": [("arc", 0, 0, .6, 1.25, 2.75)],
    "U": [("arc", 0, 0, .5, 0, 1), ("line", -.5, -.7, -.5, 0), ("line", .5, -.7, .5, 0)],
    "n": [("arc", 0, 0, .5, 1, 2), ("line", -.5, .7, -.5, -.1), ("line", .5, .7, .5, -.1)],
    "P": [("arc", .05, -.35, .38, -.5, .5), ("line", -.35, -.7, -.35, .7),
          ("line", -.35, -.72, .05, -.72), ("line", -.35, 0, .05, 0)],
    "a": [("arc", -.05, .25, .4, 0, 2), ("line", .4, -.2, .45, .7)],
}


def signs(n, generator):
    """Return n pictures of SIGNS, each stroke a bit off its place: corners, crosses, rings with
    something in them, letters."""
    parts = []
    for strokes, m in zip(SIGNS.values(), portions(n, len(SIGNS))):
        points = torch.cat([sign_stroke(m, *stroke, generator) for stroke in strokes], 1)
        slant = uniform((m, 1), 0.3, generator)
        squeeze = between(m, 0.75, 1.3, generator)[:, None]
        x, y = points.unbind(2)
        points = 0.9 * torch.stack([squeeze * x + slant * y, y], 2)
        parts.append(normalize_digits(pen(points, between(m, 2.0, 4.5, generator))))
    return torch.cat(parts)


def sign_stroke(m, kind, a, b, c, d, *e_generator):
    """Return the points (m, M, 2) of one stroke of a sign in m variations."""
    *e, generator = e_generator
    if kind == "line":
        start, end = (torch.tensor(ends) + uniform((m, 2), 0.1, generator)
                      for ends in ((a, b), (c, d)))
        return line(start, end, n=32)
    radius = c * between(m, 0.8, 1.2, generator)[:, None]
    ratio = between(m, 0.7, 1.2, generator)[:, None]
    angle = math.pi * torch.linspace(d, e[0], 64) + uniform((m, 1), 0.2, generator)
    return torch.stack([a + radius * angle.cos() * ratio, b + radius * angle.sin()], 2)


def portions(n, parts):
    """Return `parts` whole numbers that differ by at most 1 and add up to n."""
    return [n * (i + 1) // parts - n * i // parts for i in range(parts)]


# Of the negatives
SHARES = {"halves": 0.2, "neighbours": 0.3, "turned": 0.15, "scribbles": 0.2, "signs": 0.15}


def make_negatives(images, labels, n, times, generator):
    """Return what is no digit, uint8 (N, 1, 32, 32), about `times` times n, made of these uint8
    digits and of strokes.

    Of each kind there is a multiple of `times`, one after the other.
    """
    n = {kind: times * round(share * n) for kind, share in SHARES.items()}
    parts = [halves(images, labels, n["halves"], generator),
             neighbours(images, labels, n["neighbours"], generator),
             turned(images, labels, n["turned"], generator), scribbles(n["scribbles"], generator),
             signs(n["signs"], generator)]
    return (255 * torch.cat(parts)).round().to(torch.uint8)
