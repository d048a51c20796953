"""Read handwritten digits from pictures.

    python predict.py image.png                     one line: image.png: 7 (99.8 %)
    python predict.py scans/ photo.jpg --json       any number of pictures and folders, as JSON Lines
    python predict.py image.png --save seen.png     a figure: the picture, what the network saw, what it said
    python predict.py image.png --explain           the same figure with what every layer of the network did
    python predict.py --draw                        a window to draw a digit in, read while you draw
    python predict.py --multi                       50 random digits of MNIST's test set, into Assets/

Ink of any colour on paper of any colour: what counts as ink is what differs from the paper. A question mark after a
reading says that the network was not sure. The chain from a picture to LeNet-5's input is a handful of pure functions
below, in the order in which they are applied; see_digit() runs them all.
"""

import io
import json
import logging
import sys
import warnings
from collections import namedtuple
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

import utils
from utils import LeNetError

MAX_PIXELS = 120_000_000  # a picture with more is refused: it would not fit into a gigabyte of memory
WORK_SIZE = 256         # pixels on the long side: enough for any digit, and quick
SURE = 0.80             # below this probability a reading gets a question mark
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm",
            ".pbm", ".pnm", ".tga", ".ico", ".jp2", ".j2k", ".avif", ".pcx", ".heic", ".heif"}

SILENCE = logging.NullHandler()

Seen = namedtuple("Seen", "views box inverted")
Seen.__doc__ = """What was found in a picture.

views: list of uint8 (28, 28) arrays, white ink on black, framed as MNIST frames its digits; box: (left, top, right,
bottom) in 0..1 of the picture's sides; inverted: True if the ink is darker than its paper.
"""

Reading = namedtuple("Reading", "digit probability probabilities inverted box input")
Reading.__doc__ = """What the network said about a picture.

digit: 0..9; probability: of that digit, 0..1; probabilities: list of ten; inverted and box as in Seen; input: uint8
(32, 32) array, what the network saw.
"""


class NoDigit(LeNetError):
    """There is nothing in the picture that could be a digit."""


# ---------------------------------------------------------------------------------------------------------------------
# From a file to an array

