"""Writing styles that MNIST lacks, drawn onto its digits: ones with a flag, sevens with a bar.

MNIST's ones are bare strokes and its sevens have no bar, while most of the world writes a flag on
the one and many a bar through the seven; a network that never saw them reads a flagged 1 as 7.

Images are float (N, 1, H, W), 0 paper .. 1 ink, on the CPU; generator is a CPU generator, so the
same seed makes the same.
"""

import math

import torch

from training.augment import CENTRES, affine, uniform, warp

SIDE = 20 / 28  # of a picture's side: what a normalized digit's longer side takes


def between(n, low, high, generator):
    """Return n random numbers, uniform in low .. high."""
    return low + (high - low) * torch.rand(n, generator=generator)


def extent(images):
    """Return (left, top, right, bottom), each (N,), of the ink of images (N, 1, H, W).

    In halves of the sides from the middle. An empty image has the whole picture.
    """
    edges = []
    for axis in (2, 3):  # over rows: where in x; over columns: where in y
        inked = images[:, 0].amax(axis - 1) > 0.3
        inked |= ~inked.any(1, keepdim=True)
        n = inked.shape[1]
        first, last = inked.float().argmax(1), n - inked.flip(1).float().argmax(1)
        edges.append((2 * first / n - 1, 2 * last / n - 1))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def centre(images):
    """Return the centre of mass (2, N) of images (N, 1, H, W): x and y in halves of the sides from
    the middle."""
    mass = images[:, 0].sum((1, 2)).clamp(min=1e-6)
    height, width = images.shape[2:]
    x, y = ((torch.arange(n) + 0.5) * 2 / n - 1 for n in (width, height))
    return torch.stack([images[:, 0].sum(1) @ x, images[:, 0].sum(2) @ y]) / mass


def normalize_digits(images):
    """Return images (N, 1, H, W) as MNIST's makers and predict.py normalize a digit,
    (N, 1, 32, 32).

    The ink fills 20 of 28 pixels on its longer side, and its centre of mass lies in the middle.
    """
    left, top, right, bottom = extent(images)
    height, width = images.shape[2:]
    size = torch.maximum((right - left) * width, (bottom - top) * height) / 32  # 1: half a side
    scale = 2 * SIDE / size.clamp(min=0.1)
    x, y = centre(images)
    zero = torch.zeros(len(images))
    scales = scale * width / 32, scale * height / 32
    return warp(images, affine(zero, *scales, 0.0, torch.stack([x, y])))


def pen(points, width):
    """Return images (N, 1, 32, 32) of strokes drawn with a round pen.

    points: (N, M, 2), x and y in halves of the side from the middle, close to one another along the
    strokes; those that are nan are not drawn. width: (N,), in pixels.
    """
    y, x = torch.meshgrid(CENTRES, CENTRES, indexing="ij")
    pixels = torch.stack([x, y], 2).view(1, -1, 2)
    away = torch.cat([torch.cdist(pixels.expand(len(part), -1, -1), part.nan_to_num(9.0)).amin(2)
                      for part in points.split(50)])  # all at once would take gigabytes
    return (width[:, None] / 2 + 0.5 - 16 * away).clamp(0, 1).view(-1, 1, 32, 32)


def line(start, end, bend=0.0, n=24):
    """Return n points, (N, n, 2), from start to end, (N, 2) each, along an arc.

    bend: (N,), how far the arc's middle is off the straight line, of its length.
    """
    t = torch.linspace(0, 1, n)[None, :, None]
    normal = (end - start).flip(1) * torch.tensor([-1.0, 1.0])
    off = 4 * t * (1 - t) * torch.as_tensor(bend).view(-1, 1, 1) * normal[:, None]
    return start[:, None] * (1 - t) + end[:, None] * t + off


# --------------------------------------------------------------------------------------------------
# Flags and bars

def ink_of_row(images, share, thickness=0.06):
    """Return (N, 2), x of the ink's centre in the rows about share (0 top, 1 bottom) of the way
    down the ink, and y there."""
    _, top, _, bottom = extent(images)
    y = top + share * (bottom - top)
    near = (CENTRES - y[:, None]).abs() < thickness
    band = images[:, 0] * near[:, :, None]
    x = (band.sum(1) @ CENTRES) / band.sum((1, 2)).clamp(min=1e-6)
    return torch.stack([x, y], 1)


