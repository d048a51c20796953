"""A generator of pictures of digits as people make them, for tests of predict.py and for tuning it.

    python tests/pictures.py [N [CHECKPOINT]]    accuracy of predict.py on N (500) pictures of each kind, and without
                                                 its steps

Every kind is a function of (digit, rng): digit is a float (28, 28) array, 0 paper .. 1 ink, from MNIST's validation
images, which the network was not trained on; rng is a numpy Generator. It returns a PIL image.
"""

import functools
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def to_image(array):
    return Image.fromarray((255 * np.clip(array, 0, 1) + 0.5).astype(np.uint8))


def blur(array, radius):
    return np.asarray(to_image(array).filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def enlarge(digit, size):
    """Return digit at size x size with edges as sharp as ink's."""
    big = np.asarray(to_image(digit).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    return np.clip((blur(big, size / 56) - 0.4) * size / 28 + 0.5, 0, 1)


def tight(array):
    """Return array cut to its ink."""
    rows, columns = np.flatnonzero((array > 0.3).any(1)), np.flatnonzero((array > 0.3).any(0))
    return array[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def rotate(array, degrees):
    return np.asarray(to_image(array).rotate(degrees, Image.Resampling.BICUBIC, expand=True), dtype=np.float32) / 255


def thin(mask):
    """Return the skeleton of a bool mask (Zhang and Suen 1984)."""
    mask = np.pad(mask, 1).astype(np.uint8)
    while True:
        before = mask.sum()
        for odd in (0, 1):
            p = [np.roll(mask, shift, (0, 1)) for shift in
                 ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))]  # N, NE, E, SE, S, SW, W, NW
            neighbours = sum(x.astype(int) for x in p)
            changes = sum((p[i] == 0) & (p[(i + 1) % 8] == 1) for i in range(8))
            n, e, s, w = p[0], p[2], p[4], p[6]
            ends = (n * e * w == 0) & (n * s * w == 0) if odd else (n * e * s == 0) & (e * s * w == 0)
            mask = np.where((mask == 1) & (neighbours >= 2) & (neighbours <= 6) & (changes == 1) & ends, 0, mask)
        if mask.sum() == before:
            return mask[1:-1, 1:-1].astype(bool)


def pen_line(digit, size, width):
    """Return digit redrawn at size x size with a pen of that width in pixels."""
    line = thin(enlarge(digit, size) > 0.5)
    picture = Image.fromarray(line).convert("L").resize((4 * size, 4 * size))
    draw = ImageDraw.Draw(picture)
    radius = 2 * width
    for y, x in np.argwhere(line):
        draw.ellipse((4 * x + 2 - radius, 4 * y + 2 - radius, 4 * x + 2 + radius, 4 * y + 2 + radius), fill=255)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255


def colours(rng, least=0.35):
    """Return random (paper, ink) colours at least `least` apart, often dark on light."""
    while True:
        if rng.random() < 0.5:
            paper, ink = rng.uniform(0.75, 1, 3), rng.uniform(0, 0.45, 3)
        else:
            paper, ink = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
        if np.linalg.norm(paper - ink) > least * np.sqrt(3):
            return paper, ink


def place(ink, rng, height, width):
    """Return ink somewhere on an empty (height, width) canvas."""
    canvas = np.zeros((height, width), dtype=np.float32)
    y, x = rng.integers(0, height - ink.shape[0] + 1), rng.integers(0, width - ink.shape[1] + 1)
    canvas[y:y + ink.shape[0], x:x + ink.shape[1]] = ink
    return canvas


def light(rng, height, width):
    """Return the light on a page, (height, width, 1): a slope, a fall-off to the corners, perhaps a soft shadow."""
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    angle, slope, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3), rng.uniform(0, 0.25)
    result = 1 - slope * (1 + np.cos(angle) * x + np.sin(angle) * y) / 2 - fall * (x * x + y * y) / 2
    if rng.random() < 0.3:
        angle, where, soft = rng.uniform(0, 2 * np.pi), rng.uniform(-0.7, 0.7), rng.uniform(0.15, 0.6)
        distance = (np.cos(angle) * x + np.sin(angle) * y - where) / soft
        result = result * (1 - rng.uniform(0.1, 0.35) / (1 + np.exp(-4 * distance)))
    return result[..., None]


def shoot(ink, rng, paper, pen, lines=None, line_colour=None):
    """Return ink on paper as a phone would take it: light, blur, noise, JPEG."""
    page = np.broadcast_to(paper, (*ink.shape, 3)).astype(np.float32)
    if lines is not None:
        page = page + lines[..., None] * (line_colour - page)
    page = page + ink[..., None] * (pen - page)
    page = page * light(rng, *ink.shape)
    page = page + rng.normal(0, rng.uniform(0, 0.03), page.shape)
    image = to_image(page).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(50, 96)))
    return Image.open(file)


