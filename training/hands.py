"""The hands that MNIST lacks, and what is no digit: both made of MNIST's training digits, once, before the first epoch.

MNIST's ones are bare strokes and its sevens have no bar, while most of the world writes a flag on the one and many a bar
through the seven; a network that never saw them reads a flagged 1 as 7. And a network that saw nothing but digits is sure
of a digit in whatever it is shown: LeCun's own system was trained to reject what is none (LeCun et al. 1998, sections VII and
VIII). Here such junk is shown with the uniform distribution as its target, so that ten outputs stay ten.

Images are float (N, 1, H, W), 0 paper .. 1 ink, on the CPU; generator is a CPU generator, so the same seed makes the same.
"""

import math

import torch

from training.distort import affine, thicken, uniform, warp

SIDE = 20 / 28  # of a picture's side: what a framed digit's longer side takes


def between(n, low, high, generator):
    """Return n random numbers, uniform in low .. high."""
    return low + (high - low) * torch.rand(n, generator=generator)


def extent(images):
    """Return (left, top, right, bottom), each (N,), of the ink of images (N, 1, H, W), in halves of the sides from the middle.

    An empty image has the whole picture.
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
    """Return the centre of mass (2, N), x and y in halves of the sides from the middle, of images (N, 1, H, W)."""
    mass = images[:, 0].sum((1, 2)).clamp(min=1e-6)
    height, width = images.shape[2:]
    x, y = ((torch.arange(n) + 0.5) * 2 / n - 1 for n in (width, height))
    return torch.stack([images[:, 0].sum(1) @ x, images[:, 0].sum(2) @ y]) / mass


def frame(images):
    """Return images (N, 1, H, W) as MNIST's makers and predict.py frame a digit, (N, 1, 32, 32).

    The ink fills 20 of 28 pixels on its longer side, and its centre of mass lies in the middle.
    """
    left, top, right, bottom = extent(images)
    height, width = images.shape[2:]
    size = torch.maximum((right - left) * width, (bottom - top) * height) / 32  # 1: half of a 32x32 picture's side
    scale = 2 * SIDE / size.clamp(min=0.1)
    x, y = centre(images)
    zero = torch.zeros(len(images))
    return warp(images, affine(zero, scale * width / 32, scale * height / 32, 0.0, torch.stack([x, y])))


def pen(points, width):
    """Return images (N, 1, 32, 32) of strokes drawn with a round pen.

    points: (N, M, 2), x and y in halves of the side from the middle, close to one another along the strokes; those that
    are nan are not drawn. width: (N,), in pixels.
    """
    centres = torch.arange(-31, 32, 2) / 32
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    pixels = torch.stack([x, y], 2).view(1, -1, 2)
    away = torch.cat([torch.cdist(pixels.expand(len(part), -1, -1), part.nan_to_num(9.0)).amin(2)
                      for part in points.split(50)])  # all at once would take gigabytes
    return (width[:, None] / 2 + 0.5 - 16 * away).clamp(0, 1).view(-1, 1, 32, 32)


def line(start, end, bend=0.0, n=24):
    """Return n points, (N, n, 2), from start to end, (N, 2) each, along an arc whose middle is off by bend, (N,), of its length."""
    t = torch.linspace(0, 1, n)[None, :, None]
    normal = (end - start).flip(1) * torch.tensor([-1.0, 1.0])
    return start[:, None] * (1 - t) + end[:, None] * t + 4 * t * (1 - t) * torch.as_tensor(bend).view(-1, 1, 1) * normal[:, None]


# ---------------------------------------------------------------------------------------------------------------------
# Hands

def ink_of_row(images, share, thickness=0.06):
    """Return x, (N,), of the ink's centre in the rows about share (0 top, 1 bottom) of the way down the ink, and y there."""
    _, top, _, bottom = extent(images)
    y = top + share * (bottom - top)
    rows = (torch.arange(32) + 0.5) / 16 - 1
    near = (rows - y[:, None]).abs() < thickness
    band = images[:, 0] * near[:, :, None]
    x = (band.sum(1) @ rows) / band.sum((1, 2)).clamp(min=1e-6)
    return torch.stack([x, y], 1)


