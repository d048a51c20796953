"""Read many pictures: the first views of some are judged by the network together.

    for image, reading in read_each(sources, judge):    in order, errors among them
        ...

Most files of 28x28 pixels need no other views, and read nearly twice as fast so.
"""

import contextlib
import itertools
import re

from reading.image import PictureError, open_picture
from reading.output import unread
from reading.reader import begin, read_picture

AT_ONCE = 32  # pictures: all of them are in memory


def read_each(sources, judge, invert=None):
    """Yield (PIL image or None, its Reading or the PictureError that kept it from one) of each.

    sources: an iterable of what open_picture() takes, and of PictureErrors, which are passed on;
    judge, invert: as in read_picture().
    """
    sources = iter(sources)
    while some := list(itertools.islice(sources, AT_ONCE)):
        opened = [open_first(source, invert) for source in some]
        views, judged = [view for _, first, _ in opened for view in first], []
        with contextlib.suppress(PictureError), memory_errors():  # else each is judged by itself
            judged = judge(views) if views else judged
        start = 0
        for image, first, begun in opened:
            known = judged[start:start + len(first)]
            start += len(first)
            if image is not None:  # else begun is the error
                begun = finish(image, first, known, judge, begun, invert)
            yield image, begun


def open_first(source, invert):
    """Return (PIL image, the views of its first hypothesis, the rest), or (None, [], error)."""
    try:
        if isinstance(source, PictureError):
            raise source
        with memory_errors():
            image = open_picture(source)
            return image, *begin(image, invert)
    except PictureError as error:
        return None, [], error


def finish(image, first, known, judge, begun, invert):
    """Return the Reading of an image whose first views were judged, or its PictureError."""
    def judge_others(views):
        return known if views is first and len(known) else judge(views)

    try:
        with memory_errors():
            return read_picture(image, judge_others, invert, begun)
    except PictureError as error:
        pages = image.info.get("pages", 1)
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
