"""From a file to ink, and from ink to a digit as MNIST frames it: the first and the last step of reading a picture.

    image = open_picture("photo.jpg")        a PIL image
    array = to_array(image, 256)             float32 (H, W, C), 0..1, upright, 256 pixels on its long side
    for look in looks(array):                what may be ink, seen in several ways; number.py finds digits in it
        ...
    frame(look.ink, mask, look.level)        one digit: uint8 (28, 28), white on black

Ink is what differs from the paper around it, so any ink is read on any paper. Pillow, NumPy and OpenCV only; each step is a
pure function, in the order in which it is applied.
"""

import contextlib
import logging
import math
import os
from collections import namedtuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from reading.restore import subtract_paper

MAX_PIXELS = 120_000_000  # a picture with more is refused: it would not fit into a gigabyte of memory
DRAFT = 1024              # pixels that a JPEG keeps on its long side, at least, when it is reduced while it is decoded

SILENCE = logging.NullHandler()

Look = namedtuple("Look", "ink mask level inverted lines name noise", defaults=[0.0])
Look.__doc__ = """One way to see what is ink in a picture.

ink: float32 (H, W), how far a pixel is from its paper, 0 paper; mask: bool (H, W), what counts as ink; level: float, the
strength of full ink; inverted: True if ink is darker than its paper; lines: bool (H, W), the ruled lines that were taken
out of mask, or None; name: str, the look in words, for people; noise: float, the paper's grain in the unit of level.
"""


class PictureError(RuntimeError):
    """A picture that can't be read. The message is one line: what is wrong and what to do."""


class NoDigit(PictureError):
    """There is nothing in the picture that could be a digit."""


# ---------------------------------------------------------------------------------------------------------------------
# From a file to an array

def open_picture(source):
    """Return the PIL image in source: a path, a binary file, a PIL image, or a uint8 array (H, W) or (H, W, 3 or 4).

    Of an animation or a file of several pages it is the first; image.info["pages"] says how many there are. A file is closed
    again, an image that was given stays as it was. Raises PictureError, in one line, for everything that is not a picture.
    """
    logging.getLogger("PIL").addHandler(SILENCE)  # what is wrong with a file is said once, by us
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(source, np.ndarray):
                return from_array(source)
            if isinstance(source, Image.Image):
                image = source
            else:
                image = identify(source if hasattr(source, "read") else stack.enter_context(open_file(source)))
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            pages = 1
            if image is not source:
                pages = count_pages(image)
                image.draft("RGB", (DRAFT, DRAFT))
            image.load()
            if pages > 1:
                image.info["pages"] = pages
            return image
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("not a picture in any format that Pillow reads") from None
    except Image.DecompressionBombError:
        raise PictureError(f"more than {MAX_PIXELS // 10**6} million pixels; reduce the picture first") from None
    except MemoryError:
        raise PictureError("not enough memory to decode it") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise PictureError(f"the picture is damaged: {reason}") from None


def open_file(path):
    """Return the binary file at path; raises PictureError, with what the system says, if it can't be opened."""
    try:
        return open(os.fspath(path), "rb")  # a number would be a file that the program has open, and be closed
    except FileNotFoundError:
        raise PictureError("no such file") from None
    except IsADirectoryError:
        raise PictureError("is a folder") from None
    except PermissionError:
        raise PictureError("no permission to read it") from None
    except (OSError, TypeError, ValueError) as error:  # a name that is too long, what is no name at all, a null byte in it
        raise PictureError(f"can't be opened: {getattr(error, 'strerror', None) or error}") from None


def count_pages(image):
    """Return how many pages or frames an image has, which is not decoded yet. A phone's JPEG has one: what else is in it are
    previews and maps of the same view."""
    if image.format not in ("TIFF", "GIF", "PNG", "WEBP"):
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # a later page is damaged, which is no reason to refuse the first
        return 1
    finally:
        image.seek(0)


