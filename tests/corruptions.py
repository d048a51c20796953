"""Corruptions of 28x28 digits after MNIST-C (Mu and Gilmer 2019), written anew: functions of (digit, rng)."""

import numpy as np
from PIL import Image, ImageDraw

from strokes import blur, to_image


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


def corrupted(corruption):
    def make(digit, rng):
        return to_image(corruption(digit, rng))

    make.__name__ = corruption.__name__
    return make
