"""Pictures without a digit: letters, signs, drawings, scribbles and landscapes (DRAWN), and empty ones (EMPTY).

Kinds as in pictures.py; the digit that they are given plays no part.
"""

import functools
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from strokes import camera, clouds, draw_lines, lay, light, rotate, stationery, thin, tight, to_image, wobble
from troubles import pad, show

# What some people write like a digit is left out: O D Q C G b g q y I i l J j r S s Z z B t T, brackets, upright arrows
LETTERS = "AEFHKLMNPRUVWXYadefhkmnpvwx" + "ΔΠΣΨΩΞλπμωψЖШЦЩЮЯ"
SIGNS = "+=%@#€~<>^*♥★✓✗→←☺☼♫♣♦"
FONTS = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono-Oblique.ttf"


@functools.cache
def font(name, size):
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def printed(text, name, size=84):
    """Return text's ink in a font."""
    image = Image.new("L", (2 * size * len(text), 2 * size))
    ImageDraw.Draw(image).text((size // 2, size // 4), text, 255, font(name, size))
    return tight(np.asarray(image, dtype=np.float32) / 255)


def by_hand(ink, rng, size, width):
    """Return printed ink redrawn with a pen, shaky, size pixels high."""
    ink = np.pad(ink, 12)
    distance = cv2.distanceTransform((~thin(ink > 0.5)).astype(np.uint8), cv2.DIST_L2, 5)
    height, wide = distance.shape
    scale = size / (height - 24)
    y, x = np.mgrid[:int(height * scale), :int(wide * scale)].astype(np.float32) / np.float32(scale)
    shaky = rng.uniform(0.4, 1.6)
    x, y = (axis + shaky * clouds(rng, *x.shape, size / 4) for axis in (x, y))
    return np.clip(width / 2 + 0.5 - scale * cv2.remap(distance, x, y, cv2.INTER_LINEAR, borderValue=99), 0, 1)


def glyph(characters, rng):
    """Return the picture of one of characters, printed or redrawn by hand."""
    which, size = characters[rng.integers(len(characters))], int(rng.integers(70, 200))
    ink = printed(which, FONTS[rng.integers(len(FONTS))] if which in LETTERS else FONTS[0])
    if rng.random() < 0.6:
        ink = by_hand(ink, rng, size, size * rng.uniform(0.025, 0.1))
    else:
        wide = max(1, round(size * ink.shape[1] / ink.shape[0]))
        ink = cv2.resize(ink, (wide, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return show(rng, pad(tight(rotate(ink, rng.uniform(-8, 8))), rng, 0.15, 0.8))


def letter(digit, rng):
    """A letter that nobody takes for a digit."""
    return glyph(LETTERS, rng)


def sign(digit, rng):
    """A plus, a heart, an arrow."""
    return glyph(SIGNS, rng)


def word(digit, rng):
    """A few letters, printed."""
    text = "".join(rng.choice(list(LETTERS[:27]), int(rng.integers(3, 8))))
    ink = printed(text, FONTS[rng.integers(len(FONTS))], int(rng.integers(30, 80)))
    return show(rng, pad(tight(rotate(ink, rng.uniform(-5, 5))), rng, 0.1, 0.5))


# ---------------------------------------------------------------------------------------------------------------------
# Drawings: lines in a unit square

def ring(x, y, radius, squeeze=1.0):
    angle = np.linspace(0, 2 * np.pi, 25)
    return np.stack([x + radius * np.cos(angle), y + squeeze * radius * np.sin(angle)], axis=1)


def arc(x, y, radius, start, end):
    angle = np.linspace(start, end, 13)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def smiley():
    return [ring(0.5, 0.5, 0.48), ring(0.33, 0.37, 0.03), ring(0.67, 0.37, 0.03), arc(0.5, 0.5, 0.28, 0.3, np.pi - 0.3)]


def cat():
    whiskers = [[(0.5 + side * 0.15, 0.62 + y), (0.5 + side * 0.52, 0.58 + 2 * y)] for side in (-1, 1) for y in (-0.03, 0.03)]
    ears = [[(0.2, 0.35), (0.18, 0), (0.42, 0.21)], [(0.8, 0.35), (0.82, 0), (0.58, 0.21)]]
    nose = [(0.46, 0.55), (0.54, 0.55), (0.5, 0.6), (0.46, 0.55)]
    mouth = [arc(0.43, 0.62, 0.07, 0, np.pi), arc(0.57, 0.62, 0.07, 0, np.pi)]
    return [ring(0.5, 0.55, 0.38, 0.95), ring(0.36, 0.45, 0.04), ring(0.64, 0.45, 0.04), nose, *ears, *whiskers, *mouth]


def house():
    return [[(0.1, 0.45), (0.1, 1), (0.9, 1), (0.9, 0.45), (0.1, 0.45)], [(0, 0.5), (0.5, 0), (1, 0.5)],
            [(0.42, 1), (0.42, 0.7), (0.6, 0.7), (0.6, 1)], [(0.2, 0.58), (0.34, 0.58), (0.34, 0.72), (0.2, 0.72), (0.2, 0.58)]]


def tree():
    trunk = [[(0.45, 1), (0.45, 0.6)], [(0.55, 1), (0.55, 0.6)]]
    return [*trunk, ring(0.5, 0.32, 0.31), ring(0.4, 0.25, 0.05), ring(0.6, 0.4, 0.05)]


def flower():
    petals = [ring(0.5 + 0.2 * np.cos(a), 0.3 + 0.2 * np.sin(a), 0.1) for a in np.arange(6) * np.pi / 3]
    return [ring(0.5, 0.3, 0.1), *petals, [(0.5, 0.6), (0.48, 1)], [(0.49, 0.85), (0.7, 0.7)]]


def figure():
    return [ring(0.5, 0.13, 0.12), [(0.5, 0.25), (0.5, 0.65)], [(0.25, 0.4), (0.75, 0.38)], [(0.3, 1), (0.5, 0.65), (0.72, 1)]]


def fish():
    return [ring(0.42, 0.5, 0.38, 0.55), [(0.78, 0.5), (1, 0.3), (1, 0.7), (0.78, 0.5)], ring(0.2, 0.44, 0.03),
            arc(0.1, 0.5, 0.25, -0.7, 0.7)]


def star():
    return [[(0.5 + 0.5 * np.sin(a), 0.5 - 0.5 * np.cos(a)) for a in np.arange(6) * 4 * np.pi / 5]]


def drawing(digit, rng):
    """A line drawing by a shaky hand: a cat, a smiley, a house."""
    motif = (smiley, cat, house, tree, flower, figure, fish, star)[rng.integers(8)]
    size, shaky = int(rng.integers(100, 260)), rng.choice((0.002, 0.006, 0.01))
    lines = [size * (0.15 + wobble(line, rng, shaky)) for line in motif()]
    ink = draw_lines(lines, int(1.3 * size), int(1.3 * size), size * rng.uniform(0.01, 0.05))
    return show(rng, pad(tight(ink), rng, 0.1, 0.6))


def scribble(digit, rng):
    """Lines without sense: loops, or a hatching to and fro."""
    size, n = int(rng.integers(100, 240)), int(rng.integers(14, 40))
    if rng.random() < 0.5:
        line = rng.uniform(0, 1, (n, 2))
    else:
        line = np.stack([np.arange(n) % 2, np.linspace(0, 1, n)], axis=1) + rng.uniform(-1, 1, (n, 2)) * (0.2, 0.05)
        line = line[:, ::rng.choice((-1, 1))]
    line = size * (0.3 + wobble(line, rng, 0.02, 12 * n))
    ink = draw_lines([line], int(1.7 * size), int(1.7 * size), size * rng.uniform(0.01, 0.04))
    return show(rng, pad(tight(ink), rng, 0.1, 0.5))


def landscape(digit, rng):
    """Sky, hills and meadow, with a sun or trees now and then."""
    height, width = int(rng.integers(140, 320)), int(rng.integers(180, 420))
    y, x = np.mgrid[:1:height * 1j, :1:width * 1j]
    sky, haze = np.array((0.35, 0.55, 0.85)), np.array((0.8, 0.87, 0.95))
    page = sky + y[..., None] * (haze - sky)
    cover = clouds(rng, height, width, width / 4) + 0.5 * clouds(rng, height, width, width / 12)
    page = page + 0.15 * np.clip(cover, 0, 1.5)[..., None]
    if rng.random() < 0.5:
        x0, y0, radius = rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.3), rng.uniform(0.02, 0.06)
        sun = np.hypot(x - x0, (y - y0) * height / width) < radius
        page[sun] = (1, 0.95, 0.6)
    for i in range(int(rng.integers(2, 5))):
        edge = 0.4 + 0.15 * i + 0.1 * clouds(rng, 1, width, width / (2 + 2 * i))[0] + 0.01 * clouds(rng, 1, width, 5)[0]
        land = rng.uniform(0.15, 0.45) * np.array((0.7, 1, 0.5)) * (1 + 0.3 * clouds(rng, height, width, 3 + 3 * i)[..., None])
        page = np.where((y > edge)[..., None], land, page)
    return camera(page, rng)


# ---------------------------------------------------------------------------------------------------------------------
# Nothing at all

def blank_page(digit, rng):
    """An empty page: exact, or photographed in falling light, with the grain of paper."""
    height, width = rng.integers(28, 400, 2)
    if rng.random() < 0.3:
        return Image.new("RGB", (int(width), int(height)), tuple(int(value) for value in rng.integers(0, 256, 3)))
    grain = 1 + rng.uniform(0, 0.02) * clouds(rng, height, width, rng.uniform(1.5, 6))[..., None]
    return camera(stationery(rng)[0] * grain, rng)


def noise(digit, rng):
    """Noise of a few kinds and spots of a few sizes."""
    height, width = rng.integers(28, 300, 2)
    way = rng.integers(4)
    if way == 0:
        return to_image(rng.random((height, width, 3)))
    if way == 1:
        return to_image((rng.random((height, width)) < rng.uniform(0.1, 0.9)).astype(np.float32))
    if way == 2:
        return to_image(rng.uniform(0.2, 0.8) + rng.uniform(0.02, 0.2) * rng.standard_normal((height, width, 3)))
    return to_image(0.5 + 0.2 * clouds(rng, height, width, rng.uniform(1.5, 4)))


def empty_ruled(digit, rng):
    """Ruled or squared paper that nobody has written on, photographed or on a screen."""
    height, width, gap = *rng.integers(100, 400, 2), rng.uniform(20, 60)
    turn, squared, thick = np.deg2rad(rng.uniform(-3, 3)), rng.random() < 0.5, rng.uniform(0.8, 3)
    taken = rng.random() < 0.7
    y, x = np.mgrid[:height, :width]
    axes = (y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn))[:1 + squared]
    away = np.min([gap * abs(axis / gap - np.round(axis / gap)) for axis in axes], axis=0)
    lines, paper = np.clip(thick / 2 + 0.5 - away, 0, 1), stationery(rng)[0]
    page = lay(paper, (lines, paper * rng.uniform(0.5, 0.85)))
    return camera(page, rng, light(rng, height, width)) if taken else to_image(page)


DRAWN = [letter, sign, word, drawing, scribble, landscape]
EMPTY = [blank_page, noise, empty_ruled]
KINDS = DRAWN + EMPTY