def ruling(rng, height, width, squared):
    """Return the ruling of a page, 0 .. 1: horizontal lines, vertical ones too if squared."""
    lines, gap, thick = np.zeros((height, width), dtype=np.float32), int(rng.integers(22, 60)), int(rng.integers(1, 3))
    for y in range(int(rng.integers(0, gap)), height, gap):
        lines[y:y + thick] = 1
    if squared:
        for x in range(int(rng.integers(0, gap)), width, gap):
            lines[:, x:x + thick] = 1
    return lines


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


# Corruptions of 28x28 digits after MNIST-C (Mu and Gilmer 2019), written anew

def _warp(digit, matrix, shift=(0, 0)):
    """Return digit with each pixel (x, y) taken from matrix @ (x, y) + shift, about the centre."""
    (a, b), (c, d) = matrix
    x, y = 13.5 + shift[0], 13.5 + shift[1]
    image = to_image(digit).transform((28, 28), Image.Transform.AFFINE, (a, b, x - a * 13.5 - b * 13.5, c, d, y - c * 13.5 - d * 13.5),
                                      Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32) / 255


def _polyline(points, width, on=None):
    picture = Image.new("L", (112, 112))
    draw = ImageDraw.Draw(picture)
    points = [(4 * x, 4 * y) for x, y in points]
    for i, (p, q) in enumerate(zip(points, points[1:])):
        if on is None or on[i]:
            draw.line((*p, *q), fill=255, width=int(4 * width))
    return np.asarray(picture.resize((28, 28), Image.Resampling.BOX), dtype=np.float32) / 255


def shot_noise(x, rng):
    return rng.poisson(x * 5) / 5


def impulse_noise(x, rng):
    noise = rng.random(x.shape)
    return np.where(noise < 0.13, 0, np.where(noise > 0.87, 1, x))


def glass_blur(x, rng):
    x = blur(x, 0.5).copy()
    for i in range(27, 1, -1):
        for j in range(27, 1, -1):
            di, dj = rng.integers(-1, 2, 2)
            i2, j2 = min(i + di, 27), min(j + dj, 27)
            x[i, j], x[i2, j2] = x[i2, j2], x[i, j]
    return blur(x, 0.5)


def motion_blur(x, rng):
    angle, length = rng.uniform(-np.pi / 4, np.pi / 4), 7
    return np.mean([_warp(x, ((1, 0), (0, 1)), (t * np.cos(angle), t * np.sin(angle)))
                    for t in np.linspace(-length / 2, length / 2, 11)], axis=0)


def shear(x, rng):
    return _warp(x, ((1, rng.choice((-1, 1)) * 0.6), (0, 1)))


def scale(x, rng):
    return _warp(x, ((2, 0), (0, 2)))


def rotation(x, rng):
    angle = np.deg2rad(rng.choice((-1, 1)) * rng.uniform(20, 40))
    return _warp(x, ((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))


def brightness(x, rng):
    return np.clip(x + 0.5, 0, 1)


def translate(x, rng):
    return _warp(x, ((1, 0), (0, 1)), rng.choice((-1, 1), 2) * rng.uniform(2, 5, 2))


def stripe(x, rng):
    x = x.copy()
    x[:, :7], x[:, 21:] = 1 - x[:, :7], 1 - x[:, 21:]
    return x


def fog(x, rng):
    cloud = sum(np.asarray(to_image(rng.random((n, n))).resize((28, 28), Image.Resampling.BICUBIC), dtype=np.float32)
                / 255 / n for n in (2, 4, 8)) / 0.875
    return (x + 1.5 * cloud) / 2.2


def spatter(x, rng):
    drops = blur(rng.random((28, 28)) > 0.93, 0.8)
    return np.maximum(x, np.clip(4 * drops - 0.5, 0, 1) * 0.8)


def dotted_line(x, rng):
    (y0, y1), on = rng.uniform(2, 26, 2), [i % 2 == 0 for i in range(14)]
    points = [(28 * t, y0 + t * (y1 - y0)) for t in np.linspace(0, 1, 15)]
    return np.maximum(x, _polyline(points, 1, on))


def zigzag(x, rng):
    y0, y1 = rng.uniform(4, 24, 2)
    points = [(28 * t, y0 + t * (y1 - y0) + (2 if i % 2 else -2)) for i, t in enumerate(np.linspace(0, 1, 12))]
    return np.maximum(x, _polyline(points, 1))


def canny_edges(x, rng):
    mask = x > 0.4
    inner = mask.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inner &= np.roll(mask, step, axis)
    return (mask & ~inner).astype(np.float32)


CORRUPTIONS = [shot_noise, impulse_noise, glass_blur, motion_blur, shear, scale, rotation, brightness, translate, stripe,
               fog, spatter, dotted_line, zigzag, canny_edges]
KINDS = [as_mnist, photograph, ruled, ballpoint, paint, screen, sheet_edge, turned, small_scan]


def corrupted(corruption):
    def make(digit, rng):
        return to_image(corruption(digit, rng))

    make.__name__ = corruption.__name__
    return make


def uci():
    """Return ([PIL image], [digit]) of the UCI test digits by 13 other writers, dark on light, enlarged from 8x8."""
    data = np.load(Path(__file__).with_name("uci_digits.npz"))
    images = [to_image(1 - image / 16).resize((128, 128), Image.Resampling.BICUBIC) for image in data["images"]]
    return images, data["labels"].tolist()


@functools.cache
def validation():
    """Return MNIST's validation images, uint8 (5000, 28, 28), and their labels; loaded once."""
    import torch
    from torchvision.datasets import MNIST

    import mnist
    import utils

    mnist.load_mnist(True)  # unpacks it and checks it
    data = MNIST(str(utils.DATA), train=True)
    _, (index, labels) = mnist.split_validation(torch.arange(len(data)), data.targets)
    return data.data[index], labels


def digits(n, seed=0):
    """Return (float (n, 28, 28), labels) drawn from MNIST's validation images."""
    import torch

    images, labels = validation()
    pick = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:n]
    return images[pick].numpy().astype(np.float32) / 255, labels[pick].tolist()