def open_picture(source):
    """Return the PIL image in source: a path, a binary file, or an image already.

    Of an animation it is the first frame. Raises LeNetError, in one line, for everything that is not a picture.
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
        raise LeNetError("not a picture in any format that Pillow reads") from None
    except Image.DecompressionBombError:
        raise LeNetError(f"more than {MAX_PIXELS // 10**6} million pixels; reduce the picture first") from None
    except FileNotFoundError:
        raise LeNetError("no such file") from None
    except IsADirectoryError:
        raise LeNetError("is a folder") from None
    except PermissionError:
        raise LeNetError("no permission to read it") from None
    except MemoryError:
        raise LeNetError("not enough memory to decode it") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise LeNetError(f"the picture is damaged: {' '.join(str(error).split()) or type(error).__name__}") from None


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


# ---------------------------------------------------------------------------------------------------------------------
# Reading

def predict_images(images, model=None, invert=None, checkpoint=utils.CHECKPOINT, device="cpu"):
    """Return a Reading, or the LeNetError that kept it from one, for each of images: paths, binary files, PIL images.

    All views of all pictures go through the network together. A digit's probabilities are the mean over its views.
    Raises LeNetError only if the checkpoint can't be loaded.
    """
    model = load_model(model, checkpoint, device)
    results = []
    for image in images:
        try:
            if isinstance(image, LeNetError):
                raise image
            results.append(see_digit(open_picture(image), invert))
        except LeNetError as error:
            results.append(error)
    views = [view for seen in results if isinstance(seen, Seen) for view in seen.views]
    if not views:
        return results
    inputs = utils.resize(torch.from_numpy(np.stack(views)))
    probabilities = read_inputs(model, inputs)
    position = 0
    for i, seen in enumerate(results):
        if isinstance(seen, Seen):
            mine = slice(position, position + len(seen.views))
            position = mine.stop
            mean = probabilities[mine].mean(0)
            sharpest = probabilities[mine].max(1).values.argmax().item()
            results[i] = Reading(mean.argmax().item(), mean.max().item(), mean.tolist(), seen.inverted, seen.box,
                                 inputs[mine][sharpest, 0].numpy())
    return results


def load_model(model, checkpoint, device):
    return utils.load_checkpoint(checkpoint, device)[0] if model is None else model.eval()


@torch.inference_mode()
def read_inputs(model, inputs):
    """Return the probabilities, float (N, 10) on the CPU, that model gives to inputs, uint8 (N, 1, 32, 32)."""
    device = next(model.parameters()).device
    return torch.cat([model(utils.standardise(part.to(device).float().div_(255)))[1].cpu() for part in inputs.split(500)])


def watch(model, picture):
    """Return ({name: activations}, probabilities (10,)) of one input, uint8 (32, 32), on its way through model.

    The activations of C1, S2, C3, S4, C5 and F6, after their tanh, are float arrays without a batch's dimension.
    """
    outputs = []
    hooks = [module.register_forward_hook(lambda module, inputs, output: outputs.append(output[0].cpu().numpy()))
             for module in model.modules() if isinstance(module, (torch.nn.Tanh, torch.nn.AvgPool2d))]
    try:
        probabilities = read_inputs(model, torch.from_numpy(picture)[None, None])
    finally:
        for hook in hooks:
            hook.remove()
    return dict(zip(("C1", "S2", "C3", "S4", "C5", "F6"), outputs, strict=True)), probabilities[0].numpy()


def single_predict(img_path, invert=None, model=None, save=None, show=False, checkpoint=utils.CHECKPOINT, device="cpu",
                   explain=False):
    """Return the digit, 0..9, in the picture at img_path; write the figure about it to save, open it if show.

    invert: True if the ink is darker than the paper, False if it is lighter, None to find out. explain: the figure shows
    every layer of the network. Raises LeNetError, in one line, if there is no picture or no digit in it.
    """
    model = load_model(model, checkpoint, device)
    (reading,) = predict_images([img_path], model, invert)
    if isinstance(reading, LeNetError):
        raise reading
    if save or show:
        figure = plot_explained(img_path, reading, model) if explain else plot([img_path], [reading])
        publish(figure, save, show)
    return reading.digit


def multi_predict(n=50, seed=None, model=None, save=utils.ASSETS / "multi_predict.png", show=False,
                  checkpoint=utils.CHECKPOINT, device="cpu", data_dir=utils.DATA):
    """Draw n random digits of MNIST's test set in a grid with what the network says; return how many it got wrong."""
    model = load_model(model, checkpoint, device)
    images, labels = utils.load_mnist(False, data_dir)
    generator = torch.Generator().manual_seed(seed) if seed is not None else None
    pick = torch.randperm(len(labels), generator=generator)[:n]
    images, labels = images[pick], labels[pick]
    confidence, digits = read_inputs(model, images).max(1)
    wrong = digits != labels
    blank = "\n" if wrong.any() else ""  # keeps the titles of a row at one height
    titles = [f"{digit} ({100 * p:.0f} %)" + (f"\nis a {label}" if digit != label else blank)
              for digit, p, label in zip(digits.tolist(), confidence.tolist(), labels.tolist())]
    heading = f"{len(labels)} random test digits: reading and its probability; {wrong.sum().item()} wrong, in red"
    publish(utils.plot_digits(images, titles, wrong.tolist(), heading), save, show)
    return wrong.sum().item()


# ---------------------------------------------------------------------------------------------------------------------
# Figures

MOST_IN_FIGURE = 60


def plot(sources, readings):
    """Return a Figure of pictures, as predict_images takes them, and of their readings or LeNetErrors."""
    return utils.plot_readings([to_rgb(source) for source in sources], readings,
                               [str(r) if isinstance(r, LeNetError) else say(r) for r in readings])


def plot_explained(source, reading, model):
    """Return a Figure of a picture, its reading, and what every layer of model made of the network's input."""
    layers, probabilities = watch(model, reading.input)
    heading = f"{say(reading)}: from the picture to the reading, through every layer of LeNet-5"
    if np.abs(probabilities - reading.probabilities).max() > 0.001:
        heading = f"One of two views of the picture; the mean of both is read as {say(reading)}"
    return utils.plot_layers(to_rgb(source), reading, layers, probabilities, heading)


