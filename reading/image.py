"""From a file to an upright array: open a picture, decode it, lay it on a plain ground.

    image = open_picture("photo.jpg")    a PIL image
    array = to_array(image, 256)         float32 (H, W, C), 0..1, 256 pixels on its long side

Whatever is wrong with a file becomes a PictureError, one line that says what it is.
"""

import contextlib
import logging
import os

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 120_000_000  # more would not fit into a gigabyte of memory
DRAFT = 1024  # pixels that a JPEG reduced while it is decoded keeps on its long side, at least
HEIC = b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601

SILENCE = logging.NullHandler()


class PictureError(RuntimeError):
    """A picture that can't be read. The message is one line: what is wrong and what to do."""


class NoDigit(PictureError):
    """There is nothing in the picture that could be a digit."""


def open_picture(source):
    """Return the PIL image in a path, a binary file, a PIL image or a uint8 array.

    An array is (H, W), (H, W, 3) or (H, W, 4). Of an animation or a file of several pages the
    first is taken; image.info["pages"] says how many there are. A file opened here is closed
    again; an image that was given is not changed. Raises PictureError for everything else.
    """
    logging.getLogger("PIL").addHandler(SILENCE)  # what is wrong with a file is said once, by us
    try:
        with contextlib.ExitStack() as stack:
            if hasattr(source, "__array__") and not isinstance(source, Image.Image):
                return from_array(np.asarray(source))  # a tensor, too
            if isinstance(source, Image.Image):
                image = source
            else:
                is_file = hasattr(source, "read")
                image = identify(source if is_file else stack.enter_context(open_file(source)))
            return load(image, image is not source)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("not a picture in any format that Pillow reads") from None
    except Image.DecompressionBombError:
        most = MAX_PIXELS // 10**6
        raise PictureError(f"more than {most} million pixels; reduce the picture first") from None
    except MemoryError:
        raise PictureError("not enough memory to decode it; reduce the picture first") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise PictureError("can't be decoded (if other programs can, save it as PNG there): "
                           f"{reason or type(error).__name__}") from None


def load(image, from_file):
    """Return a PIL image, decoded, if it is not too large."""
    if 0 in image.size:
        raise PictureError("a picture without pixels")
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    pages = count_pages(image) if from_file else 1
    if from_file:
        image.draft("RGB", (DRAFT, DRAFT))
    image.load()
    if pages > 1:
        image.info["pages"] = pages
    return image


def is_one(images):
    """Tell whether images is a single picture; a file or an array of one can be iterated, too."""
    if hasattr(images, "__array__") and hasattr(images, "ndim"):
        return images.ndim < 3 or images.ndim == 3 and images.shape[2] in (3, 4)
    return (isinstance(images, (str, bytes, os.PathLike)) or not hasattr(images, "__iter__")
            or any(hasattr(images, name) for name in ("read", "__array__", "__array_interface__")))


def open_file(path):
    """Return the binary file at path; raises PictureError if it can't be opened."""
    try:
        return open(os.fspath(path), "rb")  # a number would be a file the program has open
    except FileNotFoundError:
        raise PictureError("no such file") from None
    except IsADirectoryError:
        raise PictureError("is a folder") from None
    except PermissionError:
        raise PictureError("no permission to read it") from None
    except (OSError, TypeError, ValueError) as error:  # too long, no name at all, a null byte
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"can't be opened: {reason}") from None


def count_pages(image):
    """Return how many pages or frames an image has that is not decoded yet.

    A phone's JPEG has one: what else is in it are previews of the same view.
    """
    if image.format not in ("TIFF", "GIF", "PNG", "WEBP"):
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # a later page is damaged, which is no reason to refuse the first
        return 1
    finally:
        image.seek(0)