def make(kind, n, seed=0):
    """Return ([PIL image], [digit]) of n pictures of one kind."""
    images, labels = digits(n, seed)
    rng = np.random.default_rng([seed, sum(kind.__name__.encode())])
    return [kind(image, rng) for image in images], labels


# ---------------------------------------------------------------------------------------------------------------------
# The table: accuracy of each kind, of the whole chain and without its steps

def variations():
    """Yield (name, {function of picture.py: what takes its place})."""
    import picture

    original = {name: getattr(picture, name) for name in ("to_array", "see_digit", "heaviest_piece", "find_digit")}

    def grey(image):
        array = original["to_array"](image)
        return array if array.shape[2] == 1 else (array @ picture.LUMA)[..., None]

    def flat(array):
        border = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
        return array - np.median(border, axis=0), False

    def all_ink(ink, mask, edge_penalty):
        return mask, *original["heaviest_piece"](ink, mask, edge_penalty)[1:]

    def one_view(which):
        def see(image, invert=None):
            seen = original["see_digit"](image, invert)
            return seen._replace(views=[seen.views[which if len(seen.views) > 1 else 0]])

        return see

    def lecture(image, invert=None):
        small = np.asarray(image.convert("L").resize((28, 28), Image.Resampling.BILINEAR))
        return picture.Seen([small], (0, 0, 1, 1), False)

    yield "whole chain", {"see_digit": picture.see_digit}
    yield "plain grey", {"to_array": grey}
    yield "flat paper", {"subtract_paper": flat}
    yield "all the ink", {"heaviest_piece": all_ink}
    yield "specks stay", {"without_specks": lambda ink: ink}
    yield "thin pens stay", {"PEN": 0}
    yield "re-framed only", {"see_digit": one_view(0)}
    yield "28x28 as it is", {"see_digit": one_view(1)}
    yield "the lecture's", {"see_digit": lecture}


def main(n=500, checkpoint=None):
    from unittest import mock

    import picture
    import predict
    import utils

    model, _ = utils.load_checkpoint(checkpoint or utils.CHECKPOINT)
    sets = {kind.__name__: make(kind, n) for kind in KINDS + [corrupted(c) for c in CORRUPTIONS]} | {"uci": uci()}
    names = [name for name, _ in variations()]
    print(f"accuracy in %  {'  '.join(f'{name:>14}' for name in names)}", flush=True)
    means = []
    for kind, (images, labels) in sets.items():
        row = []
        for _, changes in variations():
            with mock.patch.multiple(picture, **changes):
                readings = predict.predict_images(images, model)
            right = [isinstance(r, predict.Reading) and r.digit == label for r, label in zip(readings, labels)]
            row.append(100 * np.mean(right))
        if kind in {c.__name__ for c in CORRUPTIONS}:
            means.append(row)
        print(f"{kind:14} {'  '.join(f'{value:14.2f}' for value in row)}", flush=True)
    print(f"{'corruptions':14} {'  '.join(f'{value:14.2f}' for value in np.mean(means, axis=0))}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