def to_rgb(source):
    """Return a picture as float (H, W, 3), 0..1, to be shown; one white pixel if it can't be read."""
    try:
        array = to_array(open_picture(source))
    except LeNetError:
        array = np.ones((1, 1, 1), dtype=np.float32)
    return np.clip(np.broadcast_to(array, (*array.shape[:2], 3)), 0, 1)


def publish(figure, save, show):
    """Write figure to the file save, if given, and open it in a window, if show; raises LeNetError if that fails."""
    if save:
        utils.save_figure(figure, save)
    if show:
        utils.open_window(figure)


# ---------------------------------------------------------------------------------------------------------------------
# A window to draw in: what is drawn goes through predict_images(), as a file does, so a saved drawing is read alike

CANVAS = 384  # pixels on each side of the drawing: about what the window shows of it
NIB = 24      # pixels: the width of the pen


def paint(strokes):
    """Return strokes, lists of (x, y) in pixels of the canvas, as a grey PIL image, drawn with a round pen on paper."""
    page = np.full((CANVAS, CANVAS), 250, dtype=np.uint8)
    for stroke in strokes:
        points = np.array(stroke[:1] + stroke).round().astype(np.int32)  # a dot is a line from a point to itself
        cv2.polylines(page, [points], False, 25, NIB, cv2.LINE_AA)
    return Image.fromarray(page)


def draw(model, save=utils.ASSETS / "drawing.png"):
    """Return a Figure to draw a digit on, which model reads while it is drawn; utils.open_window shows it.

    Its keys, each with a button: c clears, u or ctrl+z takes the last stroke back, s writes the picture to the file save,
    as PNG, and q closes the window.
    """
    from matplotlib.figure import Figure
    from matplotlib.widgets import Button

    strokes, pen = [], None  # pen: the stroke that is being drawn, the last one of strokes
    figure = Figure(figsize=(9.6, 4.6), label="LeNet-5 reads what you draw")  # laid out by hand: a layout engine is slow
    canvas, seen, chart = (figure.add_axes(place) for place in (
        (0.02, 0.15, 0.40, 0.835), (0.45, 0.31, 0.20, 0.417), (0.70, 0.22, 0.27, 0.60)))
    for ax in (canvas, seen):
        ax.set(xticks=[], yticks=[])
    page = canvas.imshow(paint([]), cmap="gray", vmin=0, vmax=255, extent=(0, CANVAS, CANVAS, 0))
    hint = canvas.text(CANVAS / 2, CANVAS / 2, "draw a digit here", ha="center", color=utils.PALE, fontsize=16)
    inside = seen.imshow(np.zeros((32, 32)), cmap="gray", vmin=0, vmax=255)
    seen.set_title("what the network sees", fontsize=10)
    bars = utils.plot_bars(chart, [0] * 10)
    chart.set_xlabel("probability (%)")
    said = figure.text(0.70, 0.90, "", va="center", color=utils.INK)
    note = figure.text(0.45, 0.06, "", va="center", color=utils.INK, fontsize=9, wrap=True)
    frames = [*canvas.spines.values(), *seen.spines.values(), chart.spines["left"]]  # lie on top of what changes
    changing = [page, hint, inside, *bars, said, note, *frames]
    for artist in changing:
        artist.set_animated(True)  # only these are drawn anew with each movement of the pen
    still = None  # the pixels of all the rest

    def keep(event):
        """After everything was drawn anew: keep its pixels, then draw what changes on top."""
        nonlocal still
        if figure.canvas.supports_blit:
            still = figure.canvas.copy_from_bbox(figure.bbox)
        for artist in changing:
            artist.draw(event.renderer)

    def update(text=""):
        """Read the strokes, show what was read, and text below."""
        image = paint(strokes)
        (reading,) = predict_images([image], model)
        failed = isinstance(reading, LeNetError)
        page.set_data(image)
        hint.set_visible(not strokes)
        inside.set_data(np.zeros((32, 32)) if failed else reading.input)
        utils.set_bars(bars, [0] * 10 if failed else reading.probabilities)
        said.set_text(str(reading).replace(": ", ":\n") if failed else say(reading))
        said.set_fontsize(11 if failed else 18)
        note.set_text(text)
        if still is None:
            figure.canvas.draw_idle()
        else:  # a third of the time, which a pen in motion notices
            figure.canvas.restore_region(still)
            for artist in changing:
                figure.draw_artist(artist)
            figure.canvas.blit(figure.bbox)

    def position(event):  # beyond the canvas too, where paint() draws nothing
        return canvas.transData.inverted().transform((event.x, event.y)).tolist()

    def press(event):
        nonlocal pen
        if event.inaxes is canvas and event.button == 1:
            pen = [position(event)]
            strokes.append(pen)
            update()

    def move(event):
        if pen is not None:
            pen.append(position(event))
            update()

    def release(event):
        nonlocal pen
        pen = None

    def forget(start):
        del strokes[start:]
        update()

    def write():
        try:
            utils.write_atomically(save, lambda file: paint(strokes).save(file, "PNG"))
            update(f"saved in {save}")
        except LeNetError as error:
            update(str(error))

    def leave():
        import matplotlib.pyplot as plt

        plt.close(figure)

    actions = {"c": lambda: forget(0), "u": lambda: forget(-1), "s": write, "q": leave}
    keys = actions | {"ctrl+z": actions["u"], "cmd+z": actions["u"]}
    figure.buttons = []  # matplotlib itself holds on to them only weakly
    for i, (key, word) in enumerate(dict(c="Clear", u="Undo", s="Save", q="Quit").items()):
        button = Button(figure.add_axes((0.02 + 0.102 * i, 0.03, 0.094, 0.08)), f"{word} ({key})")
        button.on_clicked(lambda event, key=key: actions[key]())
        figure.buttons.append(button)
    figure.canvas.mpl_connect("draw_event", keep)
    figure.canvas.mpl_connect("button_press_event", press)
    figure.canvas.mpl_connect("motion_notify_event", move)
    figure.canvas.mpl_connect("button_release_event", release)
    figure.canvas.mpl_connect("key_press_event", lambda event: keys.get((event.key or "").lower(), lambda: None)())
    update()
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Command line

