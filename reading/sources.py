"""What the names on predict.py's command line stand for: pictures, folders and patterns of them, standard input."""

import contextlib
import fnmatch
import glob
import io
import os
import sys
from pathlib import Path

from reading.picture import PictureError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm",
            ".pbm", ".pnm", ".tga", ".ico", ".jp2", ".j2k", ".avif", ".pcx", ".heic", ".heif"}


def would_read(name, path):
    """Say whether the command line's name stands for the file path, among others; also if path is yet to be written, into a
    folder that is there. What is written to a link is written to what it links to."""
    if name == "-":
        with contextlib.suppress(OSError):  # standard input is closed, or path not there yet
            return os.path.samestat(os.fstat(0), os.stat(path))
        return False
    if os.path.isdir(name):
        targets = path, Path(os.path.realpath(path))
        return any(target.suffix.lower() in SUFFIXES and os.path.samefile(name, target.parent) for target in targets)
    if os.path.lexists(name):
        return os.path.exists(name) and path.exists() and os.path.samefile(name, path)
    folder, pattern = os.path.split(name)
    return any(would_read(found, path) for found in glob.glob(name)) or fnmatch.fnmatch(path.name, pattern) and any(
        os.path.isdir(found) and os.path.samefile(found, path.parent) for found in glob.glob(folder or os.curdir))


def find_sources(names):
    """Yield (name, path or binary file or PictureError) for each picture that the command line's names stand for, in order."""
    for name in names:
        if name == "-":
            yield name, read_stdin()
        elif os.path.isdir(name):
            try:
                files = list_folder(name)
            except OSError as error:
                yield name, PictureError(f"can't be listed: {error.strerror}")
                continue
            if not files:
                yield name, PictureError("a folder without pictures")
            yield from ((str(file), file) for file in files)
        elif not os.path.lexists(name) and (found := sorted(glob.glob(name))):  # *.png, which Windows' shell leaves to us
            yield from find_sources(found)
        else:
            yield name, Path(name)


def read_stdin():
    """Return what is on standard input, as a binary file, or the PictureError that says why there is nothing."""
    try:
        return io.BytesIO(sys.stdin.buffer.read())
    except AttributeError:
        return PictureError("standard input is closed")
    except OSError as error:
        return PictureError(f"standard input can't be read: {error.strerror}")


def list_folder(folder):
    """Return the paths of the pictures in folder, sorted, by their names' suffixes; raises OSError if it can't be listed."""
    return sorted(file for file in Path(folder).iterdir() if file.suffix.lower() in SUFFIXES
                  and not file.name.startswith("._") and file.is_file())  # ._x.png is what macOS knows of x.png
