"""From a picture in a file to a digit as MNIST frames it.

Pillow, NumPy and OpenCV, and no network: a handful of pure functions, in the order in which they are applied;
see_digit() runs them all.
"""

import logging
import warnings
from collections import namedtuple
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 120_000_000  # a picture with more is refused: it would not fit into a gigabyte of memory
WORK_SIZE = 256         # pixels on the long side: enough for any digit, and quick

SILENCE = logging.NullHandler()

Seen = namedtuple("Seen", "views box inverted")
Seen.__doc__ = """What was found in a picture.

views: list of uint8 (28, 28) arrays, white ink on black, framed as MNIST frames its digits; box: (left, top, right,
bottom) in 0..1 of the picture's sides; inverted: True if the ink is darker than its paper.
"""


class PictureError(RuntimeError):
    """A picture that can't be read. The message is one line: what is wrong with it."""


class NoDigit(PictureError):
    """There is nothing in the picture that could be a digit."""


# ---------------------------------------------------------------------------------------------------------------------
# From a file to an array

def open_picture(source):
    """Return the PIL image in source: a path, a binary file, or an image already.

    Of an animation it is the first frame. Raises PictureError, in one line, for everything that is not a picture.
    """
    logging.getLogger("PIL").addHandler(SILENCE)  # what is wrong with a file is said once, by us
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken metadata, and of sizes that are still within reason
            image = source if isinstance(source, Image.Image) else Image.open(source)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.draft("RGB", (WORK_SIZE, WORK_SIZE))  # a JPEG is reduced while it is decoded
            image.load()
            return image
    except UnidentifiedImageError:
        raise PictureError("not a picture in any format that Pillow reads") from None
    except Image.DecompressionBombError:
        raise PictureError(f"more than {MAX_PIXELS // 10**6} million pixels; reduce the picture first") from None
    except FileNotFoundError:
        raise PictureError("no such file") from None
    except IsADirectoryError:
        raise PictureError("is a folder") from None
    except PermissionError:
        raise PictureError("no permission to read it") from None
    except MemoryError:
        raise PictureError("not enough memory to decode it") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise PictureError(f"the picture is damaged: {' '.join(str(error).split()) or type(error).__name__}") from None


def to_array(image):
    """Return image as float32 (H, W, C), 0..1, C 1 or 3, upright, with at most WORK_SIZE pixels on its long side.

    A transparent picture is laid on a ground that its ink contrasts with.
    """
    factor = max(1, max(image.size) // WORK_SIZE)
    strips = []  # of whole cells of factor x factor pixels: a huge picture is never converted as a whole
    for top in range(0, image.height, 8 * factor):
        strip = image if factor == 1 else image.crop((0, top, image.width, min(top + 8 * factor, image.height)))
        strips.append(np.asarray(plain_mode(strip).reduce(factor)))
        if factor == 1:
            break
    array = np.concatenate(strips)
    if array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    else:  # 16 and 32 bits: the depth that was meant is not recorded
        array = np.maximum(np.nan_to_num(array.astype(np.float32), posinf=0, neginf=0), 0)
        array = array / next(white for white in (1, 255, 65535, array.max()) if array.max() <= white)
    array = array.reshape(*array.shape[:2], -1)
    if max(array.shape) > WORK_SIZE:
        array = shrink(array)
    array = np.ascontiguousarray(array.transpose(2, 0, 1)).transpose(1, 2, 0)  # planes: NumPy's max(axis=2) likes them
    array = UPRIGHT.get(orientation(image), np.asarray)(array)
    return lay_on_ground(array) if array.shape[2] == 4 else array


def shrink(array):
    """Return array, float (H, W, C), with WORK_SIZE pixels on its long side, averaged over the area of each."""
    height, width, channels = array.shape
    scale = WORK_SIZE / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small = cv2.resize(array, size, interpolation=cv2.INTER_AREA)
    return small.reshape(size[1], size[0], channels)  # OpenCV drops the channel of a grey picture


def orientation(image):
    """Return the orientation that a camera noted in image's EXIF data, or None."""
    try:
        return image.getexif().get(0x0112)
    except Exception:  # broken metadata are no reason to refuse the picture
        return None


# EXIF's orientations: what turns the stored rows and columns upright
UPRIGHT = {
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1], 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: a.swapaxes(0, 1)[::-1],
}