def from_array(array):
    """Return the PIL image of a uint8 array (H, W) or (H, W, 3 or 4); raises PictureError for any other."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.size == 0 or array.shape[2:] not in ((), (3,), (4,)):
        raise PictureError(f"an array has to be uint8 (H, W), (H, W, 3) or (H, W, 4), not {array.dtype} {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def identify(file):
    """Return the PIL image in a binary file, not decoded yet. HEIC, what iPhones write, takes the package pillow-heif."""
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        if head[4:8] != b"ftyp" or head[8:12] not in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
            raise
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise PictureError("a HEIC picture: pip install pillow-heif to read it, or save it as JPEG") from None
        register_heif_opener()
        file.seek(0)
        return Image.open(file)


def to_array(image, size=256):
    """Return image as float32 (H, W, C), 0..1, C 1 or 3, upright, with at most `size` pixels on its long side.

    A transparent picture is laid on a ground that its ink contrasts with.
    """
    factor = max(1, max(image.size) // size)
    rows = max(1, 2**22 // (factor * image.width)) * factor  # of whole cells of factor x factor pixels
    strips = []  # a huge picture is never converted as a whole
    for top in range(0, image.height, rows):
        strip = image if rows >= image.height else image.crop((0, top, image.width, min(top + rows, image.height)))
        strips.append(np.asarray(plain_mode(strip).reduce(factor)))
    array = np.concatenate(strips)
    if array.dtype == np.uint8:
        array = np.divide(array, 255, dtype=np.float32)
    else:  # 16 and 32 bits: the depth that was meant is not recorded; cameras and scanners fill 10, 12, 14 or 16 bits
        array = np.maximum(np.nan_to_num(array.astype(np.float32), posinf=0, neginf=0), 0)
        array = array / next(white for white in (1, 255, 1023, 4095, 16383, 65535, array.max()) if array.max() <= white)
    array = array.reshape(*array.shape[:2], -1)
    if max(array.shape[:2]) > size:
        array = shrink(array, size)
    array = UPRIGHT.get(orientation(image), np.asarray)(array)
    return np.ascontiguousarray(lay_on_ground(array) if array.shape[2] == 4 else array)


def shrink(array, size):
    """Return array, float (H, W, C), with `size` pixels on its long side, averaged over the area of each."""
    height, width, channels = array.shape
    scale = size / max(height, width)
    small = cv2.resize(array, (max(1, round(scale * width)), max(1, round(scale * height))), interpolation=cv2.INTER_AREA)
    return small.reshape(*small.shape[:2], channels)  # OpenCV drops the channel of a grey picture


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
        strength = along_axis(difference * difference).ravel()
        strong = pixels[np.flatnonzero(strength >= quantile(strength, 0.98))]
        axis = np.linalg.eigh(strong.T @ strong)[1][:, -1].astype(np.float32)
        along = along_axis(difference, axis)
    darker = axis.sum() if channels == 1 else axis @ LUMA
    if invert is not None:
        sign = 1.0 if (darker < 0) == invert else -1.0
    else:
        sign = 1.0 if np.vdot(along, np.abs(along)) >= 0 else -1.0
    return np.maximum(sign * along, 0), bool(sign * darker < 0)


def along_axis(array, axis=None):
    """Return array, float (H, W, C), along an axis of colour, float (C,), or the mean over all colours: float (H, W)."""
    if axis is None:
        axis = np.full(array.shape[2], 1 / array.shape[2], dtype=np.float32)
    return cv2.transform(array, axis[None])  # NumPy takes ten times as long


def grain(array):
    """Return the standard deviation of the noise and grain in array, float (H, W, C), along a unit vector of colour.

    Taken from the median difference of pixels two apart, side by side or one above the other, whichever is less: strokes are in few
    places, or run in one direction, and falling light differs by little.
    """
    grey = along_axis(array)
    apart = [quantile(np.abs(lines[2:] - lines[:-2]), 0.5) for lines in (grey, grey.T) if len(lines) > 2]
    return math.sqrt(array.shape[2]) * min(apart, default=0.0) / 0.954  # 0.954: of a normal distribution


def find_inks(array, invert, shares):
    """Yield (ink, inverted, what it is, in words) as looks() needs it: as find_ink(), on the paper of each share."""
    for share in shares:
        difference, light = subtract_paper(array, share)
        ink, inverted = find_ink(difference, invert)
        if inverted:
            ink = ink / np.maximum(light, 0.4)  # in a shadow all is darker by the same factor, the ink's contrast too
        yield ink, inverted, f"what is {'darker' if inverted else 'lighter'} than the paper within {share:.2g} of the picture"


def looks(array, invert=None, shares=(0.5, 0.25, 1.0), length=None):
    """Yield each Look at array, float (H, W, C): the ink of papers of several sizes, at THRESHOLDS, without lines at last.

    shares: subtract_paper()'s; a look that sees nothing, since the picture is blank there, is left out. length: in pixels,
    that of the shortest ruled line.
    """
    length = length or max(10, int(0.4 * min(array.shape[:2])))
    small, found = max(array.shape[:2]) <= 64, []
    noise = 0.0 if small else grain(array)  # a small picture may be full of strokes
    for ink, inverted, what in find_inks(array, invert, shares):
        level = quantile(ink, 0.999)
        if level < max(MIN_CONTRAST, PURE_NOISE * noise):
            continue
        for mask, how in zip(find_masks(ink / level), ("half of full ink or more", "a third or more", "faint ink too")):
            found.append(Look(ink, mask, level, inverted, None, f"{what}; {how}", noise))
            yield found[-1]
    for first in range(0, len(found), len(THRESHOLDS)):
        lines = find_ruling(found[first + 1].mask, length)
        for look in found[first:first + len(THRESHOLDS)]:
            ruled = lines & look.mask
            if np.count_nonzero(ruled) > 0.05 * np.count_nonzero(look.mask):
                yield look._replace(mask=look.mask & ~lines, lines=ruled, name=f"{look.name}; without ruled lines")


def find_masks(ink):
    """Yield what may count as ink, bool (H, W) each, of ink in units of full ink: from the strictest to the most lenient.

    All ink of half the strength, or of a third; then fainter ink too, where it hangs together with ink of half the
    strength (hysteresis, as of Canny's edges, 1986): a stroke that fades stays whole, and specks of faint noise stay out.
    """
    yield ink > THRESHOLDS[0]
    yield ink > THRESHOLDS[1]
    n, label = cv2.connectedComponents((ink > THRESHOLDS[2]).view(np.uint8), connectivity=8)
    strong = np.zeros(n, dtype=bool)
    strong[label[ink > THRESHOLDS[0]]] = True
    strong[0] = False
    yield strong[label]


PURE_NOISE = 3.5       # standard deviations: noise by itself reaches as far, at a pixel in a thousand
MIN_CONTRAST = 0.04    # of the strongest ink, 0..1: below is the noise of blank paper
THRESHOLDS = 0.5, 0.3, 0.2  # of full ink: lower ones keep faint parts of a stroke together, the highest one what touches apart
def find_ruling(mask, length):
    """Return bool (H, W): the ruled lines in mask, level or upright, thin runs of at least `length` pixels.

    Where a stroke crosses a line, or stands on it, the run is not thin, and the stroke stays whole.
    """
    found = np.zeros(mask.shape, dtype=bool)
    for turn in (lambda a: a, lambda a: a.T):
        pixels = np.ascontiguousarray(turn(mask)).view(np.uint8)
        height, width = pixels.shape
        if length > width:
            continue
        runs = np.zeros_like(pixels)
        level = cv2.morphologyEx(cv2.dilate(pixels, np.ones((3, 1), np.uint8)), cv2.MORPH_CLOSE,
                                 np.ones((1, max(3, length // 10)), np.uint8))
        rows = np.flatnonzero(cv2.reduce(level, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S) >= length // 2)
        if len(rows):
            count = cv2.boxFilter(level[rows], cv2.CV_16U, (length, 1), normalize=False, borderType=cv2.BORDER_REPLICATE)
            runs[rows] = cv2.dilate((count == length).view(np.uint8), np.ones((1, length), np.uint8))
        runs &= pixels
        outline = ((pixels[1:] != pixels[:-1]) & ((runs[1:] | runs[:-1]) > 0)).sum()
        thick = max(2, round(2 * runs.sum() / max(outline, 1)))
        if thick < 0.1 * height:
            strokes = cv2.morphologyEx(pixels, cv2.MORPH_OPEN, np.ones((int(1.8 * thick) + 1, 1), np.uint8))
            found |= turn((runs & ~strokes).view(bool))
    return found


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
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    size = max(width, height)
    pen = stroke_width(mask)
    reach = max(1, round(REACH * size))  # fainter ink next to the digit's is the digit's too
    grow = max(0, round((PEN * size / 20 - pen) / 2))
    margin = reach + grow
    window = slice(max(top - margin, 0), top + height + margin), slice(max(left - margin, 0), left + width + margin)
    border = [margin] * 4
    mask, ink = (cv2.copyMakeBorder(array[window], *border, cv2.BORDER_CONSTANT) for array in (mask.view(np.uint8), ink))
    soft = cv2.copyTo(np.minimum(ink / level, 1), dilate(mask, reach))
    soft *= soft >= FAINT
    if grow:
        soft = dilate(soft, grow)
    soft = (255 * soft).astype(np.uint8)
    image = Image.frombuffer("L", soft.shape[::-1], soft, "raw", "L", 0, 1)
    left, top, width, height = cv2.boundingRect(soft)
    box, scale = (left, top, left + width, top + height), 20 / max(width, height)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    fitted = np.frombuffer(fitted.tobytes(), dtype=np.uint8).reshape(height, width)
    mass = cv2.moments(fitted)
    top = min(max(round(13.5 - mass["m01"] / mass["m00"]), 0), 28 - height)
    left = min(max(round(13.5 - mass["m10"] / mass["m00"]), 0), 28 - width)
    framed = np.zeros((28, 28), dtype=np.uint8)
    framed[top:top + height, left:left + width] = fitted
    return framed


def quantile(array, share):
    """Return the value that this share of array stays below or reaches."""
    return float(np.sort(array, axis=None)[int(share * (array.size - 1))])  # partition() is slow where much of it is 0


def dilate(array, radius):
    """Return array (H, W) with each pixel the largest of those at most radius rows and columns away."""
    return cv2.dilate(array, np.ones((2 * radius + 1, 2 * radius + 1), dtype=np.uint8))


def stroke_width(mask):
    """Return the mean width in pixels of the strokes in mask: twice its area over the length of its outline."""
    edges = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    return 2 * np.count_nonzero(mask) / max(edges * np.pi / 4, 1)  # of slanted edges too


def stretch(ink):
    """Return a picture that is 28x28 already as it is, uint8, white on black, its contrast stretched to 0..255."""
    return (255 * np.clip(ink / quantile(ink, 0.99), 0, 1)).astype(np.uint8)