def from_array(array):
    """Return the PIL image of a uint8 array; raises PictureError for any other array."""
    known = array.ndim in (2, 3) and array.shape[2:] in ((), (3,), (4,))
    if array.dtype != np.uint8 or array.size == 0 or not known:
        raise PictureError("an array has to be uint8 (H, W), (H, W, 3) or (H, W, 4), not "
                           f"{array.dtype} {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def identify(file):
    """Return the PIL image in a binary file, not decoded yet.

    HEIC, which iPhones write, takes the package pillow-heif.
    """
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        if not head:
            raise PictureError("an empty file") from None
        if head[:5] == b"%PDF-":
            raise PictureError("a PDF: save its pages as pictures first (pdftoppm -r 150 -png "
                               "scan.pdf page, or a viewer's export)") from None
        if head[4:8] != b"ftyp" or head[8:12] not in HEIC:
            raise
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise PictureError("a HEIC picture: pip install pillow-heif to read it, or save it as "
                               "JPEG") from None
        register_heif_opener()
        file.seek(0)
        return Image.open(file)


def to_array(image, size=256):
    """Return image as float32 (H, W, C), 0..1, upright, at most `size` pixels on its long side.

    C is 1 or 3. A transparent picture is laid on a ground that its ink contrasts with.
    """
    factor = max(1, max(image.size) // size)
    rows = max(1, 2**22 // (factor * image.width)) * factor  # of cells of factor x factor pixels
    strips = []  # a huge picture is never converted as a whole
    for top in range(0, image.height, rows):
        strip = image
        if rows < image.height:
            strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strips.append(np.asarray(plain_mode(strip).reduce(factor)))
    array = to_unit(np.concatenate(strips))
    array = array.reshape(*array.shape[:2], -1)
    if max(array.shape[:2]) > size:
        array = shrink(array, size)
    array = UPRIGHT.get(orientation(image), np.asarray)(array)
    return np.ascontiguousarray(lay_on_ground(array) if array.shape[2] == 4 else array)


def to_unit(array):
    """Return array as float32, 0..1.

    The depth that 16 and 32 bits stand for is not recorded: cameras and scanners fill 10, 12, 14
    or 16 bits, so the largest value tells.
    """
    if array.dtype == np.uint8:
        return np.divide(array, 255, dtype=np.float32)
    array = np.maximum(np.nan_to_num(array.astype(np.float32), posinf=0, neginf=0), 0)
    depths = 1, 255, 1023, 4095, 16383, 65535, array.max()
    return array / next(white for white in depths if array.max() <= white)


def shrink(array, size):
    """Return array, float (H, W, C), with `size` pixels on its long side, averaged by area."""
    height, width, channels = array.shape
    scale = size / max(height, width)
    target = max(1, round(scale * width)), max(1, round(scale * height))
    small = cv2.resize(array, target, interpolation=cv2.INTER_AREA)
    return small.reshape(*small.shape[:2], channels)  # OpenCV drops the channel of a grey picture


def orientation(image):
    """Return the orientation that a camera noted in image's EXIF data, or None."""
    try:
        return image.getexif().get(0x0112)
    except Exception:  # broken metadata are no reason to refuse the picture
        return None


# EXIF's orientations: what turns the stored rows and columns upright. Pillow's exif_transpose
# would turn the whole picture, not the reduced one.
UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def plain_mode(image):
    """Return image in one of the modes L, RGB, RGBA (8 bits) and I, F (more)."""
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode in ("L", "RGB", "I", "F", "RGBA") and "transparency" not in image.info:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "La":
        image = image.convert("LA")  # Pillow converts it to nothing else
    modes = "LA", "PA", "RGBA", "RGBa"
    has_alpha = image.mode in modes or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def lay_on_ground(rgba):
    """Return float (H, W, 3): rgba, float (H, W, 4), on a plain ground that the ink contrasts with.

    If little is opaque, or all of it alike, that is ink, and the ground is black or white,
    whichever is farther from it. Else the opaque part is paper with ink on it, and the ground is
    more of that paper.
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
