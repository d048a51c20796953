"""Keep pictures of the user's own, each with its correct digit, and load them to train on.

    keep(file, ".png", 7, folder)        copy a picture into folder/7, as predict.py --label does
    pictures, problems = load(folder)    load all of them, normalized as in predict.py
    count_correct(pictures, model)       count how many of them a network reads correctly

Finding a digit whose value is known takes no network: every candidate is believed to be that digit,
each with the same probability, so the fewest candidates that explain most of the ink are chosen.
"""

import hashlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch

import utils
from reading.image import PictureError, open_file, open_picture
from reading.reader import most_prominent, read_picture
from reading.sources import SUFFIXES, list_folder
from training.judge import read_views
from utils import LeNetError

Picture = namedtuple("Picture", "path digit view")
Picture.__doc__ = """A picture to learn from: its path, its digit 0..9, its view, uint8 (28, 28)."""

SEVERAL = "seems to show several digits: one is learnt, or some as one"
IN_DOUBT = 0.9  # probability of a digit: less sure, the reader looks at a picture more often


# -------------------------------------------------------------------------------------------------
# One picture

def normalize(source, digit):
    """Return (the most prominent digit in a picture, uint8 (28, 28), the number of digits in it).

    source: anything that image.open_picture() takes. Raises PictureError.
    """
    image = open_picture(source)
    for p in (1, IN_DOUBT):  # in doubt, strokes that stand apart may be one digit; this is slow
        belief = p * np.eye(10)[digit]
        digits = read_picture(image, lambda views: np.tile(belief, (len(views), 1))).digits
        if len(digits) == 1:
            break
    return most_prominent(digits).view, len(digits)


def keep(file, suffix, digit, folder):
    """Copy a picture, a binary file, to folder/digit and close it; return (path, number of digits).

    The copy is named by its content, so that names don't clash, a picture is kept once, and a new
    label replaces the one before. Raises PictureError if it shows no digit, LeNetError if it can't
    be written.
    """
    with file:  # Windows removes no open file, and this may be the one with the label before
        _, n_digits = normalize(file, digit)
        file.seek(0)
        content = file.read()
    suffix = suffix.lower() if suffix.lower() in SUFFIXES else ".png"
    path = Path(folder) / str(digit) / (hashlib.sha256(content).hexdigest()[:12] + suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        utils.write_atomically(path, content)
    except OSError as error:
        raise LeNetError(f"{path} could not be written ({error.strerror or error})") from error
    remove_other_labels(path)
    return path, n_digits


def keep_all(sources, digit, folder, complain):
    """Keep pictures, pairs as find_sources() yields them, and print what was done.

    complain(name, error) is called for each that can't be kept, or shows several digits. Return the
    exit status.
    """
    status = 0
    for name, source in sources:
        try:
            if isinstance(source, PictureError):
                raise source
            file = source if hasattr(source, "read") else open_file(source)
            path, n_digits = keep(file, Path(name).suffix, digit, folder)
            where = utils.short_path(path)
            print(utils.one_line(f"{name}: kept as a {digit} in {where}, thank you; "
                                 "python train.py --mine learns it"), flush=True)
            if n_digits > 1:
                complain(name, SEVERAL)
        except PictureError as error:
            status = complain(name, error)
    return status


def remove_other_labels(path):
    """Remove the copies of the picture at path that are in the folders of other digits."""
    for other in sorted(set("0123456789") - {path.parent.name}):
        before = path.parent.parent / other / path.name
        try:
            if not before.samefile(path):  # by a link, of the file or its folder
                before.unlink()
        except (FileNotFoundError, NotADirectoryError):  # it had no such label
            pass
        except OSError as error:
            raise LeNetError(f"{before} could not be removed ({error.strerror or error}), so the "
                             "picture is kept under both labels") from error


# -------------------------------------------------------------------------------------------------
# All pictures

def load(folder):
    """Return (list of Picture, list of (path, problem)) of the files in folder/0 to folder/9."""
    pictures, problems = [], []
    for digit in range(10):
        place = Path(folder) / str(digit)
        try:
            paths = list_folder(place)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # a null byte in the name
            continue
        except OSError as error:
            problems.append((place, f"can't be listed: {error.strerror}"))
            continue
        for path in paths:
            try:
                view, n_digits = normalize(path, digit)
                pictures.append(Picture(path, digit, view))
                if n_digits > 1:
                    problems.append((path, SEVERAL))
            except PictureError as error:
                problems.append((path, str(error)))
    return pictures, problems


def fingerprint(pictures):
    """Return the number of pictures and a checksum of their views and labels, as one word."""
    content = b"".join(bytes([each.digit]) + each.view.tobytes() for each in pictures)
    return f"{len(pictures)}-{hashlib.sha256(content).hexdigest()[:12]}"


def as_tensors(pictures):
    """Return (images, labels) of pictures as MNIST's are: uint8 (N, 1, 32, 32) and int64 (N,)."""
    views = np.stack([each.view for each in pictures])
    return utils.resize(torch.from_numpy(views)), torch.tensor([each.digit for each in pictures])


def count_correct(pictures, model):
    """Return how many of pictures model reads correctly, from their files, as predict.py would."""
    model.eval()
    n_correct = 0
    for each in pictures:
        try:
            image = open_picture(each.path)
            digits = read_picture(image, lambda views: read_views(model, views)).digits
            n_correct += most_prominent(digits).digit == each.digit
        except PictureError:  # no digit found; or the file has gone meanwhile
            pass
    return n_correct
