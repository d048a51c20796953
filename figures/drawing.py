"""Make a drawing of strokes: its picture, the file it is saved in, and the label it is kept
with."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import utils
from reading.image import PictureError
from training import own_pictures
from utils import LeNetError

CANVAS = 384          # pixels on each side: about what the window shows of it
PAPER, INK = 250, 25  # shades of grey
PEN, ERASER = 24, 48  # their widths in pixels


class Drawing:
    """Strokes of a pen or an eraser, lists of points, and page, the picture that they make."""

    def __init__(self):
        self.strokes = []  # (list of (x, y), does it erase?)
        self.page = np.full((CANVAS, CANVAS), PAPER, dtype=np.uint8)

    def begin(self, point, erases=False):
        self.strokes.append(([point], erases))
        lay_ink(self.page, [point, point], erases)  # a dot is a line from a point to itself

    def extend(self, point):
        points, erases = self.strokes[-1]
        points.append(point)
        lay_ink(self.page, points[-2:], erases)

    def draw(self, points, erases=False):
        self.begin(points[0], erases)
        for point in points[1:]:
            self.extend(point)

    def take_back(self, start):
        """Remove the strokes from start on: 0 is all of them, -1 the last one."""
        kept = self.strokes[:start]
        self.__init__()
        for points, erases in kept:
            self.draw(points, erases)

    def is_blank(self):
        return bool((self.page == PAPER).all())

    def image(self):
        return Image.fromarray(self.page.copy())


def lay_ink(page, points, erases):
    """Draw a line through points, a list of (x, y) in pixels, on page with the pen or the
    eraser."""
    corners = np.array(points).round().astype(np.int32)
    cv2.polylines(page, [corners], False, *nib(erases), cv2.LINE_AA)


def nib(erases):
    """Return (shade, width in pixels) of the eraser or the pen."""
    return (PAPER, ERASER) if erases else (INK, PEN)


def as_png(drawing):
    """Return drawing as a PNG picture in a binary file, io.BytesIO."""
    file = io.BytesIO()
    drawing.image().save(file, "PNG")
    return file


def write(drawing, path):
    """Write drawing as a PNG picture to path, or to a free name near it; return what was done."""
    path, n = Path(path), 2
    free = path
    while free.exists():
        free, n = path.with_stem(f"{path.stem}-{n}"), n + 1
    try:
        utils.write_atomically(free, as_png(drawing).getbuffer())
    except LeNetError as error:
        return str(error)
    return f"saved in {utils.one_line(free)}"


def keep(drawing, digit, folder):
    """Keep drawing as a picture of digit, "0" to "9", in folder; return (path or None, a note)."""
    try:
        path, n_digits = own_pictures.keep(as_png(drawing), ".png", int(digit), folder)
    except (LeNetError, PictureError) as error:
        return None, str(error)
    what = "python train.py --mine learns it" if n_digits == 1 else f"but it {own_pictures.SEVERAL}"
    where = utils.one_line(utils.short_path(path))
    return path, f"Thank you! Kept as a {digit} in\n{where}\n({what}; u takes it back)"


def take_back(path):
    """Remove a picture that was kept; return what was done."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"{utils.one_line(path)} could not be removed ({error.strerror or error})"
    return f"Taken back: {utils.one_line(utils.short_path(path))} is removed."