def stroke_width(images):
    """Return a rough mean stroke width (N,), in pixels: area over half the length of the outline."""
    ink = images[:, 0]
    outline = (ink[:, 1:] - ink[:, :-1]).abs().sum((1, 2)) + (ink[:, :, 1:] - ink[:, :, :-1]).abs().sum((1, 2))
    return 2 * ink.sum((1, 2)) / (outline * math.pi / 4).clamp(min=1e-6)


def flagged(ones, generator):
    """Return ones (N, 1, 32, 32) with a flag, and a third of them with a foot; stems stand upright, or lean either way a bit."""
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
    length = height * between(n, 0.2, 0.9, generator)  # of strangers', some are nearly as long as the stem
    end = tip + length[:, None] * torch.stack([-angle.sin(), angle.cos()], 1)
    flag = line(tip, end, between(n, -0.12, 0.12, generator))
    foot_at = ink_of_row(ones, 0.96)
    foot_at[:, 1] = bottom - pen_y
    reach = height * between(n, 0.15, 0.4, generator)
    side = torch.stack([reach, reach * uniform(n, 0.1, generator)], 1)
    foot = line(foot_at - side, foot_at + side * between(n, 0.7, 1.1, generator)[:, None])
    foot[torch.rand(n, generator=generator) > 0.33] = float("nan")
    return frame(torch.maximum(ones, pen(torch.cat([flag, foot], 1), width)))


def barred(sevens, generator):
    """Return sevens with a bar across the stem, or a serif that hangs from the left end of the roof, or both."""
    n = len(sevens)
    left, top, right, bottom = extent(sevens)
    height, width = bottom - top, stroke_width(sevens) * between(n, 0.8, 1.1, generator)
    cross = ink_of_row(sevens, between(n, 0.42, 0.62, generator))
    reach = height * between(n, 0.15, 0.33, generator)
    side = torch.stack([reach, reach * uniform(n, 0.3, generator)], 1)
    bar = line(cross - side * between(n, 0.8, 1.2, generator)[:, None], cross + side)
    start = torch.stack([left + width / 32, top + width / 32], 1)
    roof = sevens[:, 0, :, :] * (torch.arange(32)[None, None, :] < ((left + 1) * 16 + 3)[:, None, None])
    rows = (torch.arange(32) + 0.5) / 16 - 1
    start[:, 1] = (roof.sum(2) @ rows) / roof.sum((1, 2)).clamp(min=1e-6)
    drop = height * between(n, 0.12, 0.3, generator)
    serif = line(start, start + torch.stack([drop * uniform(n, 0.35, generator), drop], 1))
    kind = torch.rand(n, generator=generator)
    bar[kind > 0.75] = float("nan")
    serif[kind < 0.5] = float("nan")
    return frame(torch.maximum(sevens, pen(torch.cat([bar, serif], 1), width)))


