"""What pictures of writing are made of: ink drawn with pens of many kinds, paper, light, a camera.

Ink is a float array (height, width), 0 paper .. 1 ink; a page is float (height, width, 3), 0 black .. 1 white; digits are
MNIST's, float (28, 28); rng is a numpy Generator.
"""

import io

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from figures import drawing


def to_image(array):
    return Image.fromarray((255 * np.clip(array, 0, 1) + 0.5).astype(np.uint8))


def as_drawn(strokes):
    """Return pen strokes, lists of (x, y) in pixels of the drawing window, as its grey PIL image."""
    drawn = drawing.Drawing()
    for points in strokes:
        drawn.draw(points)
    return drawn.image()


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


def clouds(rng, height, width, size):
    """Return smooth noise (height, width), about -2 .. 2, with spots of `size` pixels."""
    small = rng.standard_normal((int(height / size) + 3, int(width / size) + 3), dtype=np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def path(digit):
    """Return how far each pixel of digit, enlarged to 84x84, is from the middle of the nearest stroke.

    Loops that MNIST's resolution has nearly closed are opened: ink is what is dark beside the darkest near it. What is
    much thicker than most of the line is a blob, or a loop filled up, and all of its core is middle.
    """
    big = np.asarray(to_image(digit).resize((84, 84), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    near = cv2.GaussianBlur(cv2.dilate(big, np.ones((9, 9), dtype=np.uint8)), (0, 0), 2)
    ink = big > np.maximum(0.35, 0.6 * near)
    _, pieces, areas, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8))
    ink &= areas[pieces, cv2.CC_STAT_AREA] > 0.04 * ink.sum()  # no specks
    inside, line = cv2.distanceTransform(ink.astype(np.uint8), cv2.DIST_L2, 5), thin(ink)
    line |= inside > 1.7 * np.median(inside[line])
    distance = cv2.GaussianBlur(cv2.distanceTransform((~line).astype(np.uint8), cv2.DIST_L2, 5), (0, 0), 1)
    return np.sqrt(np.maximum(distance ** 2 - 0.64, 0))  # 0.8 is what the blur makes of 0 on a straight line


def pen_stroke(digit, size, width):
    """Return what pen_line does, rounder and four times as fast."""
    distance = cv2.resize(path(digit), (size, size), interpolation=cv2.INTER_CUBIC) * size / 84
    return np.clip(max(width, 1) / 2 + 0.5 - distance, 0, 1) * min(width, 1)


def wobble(points, rng, amount, steps=48):
    """Return a line through points (n, 2) as a hand draws it: (steps, 2), off by about `amount`, corners rounded."""
    points = np.asarray(points, dtype=np.float64)
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, along[-1], steps)
    line = np.stack([np.interp(at, along, axis) for axis in points.T], axis=1)
    drift = np.stack([clouds(rng, 1, steps, 14)[0], clouds(rng, 1, steps, 14)[0]], axis=1)
    rounded = np.pad(line, ((1, 1), (0, 0)), "edge")
    return (rounded[:-2] + 2 * rounded[1:-1] + rounded[2:]) / 4 + amount * drift


def draw_lines(lines, height, width, pen):
    """Return the ink (height, width) of lines, each (n, 2) of x and y, drawn with a round pen, all in pixels."""
    canvas = np.zeros((3 * height, 3 * width), dtype=np.uint8)
    for line in lines:
        corners = np.round(3 * 16 * np.asarray(line)).astype(np.int32)
        cv2.polylines(canvas, [corners], False, 255, max(1, round(3 * pen)), cv2.LINE_AA, 4)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


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


def stationery(rng):
    """Return (paper, pen): the colours of nearly white paper and of ink or pencil."""
    paper = np.clip(rng.uniform(0.78, 1) + rng.normal(0, 0.02, 3), 0, 1)
    pens = (0.05, 0.05, 0.07), (0.1, 0.12, 0.45), (0.15, 0.2, 0.65), (0.65, 0.1, 0.12), (0.3, 0.3, 0.32)
    return paper, np.clip(pens[rng.choice(5, p=(0.4, 0.2, 0.15, 0.1, 0.15))] + rng.normal(0, 0.02, 3), 0, 1)


def lay(paper, *layers):
    """Return a page: paper, a colour or a page, with layers on it, each (ink, colour)."""
    page = np.broadcast_to(paper, (*layers[0][0].shape, 3)).astype(np.float32)
    for ink, colour in layers:
        page = page + ink[..., None] * (colour - page)
    return page


def camera(page, rng, lit=None):
    """Return page as a phone would take it: light, blur, noise, JPEG; lit: the light, if not any."""
    page = page * (light(rng, *page.shape[:2]) if lit is None else lit)
    level = rng.uniform(0, 0.03)
    large = page.size > 2_000_000  # there, floats of half the size save much time
    page = page + (level * rng.standard_normal(page.shape, np.float32) if large else rng.normal(0, level, page.shape))
    image = to_image(page).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(50, 96)))
    return Image.open(file)


def shoot(ink, rng, paper, pen, lines=None, line_colour=None):
    """Return ink on paper, perhaps over lines, as a phone would take it."""
    layers = [(ink, pen)] if lines is None else [(lines, line_colour), (ink, pen)]
    return camera(lay(paper, *layers), rng)


def ruling(rng, height, width, squared):
    """Return the ruling of a page, 0 .. 1: horizontal lines, vertical ones too if squared."""
    lines, gap, thick = np.zeros((height, width), dtype=np.float32), int(rng.integers(22, 60)), int(rng.integers(1, 3))
    for y in range(int(rng.integers(0, gap)), height, gap):
        lines[y:y + thick] = 1
    if squared:
        for x in range(int(rng.integers(0, gap)), width, gap):
            lines[:, x:x + thick] = 1
    return lines
