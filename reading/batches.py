"""Read many pictures: the first views of small ones are judged by the network together.

    for image, reading in read_each(sources, judge):    in order, errors among them
        ...

Most files of 28x28 pixels need no other views, and the network is quicker with many at once.
"""

import contextlib
import itertools
import re

from reading.binarize import THUMBNAIL
from reading.image import PictureError, open_picture
from reading.output import unread
from reading.reader import ask, find_digits

AT_ONCE = 32  # pictures: all of them are in memory


def read_each(sources, judge, invert=None):
    """Yield (PIL image or None, its Reading or the PictureError that kept it from one) of each.

    sources: an iterable of what open_picture() takes, and of PictureErrors, which are passed on;
    judge: ask()'s; invert: find_digits()'s. Raises ValueError for another invert.
    """
    if invert not in (None, True, False):
        raise ValueError(f"invert has to be True, False or None, got {invert!r}")
    sources = iter(sources)
    while some := list(itertools.islice(sources, AT_ONCE)):
        opened = [begin(source, invert) for source in some]
        views, judged = [view for *_, first in opened for view in first], []
        with contextlib.suppress(PictureError), memory_errors():  # else each is judged by itself
            judged = judge(views) if views else judged
        for image, reader, first in opened:
            ours, judged = judged[:len(first)], judged[len(first):]
            yield image, finish(image, reader, judge, first, ours)


def begin(source, invert):
    """Return (PIL image, its reader, the views that a small one has yielded).

    (None, PictureError, []) if there is no image; (image, NoDigit, []) if nothing can be seen.
    """
    image = None
    try:
        if isinstance(source, PictureError):
            raise source
        with memory_errors():
            image = open_picture(source)
            reader = find_digits(image, invert)
            is_small = max(image.size) <= THUMBNAIL  # others would take much memory while they wait
            return image, reader, next(reader) if is_small else []
    except PictureError as error:
        return image, error, []


def finish(image, reader, judge, first, judged):
    """Return the Reading of an image whose first views may be judged already, or a PictureError."""
    try:
        if isinstance(reader, PictureError):
            raise reader
        with memory_errors():
            if first and not len(judged):
                judged = judge(first)
            return ask(reader, judge, judged if first else None)
    except PictureError as error:
        pages = image.info.get("pages", 1) if image else 1
        return type(error)(f"{error}; {unread(pages)}") if pages > 1 else error


@contextlib.contextmanager
def memory_errors():
    """Raise PictureError in place of what Python, OpenCV or torch raise if memory runs out."""
    try:
        yield
    except PictureError:
        raise
    except Exception as error:  # OpenCV, torch and oneDNN have no class of their own for it
        if isinstance(error, MemoryError) or re.search("memory|create a primitive", str(error)):
            raise PictureError("not enough memory to read it; reduce the picture first") from None
        raise