def other_hands(images, labels, generator):
    """Return (index, others): where the ones and sevens are among images, uint8 (N, 1, 32, 32), int64 (M,), and how most of the
    world would have written them, uint8 (M, 1, 32, 32)."""
    ones, sevens = ((labels == digit).nonzero().flatten() for digit in (1, 7))
    others = torch.cat([flagged(images[ones].float() / 255, generator), barred(images[sevens].float() / 255, generator)])
    return torch.cat([ones, sevens]), (255 * others).round().to(torch.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# Junk

# Halves that are no digit themselves: not the right half of a 4 (a 1), nor the upper half of an 8 (a 0), nor ...
HALVES = {"left": (0, 2, 3, 4, 5, 6, 8, 9), "right": (0, 6), "top": (0, 3, 4, 5), "bottom": (0, 2, 3, 5)}


def pick(images, labels, digits, n, generator):
    """Return n of the images whose label is among digits, as floats 0..1."""
    index = torch.isin(labels, torch.tensor(digits)).nonzero().flatten()
    if len(index) == 0:  # a handful of training images, as --limit allows
        index = torch.arange(len(labels))
    return images[index[torch.randint(len(index), (n,), generator=generator)]].float() / 255


def half(images, side, generator):
    """Return images with only one side, about half, of their ink left: cut along a slanted line."""
    n = len(images)
    left, top, right, bottom = extent(images)
    a = uniform(n, 0.15, generator)
    at = between(n, 0.3, 0.5, generator)  # this share is left
    at = at if side in ("left", "top") else 1 - at
    c = (torch.arange(32) + 0.5) / 16 - 1
    x, y = c[None, None, :], c[None, :, None]
    if side in ("left", "right"):
        away = x - a[:, None, None] * y - (left + at * (right - left))[:, None, None]
    else:
        away = y - a[:, None, None] * x - (top + at * (bottom - top))[:, None, None]
    keep = (away < 0) if side in ("left", "top") else (away > 0)
    return images * keep[:, None]


def side_by_side(first, second, generator, overlap=0.1):
    """Return (N, 1, 32, 64): second's ink to the right of first's, from a small gap to a small overlap."""
    n = len(first)
    _, _, right, _ = extent(first)
    left, _, _, _ = extent(second)
    gap = between(n, -overlap, 0.25, generator)

    def move(images, x):
        return warp(images, affine(torch.zeros(n), shift=torch.stack([x, uniform(n, 0.1, generator)])))

    # each in its half of the picture; where they overlap, a pixel or two is cut off at the seam
    return torch.cat([move(first, right - 1 + gap / 2), move(second, left + 1 - gap / 2)], dim=3)


def halves(images, labels, n, generator):
    """Return n halves of digits, framed as if they were digits: what a wrong cut leaves."""
    return frame(torch.cat([half(pick(images, labels, digits, m, generator), side, generator)
                            for (side, digits), m in zip(HALVES.items(), portions(n, len(HALVES)))]))


def neighbours(images, labels, n, generator):
    """Return n pictures of two digits, or of a digit and half of its neighbour, framed as if they were one."""
    every = tuple(range(10))
    first, second = pick(images, labels, every, n, generator), pick(images, labels, every, n, generator)
    third = n // 3
    second[:third] = half(pick(images, labels, (0, 2, 3, 4, 5, 6, 8, 9), third, generator), "left", generator)
    first[third:2 * third] = half(pick(images, labels, (0, 2, 3, 5, 6, 8), third, generator), "right", generator)
    both = frame(side_by_side(first, second, generator))
    return torch.where((torch.rand(n, 1, 1, 1, generator=generator) < 0.7), thicken(both), both)


def turned(images, labels, n, generator):
    """Return n digits on their side, upside down or mirrored, where that makes no digit."""
    ways = (((2, 3, 4, 5, 6, 7, 9), lambda x: x.rot90(1, (2, 3))), ((2, 3, 4, 5, 6, 7, 9), lambda x: x.rot90(3, (2, 3))),
            ((3, 4, 7), lambda x: x.rot90(2, (2, 3))), ((3, 4, 6, 7, 9), lambda x: x.flip(3)))
    return torch.cat([frame(way(pick(images, labels, digits, m, generator)))
                      for (digits, way), m in zip(ways, portions(n, len(ways)))])


def scribbles(n, generator):
    """Return n pictures of three to five strokes at random, straight or bent; most end on a 3x3 grid, as those of letters do."""
    on_grid, number = torch.rand(n, 1, generator=generator) < 0.7, torch.randint(3, 6, (n,), generator=generator)

    def ends():
        grid = torch.randint(-1, 2, (n, 2), generator=generator) * torch.tensor([0.5, 0.7])
        return torch.where(on_grid, grid + uniform((n, 2), 0.08, generator), uniform((n, 2), 0.8, generator))

    strokes = []
    for i in range(5):
        start, end = ends(), ends()
        if i > 0:  # half of the strokes go on where the last one ended, as a pen does
            start = torch.where(torch.rand(n, 1, generator=generator) < 0.5, strokes[-1][:, -1], start)
        bend = torch.where(torch.rand(n, generator=generator) < 0.5, 0.0, uniform(n, 0.5, generator))
        strokes.append(line(start, end, bend, 32))
    for i, stroke in enumerate(strokes):
        stroke[number <= i] = float("nan")
    return frame(pen(torch.cat(strokes, 1), between(n, 2.2, 4.5, generator)))


# Signs as strokes, x and y in halves of the side: ("line", x0, y0, x1, y1) or ("arc", x, y, radius, start, end in half turns)
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
    "box": [("line", -.6, -.7, .6, -.7), ("line", .6, -.7, .6, .7), ("line", .6, .7, -.6, .7), ("line", -.6, .7, -.6, -.7)],
    "A": [("line", -.5, .7, 0, -.7), ("line", 0, -.7, .5, .7), ("line", -.25, .15, .25, .15)],
    "V": [("line", -.5, -.7, 0, .7), ("line", 0, .7, .5, -.7)],
    "Y": [("line", -.5, -.7, 0, 0), ("line", .5, -.7, 0, 0), ("line", 0, 0, 0, .7)],
    "ring in ring": [("arc", 0, 0, .65, 0, 2), ("arc", 0, 0, .25, 0, 2)],
    "crossed ring": [("arc", 0, 0, .65, 0, 2), ("line", -.6, 0, .6, 0)],
    "C": [("arc", 0, 0, .6, .25, 1.75)],
    "C mirrored": [("arc", 0, 0, .6, 1.25, 2.75)],
    "U": [("arc", 0, 0, .5, 0, 1), ("line", -.5, -.7, -.5, 0), ("line", .5, -.7, .5, 0)],
    "n": [("arc", 0, 0, .5, 1, 2), ("line", -.5, .7, -.5, -.1), ("line", .5, .7, .5, -.1)],
    "P": [("arc", .05, -.35, .38, -.5, .5), ("line", -.35, -.7, -.35, .7), ("line", -.35, -.72, .05, -.72),
          ("line", -.35, 0, .05, 0)],
    "a": [("arc", -.05, .25, .4, 0, 2), ("line", .4, -.2, .45, .7)],
}