def plain_mode(image):
    """Return image in one of the modes L, RGB, RGBA (8 bits) and I, F (more)."""
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode in ("L", "RGB", "I", "F", "RGBA") and "transparency" not in image.info:
        return image
    if image.mode == "1":
        return image.convert("L")
    has_alpha = image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def lay_on_ground(rgba):
    """Return float (H, W, 3): rgba, float (H, W, 4), laid on a plain ground that the ink contrasts with.

    If little is opaque, or all of it alike, that is ink, and the ground is black or white, whichever is farther from
    it. Else the opaque part is a piece of paper with ink on it, and the ground is more of that paper.
    """
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    opaque = colour[alpha[..., 0] > 0.5]
    if len(opaque) == 0:
        opaque = colour.reshape(-1, 3)
    paper = np.median(opaque, axis=0)
    if len(opaque) > 0.5 * alpha.size and opaque.std(axis=0).max() > 0.03:
        ground = paper
    else:
        ground = np.float32(opaque.mean(axis=0) @ LUMA < 0.5)
    return colour * alpha + ground * (1 - alpha)


# ---------------------------------------------------------------------------------------------------------------------
# From an array to ink

def find_sheet(array):
    """Return (left, top, right, bottom) of a picture, float (H, W, C), without what lies beside the sheet of paper.

    That, the table or the next sheet, is far from the commonest colour from one end of a side to the other, and on from
    there until less than half of a row, or column, is, where the colour changes at once.
    """
    height, width = array.shape[:2]
    if min(height, width) < 32:  # too small to show a table
        return 0, 0, width, height
    far = np.abs(array - np.median(array[::4, ::4], axis=(0, 1))).max(axis=2) > 0.25

    def depth(share, colour):  # of the rows or columns, from the side inwards
        deep = int(np.argmax(share < 0.5)) if share[0] > 0.85 else 0
        if not 4 <= deep < 0.4 * len(share):  # fewer are a ruled line
            return 0
        edge = np.abs(colour[deep + 2] - colour[deep - 3]).max()
        return deep + 3 if edge > 0.15 else 0  # a softer edge is a shadow's

    rows, columns = far.mean(axis=1), far.mean(axis=0)
    row_colour, column_colour = np.median(array, axis=1), np.median(array, axis=0)
    return (depth(columns, column_colour), depth(rows, row_colour),
            width - depth(columns[::-1], column_colour[::-1]), height - depth(rows[::-1], row_colour[::-1]))


