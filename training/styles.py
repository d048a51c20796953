"""Writing styles that MNIST lacks, made of its digits: flags, bars and long tails.

MNIST's ones are bare strokes and its sevens have no bar, while most of the world writes a flag on
the one and many a bar through the seven; a network that never saw them reads a flagged 1 as 7, and
a 9 with a long tail as 1.

Images are float (N, 1, H, W), 0 paper .. 1 ink, on the CPU; generator is a CPU generator, so the
same seed makes the same.
"""

import math

import torch
from torch.nn import functional as F

from training.augment import affine, thicken, uniform, warp

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
    centres = torch.arange(-31, 32, 2) / 32
    y, x = torch.meshgrid(centres, centres, indexing="ij")
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
    rows = (torch.arange(32) + 0.5) / 16 - 1
    near = (rows - y[:, None]).abs() < thickness
    band = images[:, 0] * near[:, :, None]
    x = (band.sum(1) @ rows) / band.sum((1, 2)).clamp(min=1e-6)
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
    share = between(n, 0.2, 1.0, generator)  # of the stem: some are as long
    angle = between(n, 0.35, 1.2 - 0.35 * share, generator)  # a long flat one makes a 7
    end = tip + (share * height)[:, None] * torch.stack([-angle.sin(), angle.cos()], 1)
    flag = line(tip, end, between(n, -0.12, 0.12, generator))
    foot_at = ink_of_row(ones, 0.96)
    foot_at[:, 1] = bottom - pen_y
    reach = height * between(n, 0.15, 0.4, generator)
    side = torch.stack([reach, reach * uniform(n, 0.1, generator)], 1)
    foot = line(foot_at - side, foot_at + side * between(n, 0.7, 1.1, generator)[:, None])
    foot[torch.rand(n, generator=generator) > 0.33] = float("nan")
    return normalize_digits(torch.maximum(ones, pen(torch.cat([flag, foot], 1), width)))


def barred(sevens, generator):
    """Return sevens (N, 1, 32, 32) with a bar across the stem, or a serif that hangs from the left
    end of the roof, or both."""
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
    rows = (torch.arange(32) + 0.5) / 16 - 1
    start[:, 1] = (roof.sum(2) @ rows) / roof.sum((1, 2)).clamp(min=1e-6)
    drop = height * between(n, 0.12, 0.3, generator)
    serif = line(start, start + torch.stack([drop * uniform(n, 0.35, generator), drop], 1))
    kind = torch.rand(n, generator=generator)
    bar[kind > 0.75] = float("nan")
    serif[kind < 0.5] = float("nan")
    return normalize_digits(torch.maximum(sevens, pen(torch.cat([bar, serif], 1), width)))


def tailed(images, is_top, generator):
    """Return images (N, 1, 32, 32) with the lower part of their ink, or where is_top, bool (N,),
    the upper one, stretched 1 to 4 times: the long tails of a 9, 7 or 4, the long back of a 6."""
    n, is_top = len(images), is_top[:, None, None, None]
    images = torch.where(is_top, images.flip(2), images)
    _, top, _, bottom = (edge[:, None] for edge in extent(images))
    kept = between(n, 0.45, 0.6, generator)[:, None]  # this share of the height stays as it is
    times = between(n, 0.0, math.log(4), generator).exp()[:, None]
    height = kept + (1 - kept) * times
    place = torch.linspace(-0.1, 1.1, 64) * height  # of 64 rows, in heights of the ink that was
    place = torch.where(place < kept, place, kept + (place - kept) / times)
    rows = (top + place * (bottom - top))[:, :, None].expand(-1, -1, 32)
    columns = ((torch.arange(32) + 0.5) / 16 - 1).expand_as(rows)
    tall = F.grid_sample(images, torch.stack([columns, rows], 3), align_corners=False)
    tall = torch.where(is_top, tall.flip(2), tall)
    narrower = 2 * SIDE / ((bottom - top) * height)[:, 0]  # as much as the height shrinks
    small = warp(tall, affine(torch.zeros(n), narrower, torch.full((n,), 1.2 * SIDE)))
    weight = torch.rand(n, 1, 1, 1, generator=generator) * (times > 1.5)[:, :, None, None]
    return normalize_digits(torch.lerp(small, thicken(small), weight))  # pens stay as thick


def other_styles(images, labels, generator):
    """Return [(index, columns, others)], digits as others would have written them: which among
    images each is made of, and in which columns of the sampling table it stands.

    A column is a fifth of what is shown of a digit. So three ones of five have a flag, since sevens
    outnumber them, one seven of five a bar, and one 4, 6, 7 and 9 of five a tail. images: uint8
    (N, 1, 32, 32); index: int64 (M,); others: uint8 (M, 1, 32, 32).
    """
    def digits(*which):
        return torch.isin(labels, torch.tensor(which)).nonzero().flatten()

    ones, sevens, tails = digits(1), digits(7), digits(4, 6, 7, 9)[::2]  # half: tails take time
    parts = [(ones, (0, 1, 2), lambda images: flagged(images, generator)),
             (sevens, (0,), lambda images: barred(images, generator)),
             (tails, (2, 3), lambda images: tailed(images, labels[tails] == 6, generator))]
    return [(index, columns, (255 * style(images[index].float() / 255)).round().to(torch.uint8))
            for index, columns, style in parts]