def signs(n, generator):
    """Return n pictures of SIGNS, each stroke a bit off its place: corners, crosses, rings with something in them, letters."""
    parts = []
    for strokes, m in zip(SIGNS.values(), portions(n, len(SIGNS))):
        points = torch.cat([sign_stroke(m, *stroke, generator) for stroke in strokes], 1)
        slant, squeeze = uniform((m, 1), 0.3, generator), between(m, 0.75, 1.3, generator)[:, None]
        x, y = points.unbind(2)
        points = 0.9 * torch.stack([squeeze * x + slant * y, y], 2)
        parts.append(frame(pen(points, between(m, 2.0, 4.5, generator))))
    return torch.cat(parts)


def sign_stroke(m, kind, a, b, c, d, *e_generator):
    """Return the points (m, M, 2) of one stroke of a sign in m variations."""
    *e, generator = e_generator
    if kind == "line":
        start, end = (torch.tensor(ends) + uniform((m, 2), 0.1, generator) for ends in ((a, b), (c, d)))
        return line(start, end, n=32)
    radius, ratio = c * between(m, 0.8, 1.2, generator)[:, None], between(m, 0.7, 1.2, generator)[:, None]
    angle = math.pi * torch.linspace(d, e[0], 64) + uniform((m, 1), 0.2, generator)
    return torch.stack([a + radius * angle.cos() * ratio, b + radius * angle.sin()], 2)


def portions(n, parts):
    """Return `parts` whole numbers that differ by at most 1 and add up to n."""
    return [n * (i + 1) // parts - n * i // parts for i in range(parts)]


SHARES = {"halves": 0.2, "neighbours": 0.3, "turned": 0.15, "scribbles": 0.2, "signs": 0.15}  # of the junk


def make_junk(images, labels, n, times, generator):
    """Return what is no digit, uint8 (N, 1, 32, 32), about `times` times n, made of these uint8 digits and of strokes.

    Of each kind there is a multiple of `times`, one after the other.
    """
    n = {kind: times * round(share * n) for kind, share in SHARES.items()}
    parts = [halves(images, labels, n["halves"], generator), neighbours(images, labels, n["neighbours"], generator),
             turned(images, labels, n["turned"], generator), scribbles(n["scribbles"], generator), signs(n["signs"], generator)]
    return (255 * torch.cat(parts)).round().to(torch.uint8)
