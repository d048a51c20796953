"""Find the pictures that names on the command line stand for: files, folders, patterns, or - for
standard input."""

import contextlib
import fnmatch
import glob
import io
import os
import re
import sys
from pathlib import Path

from reading.image import PictureError

SUFFIXES = set(".png .jpg .jpeg .jpe .jfif .bmp .dib .gif .tif .tiff .webp .ppm .pgm .pbm .pnm "
               ".tga .ico .jp2 .j2k .avif .pcx .heic .heif".split())


def natural(path):
    """Return the sort key that puts p2 before p10: a path's numbers count as numbers."""
    path = str(path)
    parts = [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)]
    return parts, path


def find_sources(names):
    """Yield (name, source) of each picture that names stand for, in order; a source is a path, a
    binary file or a PictureError.

    Folders are searched with all that is in them, in natural order; so are patterns (*.png,
    **/*.png), which Windows' shell leaves to the program.
    """
    for name in names:
        if name == "-":
            yield name, read_stdin()
        elif os.path.isdir(name):
            yield from search_folder(name)
        elif not os.path.lexists(name) and (found := expand(name)):
            yield from find_sources(found)
        else:
            yield name, Path(name)


def expand(pattern):
    """Return the names that a pattern stands for; of one with **, which finds everything, the
    pictures."""
    found = sorted(glob.glob(pattern, recursive=True), key=natural)
    return [name for name in found if is_picture(Path(name))] if "**" in pattern else found


def search_folder(folder):
    """Yield (name, path or PictureError) of the pictures in folder and the folders in it.

    Hidden folders and links to folders are passed over.
    """
    problems, empty = [], True
    for place, folders, names in os.walk(folder, onerror=problems.append):
        shown = (name for name in folders if name[0] != "." and name != "__MACOSX")
        folders[:] = sorted(shown, key=natural)
        paths = (Path(place) / name for name in sorted(names, key=natural))
        for path in filter(is_picture, paths):
            empty = False
            yield str(path), path
    for problem in problems:
        yield problem.filename, PictureError(f"can't be listed: {problem.strerror}")
    if empty and not problems:
        yield folder, PictureError("a folder without pictures")


def list_folder(folder):
    """Return the paths of the pictures right in folder, in natural order. Raises OSError."""
    return sorted(filter(is_picture, Path(folder).iterdir()), key=natural)


def is_picture(path):
    """Tell whether path is a file that is named as a picture; ._x.png is what macOS knows of
    x.png."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._") and path.is_file()


def read_stdin():
    """Return standard input as a binary file, or the PictureError that says why it can't be
    read."""
    try:
        return io.BytesIO(sys.stdin.buffer.read())
    except AttributeError:
        return PictureError("standard input is closed")
    except OSError as error:
        return PictureError(f"standard input can't be read: {error.strerror}")


def would_read(name, path):
    """Tell whether the command line's name stands for the file path, perhaps among others.

    This holds too if path is yet to be written into a folder that is there. A file written to a
    link is written to the link's target.
    """
    if name == "-":
        with contextlib.suppress(OSError):  # standard input is closed, or path is not there yet
            return os.path.samestat(os.fstat(0), os.stat(path))
        return False
    if os.path.isdir(name):
        return any(is_inside(target, name) for target in (path, Path(os.path.realpath(path))))
    if os.path.lexists(name):
        return os.path.exists(name) and path.exists() and os.path.samefile(name, path)
    folder, pattern = os.path.split(name)
    if any(would_read(found, path) for found in glob.glob(name, recursive=True)):
        return True
    folders = glob.glob(folder or os.curdir, recursive=True)
    return fnmatch.fnmatch(path.name, pattern) and any(
        os.path.isdir(found) and os.path.samefile(found, path.parent) for found in folders)


def is_inside(path, folder):
    """Tell whether path, named as a picture, is or would be in folder or in a folder in it."""
    return path.suffix.lower() in SUFFIXES and any(
        os.path.exists(parent) and os.path.samefile(folder, parent)
        for parent in path.absolute().parents)