def say(reading):
    """Return a reading as people are told it."""
    return f"{reading.digit}{'' if reading.probability >= SURE else '?'} ({100 * reading.probability:.1f} %)"


def get_parser():
    parser = utils.OneLineParser(prog="predict.py", description=__doc__)
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="pictures, folders of pictures, or - for one on standard input")
    add("--invert", choices=("auto", "yes", "no"), default="auto", help="is the ink darker than the paper?")
    add("--json", action="store_true", help="print JSON Lines, one object for each picture, and nothing else")
    add("--save", type=Path, metavar="FILE", help="write a figure of what was seen; with --draw, the drawing")
    add("--show", action="store_true", help="open that figure in a window")
    add("--explain", action="store_true",
        help="show in that figure what each layer of the network did; of one picture (default: Assets/explain.png)")
    add("--draw", action="store_true",
        help="open a window to draw a digit in and see it read; its s key saves the picture (default: Assets/drawing.png)")
    add("--multi", type=int, nargs="?", const=50, metavar="N",
        help="read N (50) random digits of MNIST's test set instead, into a figure (default: Assets/multi_predict.png)")
    add("--seed", type=int, help="of --multi's random digits, 0 or more")
    add("--checkpoint", type=Path, default=utils.CHECKPOINT, help="the weights")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    return parser