def stroke_width(images):
    """Return a rough mean stroke width (N,), in pixels: area over half the outline's length."""
    ink = images[:, 0]
    outline = ink.diff(dim=1).abs().sum((1, 2)) + ink.diff(dim=2).abs().sum((1, 2))
    return 2 * ink.sum((1, 2)) / (outline * math.pi / 4).clamp(min=1e-6)


def flagged(ones, generator):
    """Return ones (N, 1, 32, 32) with a flag, and a third of them with a foot.

    Stems stand upright, or lean either way a bit.
    """
    n = len(ones)
    high, low = ink_of_row(ones, 0.08), ink_of_row(ones, 0.92)
    lean = (high - low)[:, 0] / (low - high)[:, 1]  # MNIST's: 0.3, forward
    wanted = between(n, -0.15, 0.25, generator)
    x, y = centre(ones)
    ones = warp(ones, affine(torch.zeros(n), 1.0, 1.0, wanted - lean, torch.stack([x, y])))
    width = stroke_width(ones) * between(n, 0.8, 1.1, generator)
    left, top, right, bottom = extent(ones)
    height = bottom - top
    pen_y = width / 32  # half a pen
    tip = ink_of_row(ones, 0.04)
    tip[:, 1] = top + pen_y
    angle = between(n, 0.45, 1.15, generator)  # radians, from straight down
    length = height * between(n, 0.2, 0.9, generator)  # some are nearly as long as the stem
    end = tip + length[:, None] * torch.stack([-angle.sin(), angle.cos()], 1)
    flag = line(tip, end, between(n, -0.12, 0.12, generator))
    foot_at = ink_of_row(ones, 0.96)
    foot_at[:, 1] = bottom - pen_y
    reach = height * between(n, 0.15, 0.4, generator)
    side = torch.stack([reach, reach * uniform(n, 0.1, generator)], 1)
    foot = line(foot_at - side, foot_at + side * between(n, 0.7, 1.1, generator)[:, None])
    foot[torch.rand(n, generator=generator) > 0.33] = float("nan")
    return normalize_digits(torch.maximum(ones, pen(torch.cat([flag, foot], 1), width)))


def barred(sevens, generator):
    """Return sevens (N, 1, 32, 32) with a bar across the stem, or a serif that hangs from their
    left end, or both.

    The left end is that of the roof, or of the stem where its foot reaches farther, as in a third
    of MNIST's sevens. Roofs alone brought nothing (Model/LOG.md, round 7).
    """
    n = len(sevens)
    left, top, right, bottom = extent(sevens)
    height, width = bottom - top, stroke_width(sevens) * between(n, 0.8, 1.1, generator)
    cross = ink_of_row(sevens, between(n, 0.42, 0.62, generator))
    reach = height * between(n, 0.15, 0.33, generator)
    side = torch.stack([reach, reach * uniform(n, 0.3, generator)], 1)
    bar = line(cross - side * between(n, 0.8, 1.2, generator)[:, None], cross + side)
    start = torch.stack([left + width / 32, top + width / 32], 1)
    is_left = torch.arange(32)[None, None, :] < ((left + 1) * 16 + 3)[:, None, None]
    roof = sevens[:, 0, :, :] * is_left
    start[:, 1] = (roof.sum(2) @ CENTRES) / roof.sum((1, 2)).clamp(min=1e-6)
    drop = height * between(n, 0.12, 0.3, generator)
    serif = line(start, start + torch.stack([drop * uniform(n, 0.35, generator), drop], 1))
    kind = torch.rand(n, generator=generator)
    bar[kind > 0.75] = float("nan")
    serif[kind < 0.5] = float("nan")
    return normalize_digits(torch.maximum(sevens, pen(torch.cat([bar, serif], 1), width)))


def other_styles(images, labels, generator):
    """Return (index, others): where the ones and sevens are among images, and how most of the world
    would have written them.

    images: uint8 (N, 1, 32, 32); index: int64 (M,); others: uint8 (M, 1, 32, 32).
    """
    ones, sevens = ((labels == digit).nonzero().flatten() for digit in (1, 7))
    others = torch.cat([flagged(images[ones].float() / 255, generator),
                        barred(images[sevens].float() / 255, generator)])
    return torch.cat([ones, sevens]), (255 * others).round().to(torch.uint8)