def subtract_paper(array):
    """Return (array, float (H, W, C), minus the paper's colour; whether that colour is exact, the same all over).

    The border is paper. On a ground of one exact colour (paint programs, scans cut to the digit) that is all there is
    to know. Else a quadratic surface is fitted to each channel, by least squares that trust the border more than the
    middle and, from one iteration to the next, trust less what stands out.
    """
    height, width, channels = array.shape
    for axis in (0, 1):
        ground = bands(array.swapaxes(0, axis))
        if ground is not None:
            return np.abs(array - np.expand_dims(ground, axis)), True
    edge = max(1, round(0.03 * min(height, width)))
    border = np.concatenate([array[:edge].reshape(-1, channels), array[-edge:].reshape(-1, channels),
                             array[:, :edge].reshape(-1, channels), array[:, -edge:].reshape(-1, channels)])
    ground = np.median(border, axis=0)
    difference = array - ground
    if (np.abs(difference).max(axis=2) < 0.012).mean() > 0.35:
        return difference, True
    for extreme in (0, 1):  # a digit may well cover most of the border: then saturated pixels between the strokes are paper
        saturated = (np.abs(border - extreme) < 0.012).all(axis=1).mean()
        if saturated > 0.2 and (np.abs(border - extreme).max(axis=1) > 0.5).mean() > 0.1:
            return array - np.float32(extreme), True
    terms, trust = quadratic_terms(height, width)
    y, x = (max(1, side // 48) for side in (height, width))
    some = slice(y // 2, None, y), slice(x // 2, None, x)  # of the pixels are enough for six coefficients
    small, terms_small, trust = array[some].reshape(-1, channels), terms[some].reshape(-1, 6), trust[some].ravel()
    weight = trust
    for _ in range(4):
        weighted = terms_small * weight[:, None]
        normal = weighted.T @ terms_small
        normal += 1e-5 * np.trace(normal) * np.eye(6, dtype=np.float32)  # a picture may be one pixel wide
        surface = np.linalg.solve(normal, weighted.T @ small)
        residual = np.abs(small - terms_small @ surface).max(axis=1)
        spread = max(0.01, 1.5 * np.median(residual))
        weight = trust / (1 + (residual / spread) ** 4)
    return array - (terms.reshape(-1, 6) @ surface).reshape(array.shape), False


def bands(array):
    """Return the ground, float (W, C), of an array whose ground is upright bands of two contrary colours, else None.

    Then the first and the last row agree on each column, while the border as a whole is both dark and light.
    """
    top, bottom = array[0], array[-1]
    split = np.abs(top - top.mean(axis=0)).max(axis=1)
    if split.min() > 0.25 and (np.abs(top - bottom).max(axis=1) < 0.1).mean() > 0.8:
        return (top + bottom) / 2
    return None


@lru_cache(maxsize=8)
def quadratic_terms(height, width):
    """Return (the six terms of a quadratic surface (H, W, 6), the trust in each pixel as paper (H, W))."""
    y, x = np.meshgrid(np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32),
                       indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)
    return terms, 0.1 + np.maximum(np.abs(x), np.abs(y)) ** 4


def find_ink(difference, invert=None):
    """Return (ink, inverted): ink float (H, W), 0 paper; inverted True if the ink is darker than the paper.

    difference, float (H, W, C), is the picture without its paper. Ink is the distance from paper along the colour axis
    on which the strongest differences lie, so that red on green of the same lightness is ink too. Which end of the axis is
    ink is decided by the stronger side, or by invert (True: ink is the darker one).
    """
    channels = difference.shape[2]
    if channels == 1:
        axis = np.ones(1, dtype=np.float32)
        along = difference[..., 0]
    else:
        pixels = difference.reshape(-1, channels)
        strength = np.einsum("ij,ij->i", pixels, pixels)
        strong = pixels[strength >= quantile(strength, 0.98)]
        axis = np.linalg.eigh(strong.T @ strong)[1][:, -1].astype(np.float32)
        along = (pixels @ axis).reshape(difference.shape[:2])
    darker = axis.sum() if channels == 1 else axis @ LUMA
    if invert is not None:
        sign = 1.0 if (darker < 0) == invert else -1.0
    else:
        sign = 1.0 if (along * np.abs(along)).sum() >= 0 else -1.0
    return np.maximum(sign * along, 0), bool(sign * darker < 0)


# ---------------------------------------------------------------------------------------------------------------------
# From ink to the digit

MIN_CONTRAST = 0.08     # of the strongest ink, 0..1: blank paper stays below 0.06, digits come out above 0.4
THIN_LINE = 0.03        # of the picture's side: the widest a ruled line can be
SMALLEST = 6            # pixels: no digit that is smaller can be read


def find_digit(ink, exact=False):
    """Return (bool (H, W) mask of the digit's pixels, the level of full ink).

    Ink counts from half the level of the strongest ink on: specks, ruled lines and shadows stay below. On an exact ground
    there are none of these, most likely, and a lower threshold keeps the faint parts of a coarse scan. Raises NoDigit
    if there is too little contrast, if the ink is scattered, or if it is but lines across the picture.
    """
    level = quantile(ink, 0.999)
    if level < MIN_CONTRAST:
        raise NoDigit("no digit found: the picture is blank")
    height, width = ink.shape
    found = None
    for threshold in (0.5, 0.3) if exact else (0.5,):
        mask, share, n_pieces = heaviest_piece(ink, ink > threshold * level, edge_penalty=1.0 if exact else 0.2)
        if threshold == 0.5 and (share < 0.2 or (share < 0.45 and n_pieces >= 15) or euler_number(mask) < -21):
            raise NoDigit("no digit found: only scattered specks")  # digits: above 0.4, 0.5 as a rule; noise: below 0.3
        left, top, right, bottom = bounds(mask)
        if max(right - left, bottom - top) < SMALLEST:
            raise NoDigit("no digit found: only specks")
        across = (left == 0 and right == width) or (top == 0 and bottom == height)
        if not across or stroke_width(mask) > THIN_LINE * max(height, width):
            found = mask
    if found is None:
        raise NoDigit("no digit found: only lines across the picture")
    return found, level


def heaviest_piece(ink, mask, edge_penalty):
    """Return (the part of a bool mask that is the digit, the largest piece's share of all, the number of pieces).

    The digit is the heaviest connected piece and what is near and not much lighter, such as the bar of a 5. A piece
    weighs the ink on it, times edge_penalty if it touches the picture's edge: the edge of a sheet, a finger.
    """
    height, width = mask.shape
    n_labels, label, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if n_labels == 2:  # the paper, label 0, and one piece
        return mask, 1.0, 1
    mass = np.bincount(label.ravel(), ink.ravel())[1:]
    box = stats[1:, :4].copy()  # left, top, width, height ...
    box[:, 2:] += box[:, :2]    # ... right, bottom
    at_edge = (edge_penalty < 1) & ((box[:, :2] == 0).any(axis=1) | (box[:, 2:] == (width, height)).any(axis=1))
    main = np.argmax(mass * np.where(at_edge, edge_penalty, 1))
    chosen = np.zeros(len(mass), dtype=bool)
    joins = np.arange(len(mass)) == main
    while joins.any():
        chosen |= joins
        l, t = box[chosen, :2].min(axis=0)
        r, b = box[chosen, 2:].max(axis=0)
        gap = np.maximum(np.maximum(box[:, 0] - r, l - box[:, 2]), np.maximum(box[:, 1] - b, t - box[:, 3]))
        reach = np.where(mass > 0.15 * mass[main], 0.4, 0.15) * max(r - l, b - t)
        joins = ~chosen & (gap <= reach) & (mass > 0.08 * mass[main]) & (~at_edge | at_edge[main])
    digit = np.concatenate([[False], chosen])[label]
    return digit, mass.max() / mass.sum(), len(mass)


def euler_number(mask):
    """Return the number of pieces minus the number of holes of a bool mask that is not all False."""
    _, family = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    n_outlines, n_holes = family.shape[1], np.count_nonzero(family[0, :, 3] >= 0)  # only a hole's lies in another one
    return n_outlines - 2 * n_holes


def without_specks(ink):
    """Return the ink of a small picture after a 3x3 median if it is full of specks, else as it is.

    Strokes of one pixel have to survive where they can, and in a large picture specks are too light to be taken for the
    digit. Raises NoDigit if hardly any full ink is left: the picture is noise.
    """
    if max(ink.shape) > 64:
        return ink
    level = quantile(ink, 0.999)
    if level < MIN_CONTRAST or euler_number(ink > 0.5 * level) < 18:
        return ink
    calm = cv2.medianBlur(np.minimum(ink / level, 1), 3)
    if quantile(calm, 0.985) < 0.7:
        raise NoDigit("no digit found: only noise")
    return calm * level


# ---------------------------------------------------------------------------------------------------------------------
# From the digit to LeNet-5's input

REACH = 0.06  # of the digit's size
FAINT = 0.2  # of full ink: anything below is paper
PEN = 2.4  # the least stroke width, in the 20 pixels of a framed digit; MNIST's pens draw about 2 to 4


def frame(ink, mask, level):
    """Return the digit as uint8 (28, 28), white on black, framed as MNIST's are (LeCun et al. 1998, section III.A).

    The digit is fitted into 20x20 pixels, keeping its aspect ratio, and its centre of mass put in the middle of 28x28.
    Strokes thinner than PEN are widened first.
    """
    left, top, right, bottom = bounds(mask)
    size = max(right - left, bottom - top)
    pen = stroke_width(mask)
    reach = max(1, round(REACH * size))  # fainter ink next to the digit's is the digit's too
    grow = max(0, round((PEN * size / 20 - pen) / 2))
    margin = reach + grow
    window = slice(max(top - margin, 0), bottom + margin), slice(max(left - margin, 0), right + margin)
    mask, ink = (np.pad(array[window], margin) for array in (mask.view(np.uint8), ink))
    soft = np.minimum(ink / level, 1) * dilate(mask, reach)
    soft[soft < FAINT] = 0
    if grow:
        soft = dilate(soft, grow)
    box = bounds(soft > 0)
    picture = Image.fromarray((255 * soft).astype(np.uint8))
    width, height = box[2] - box[0], box[3] - box[1]
    scale = 20 / max(width, height)
    fitted = picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC, box=box)
    fitted = np.asarray(fitted)
    mass = fitted.sum(dtype=np.float64)
    y = (fitted.sum(axis=1) @ np.arange(fitted.shape[0])) / mass
    x = (fitted.sum(axis=0) @ np.arange(fitted.shape[1])) / mass
    top = int(np.clip(round(13.5 - y), 0, 28 - fitted.shape[0]))
    left = int(np.clip(round(13.5 - x), 0, 28 - fitted.shape[1]))
    framed = np.zeros((28, 28), dtype=np.uint8)
    framed[top:top + fitted.shape[0], left:left + fitted.shape[1]] = fitted
    return framed


def quantile(array, share):
    """Return the value that this share of array stays below or reaches."""
    index = int(share * (array.size - 1))
    return float(np.partition(array, index, axis=None)[index])


def bounds(mask):
    """Return (left, top, right, bottom), the last two exclusive, of the True pixels in mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def dilate(array, radius):
    """Return array (H, W) with each pixel the largest of those at most radius rows and columns away."""
    return cv2.dilate(array, np.ones((2 * radius + 1, 2 * radius + 1), dtype=np.uint8))


def stroke_width(mask):
    """Return the mean width in pixels of the strokes in mask: twice its area over the length of its outline."""
    outline = ((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()) * np.pi / 4  # of slanted edges too
    return 2 * mask.sum() / max(outline, 1)


def stretch(ink):
    """Return a picture that is 28x28 already as it is, uint8, white on black, its contrast stretched to 0..255."""
    return (255 * np.clip(ink / quantile(ink, 0.99), 0, 1)).astype(np.uint8)


def see_digit(image, invert=None):
    """Return what was Seen in a PIL image; raises NoDigit if there is nothing to read."""
    array = to_array(image)
    height, width = array.shape[:2]
    left, top, right, bottom = 0, 0, width, height
    difference, exact = subtract_paper(array)
    if not exact:
        left, top, right, bottom = find_sheet(array)
        if (right - left, bottom - top) != (width, height):
            difference, exact = subtract_paper(array[top:bottom, left:right])
    ink, inverted = find_ink(difference, invert)
    ink = without_specks(ink)
    mask, level = find_digit(ink, exact)
    views = [frame(ink, mask, level)]
    if (height, width) == (28, 28):  # most likely framed already: let the network judge both
        views.append(stretch(ink))
    x0, y0, x1, y1 = bounds(mask)
    return Seen(views, ((left + x0) / width, (top + y0) / height, (left + x1) / width, (top + y1) / height), inverted)