def check(args):
    """Return the device of parsed arguments; raises ValueError, in one line, for what can't be done."""
    if args.draw:
        others = dict(IMAGE=args.images, multi=args.multi is not None, explain=args.explain, json=args.json, show=args.show,
                      invert=args.invert != "auto")
        useless = [name if name.isupper() else f"--{name}" for name, given in others.items() if given]
        if useless:
            raise ValueError(f"argument --draw: takes no {useless[0]}")
        args.save = args.save or utils.ASSETS / "drawing.png"
        if args.save.suffix.lower() != ".png":
            raise ValueError(f"argument --save: a drawing is saved as .png, got {args.save}")
    elif args.multi is None and not args.images:
        raise ValueError("name a picture to read, --draw or --multi")
    if args.multi is not None and args.images:
        raise ValueError("argument --multi: reads MNIST's own digits, so it takes no pictures")
    if args.multi is not None and not 1 <= args.multi <= 1000:
        raise ValueError(f"argument --multi: must be in 1 .. 1000, got {args.multi}")
    if args.multi is None and args.seed is not None:
        raise ValueError("argument --seed: has no meaning without --multi")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        raise ValueError(f"argument --seed: must be in 0 .. 2**32 - 1, got {args.seed}")
    if args.multi is not None and (args.json or args.invert != "auto"):
        raise ValueError("argument --multi: takes neither --json nor --invert")
    if args.explain and (len(args.images) != 1 or Path(args.images[0]).is_dir()):
        raise ValueError("argument --explain: takes one picture")
    if args.explain and not (args.save or args.show):
        utils.check_folder(utils.ASSETS, "--explain")
    if args.images.count("-") > 1:
        raise ValueError("argument IMAGE: standard input (-) can be read only once")
    if args.save:
        utils.check_folder(args.save.parent, "--save")
        if args.save.is_dir():
            raise ValueError(f"argument --save: {args.save} is a folder")
    return utils.pick_device(args.device)


def find_sources(names):
    """Yield (name, path or bytes or LeNetError) for each picture that the command line's names stand for, in order."""
    for name in names:
        path = Path(name)
        if name == "-":
            yield name, io.BytesIO(sys.stdin.buffer.read())
        elif path.is_dir():
            try:
                files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
            except OSError as error:
                yield name, LeNetError(f"can't be listed: {error.strerror}")
                continue
            if not files:
                yield name, LeNetError("a folder without pictures")
            yield from ((str(file), file) for file in files)
        else:
            yield name, path


def read_all(args, device):
    """Read every picture that args ask for, print what was read; return the exit status."""
    model = load_model(None, args.checkpoint, device)
    invert = {"auto": None, "yes": True, "no": False}[args.invert]
    sources, shown, failed = find_sources(args.images), [], False
    while chunk := [source for source, _ in zip(sources, range(200))]:
        readings = predict_images([source for _, source in chunk], model, invert)
        for (name, source), reading in zip(chunk, readings):
            failed |= isinstance(reading, LeNetError)
            tell(name, reading, args.json)
            if (args.save or args.show or args.explain) and len(shown) < MOST_IN_FIGURE:
                shown.append((source, reading))
    if args.explain and not failed:
        path = args.save or (None if args.show else utils.ASSETS / "explain.png")
        publish(plot_explained(*shown[0], model), path, args.show)
        if path != args.save:
            print(f"predict.py: the layers are in {path}", file=sys.stderr)
    elif shown:
        publish(plot(*zip(*shown)), args.save, args.show)
    return 1 if failed else 0


def draw_and_read(args, device):
    """Open the window to draw in; return the exit status once it is closed."""
    utils.open_window(draw(load_model(None, args.checkpoint, device), args.save), own_keys=True)
    return 0


def tell(name, reading, as_json):
    """Print one reading, or what kept it from being one."""
    if as_json and isinstance(reading, LeNetError):
        print(json.dumps({"image": name, "error": str(reading)}))
    elif as_json:
        print(json.dumps({"image": name, "digit": reading.digit, "probability": round(reading.probability, 6),
                          "probabilities": [round(p, 6) for p in reading.probabilities], "inverted": reading.inverted}))
    elif isinstance(reading, LeNetError):
        print(f"predict.py: {name}: {reading}", file=sys.stderr)
    else:
        print(f"{name}: {say(reading)}")


def main(argv=None):
    """Run the command line argv; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what no encoding can print
    parser = get_parser()
    args = parser.parse_args(argv)
    try:
        device = check(args)
    except ValueError as error:
        parser.error(str(error))
    try:
        if args.draw:
            return draw_and_read(args, device)
        if args.multi is None:
            return read_all(args, device)
        seed = torch.seed() % 2**32 if args.seed is None else args.seed
        path = args.save or utils.ASSETS / "multi_predict.png"
        wrong = multi_predict(args.multi, seed, None, path, args.show, args.checkpoint, device)
        print(f"{args.multi} test digits, {wrong} read wrongly (--seed {seed}): {path}")
    except LeNetError as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
