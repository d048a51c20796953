"""Pictures of the user's own, each with its right digit, to train on: data/mine/7/ holds sevens, of any format and size.

    keep(file, ".png", 7, folder)          puts one there, as draw.py's digit keys and predict.py --label do
    pictures, problems = load(folder)      all of them, each framed as predict.py frames it
    count_read(pictures, model, device)    how many of them a network reads rightly

To frame a picture whose digit is known takes no network: every group of pieces of ink is believed to be that digit, each as
firmly, and so the choice falls on the fewest that explain most of the ink.
"""

import hashlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch

from training import mnist
from reading import number
from reading import picture
import utils
from reading.picture import PictureError
from reading.sources import SUFFIXES, list_folder
from utils import LeNetError

Picture = namedtuple("Picture", "path digit view")
Picture.__doc__ = """path: of a picture's file; digit: 0..9, what it shows; view: uint8 (28, 28), the digit as it was framed."""


SEVERAL = "seems to show several digits: only the most prominent one is learnt"


# ---------------------------------------------------------------------------------------------------------------------
# A picture

def find(image, judge):
    """Return the digits, list of number.Found, in a PIL image; judge(views) returns the probabilities, float (N, 10), of views,
    a list of uint8 (28, 28). Raises NoDigit if there is none."""
    reading = number.read_picture(image)
    try:
        views = next(reading)
        while True:
            views = reading.send(judge(views))
    except StopIteration as stop:
        return stop.value.digits


def frame(source, digit):
    """Return (the digit in a picture, of several the most prominent one, as uint8 (28, 28), how many there are). The picture is
    anything that picture.open_picture() takes; raises PictureError."""
    image = picture.open_picture(source)
    for p in (1, number.CLEAR):  # not quite sure: then two strokes that stand apart may be one digit, but it takes long
        digits = find(image, lambda views: np.tile(p * np.eye(10)[digit], (len(views), 1)))
        if len(digits) == 1:
            break
    return number.most_prominent(digits).view, len(digits)


def keep(file, suffix, digit, folder):
    """Copy a picture, a binary file, which is closed, to the folder of its digit in folder; return (the path, how many digits
    it shows).

    It is named by its content, so names don't clash, the same picture is kept once, and a label given anew replaces the one
    before. Raises PictureError if there is nothing in it to learn, LeNetError if it can't be written.
    """
    with file:  # Windows removes no file that is open, and this may be the one with the label before
        _, n_digits = frame(file, digit)
        file.seek(0)
        content = file.read()
    name = hashlib.sha256(content).hexdigest()[:12] + (suffix.lower() if suffix.lower() in SUFFIXES else ".png")
    path = Path(folder) / str(digit) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        utils.write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise LeNetError(f"{path} could not be written ({error.strerror or error})") from error
    for other in sorted(set("0123456789") - {str(digit)}):
        before = Path(folder) / other / name
        try:
            if not before.samefile(path):  # by a link, of the file or its folder
                before.unlink()
        except (FileNotFoundError, NotADirectoryError):  # it had no such label
            pass
        except OSError as error:
            raise LeNetError(f"{before} could not be removed ({error.strerror or error}), so the picture is kept under both "
                             "labels") from error
    return path, n_digits


# ---------------------------------------------------------------------------------------------------------------------
# All of them

def load(folder):
    """Return (list of Picture, list of (path, what is wrong with it)) of what is in folder/0 to folder/9, in the order of names."""
    pictures, problems = [], []
    for digit in range(10):
        place = Path(folder) / str(digit)
        try:
            paths = list_folder(place)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # there are none, or the name is no name
            continue
        except OSError as error:
            problems.append((place, f"can't be listed: {error.strerror}"))
            continue
        for path in paths:
            try:
                view, n_digits = frame(path, digit)
                pictures.append(Picture(path, digit, view))
                if n_digits > 1:
                    problems.append((path, SEVERAL))
            except PictureError as error:
                problems.append((path, str(error)))
    return pictures, problems


def fingerprint(pictures):
    """Return how many pictures there are and a sum of all that is learnt from them, as one word for a run's settings."""
    content = b"".join(bytes([each.digit]) + each.view.tobytes() for each in pictures)
    return f"{len(pictures)}-{hashlib.sha256(content).hexdigest()[:12]}"


def as_tensors(pictures):
    """Return (images, labels) of pictures as mnist.py has them: uint8 (N, 1, 32, 32), int64 (N,)."""
    views = np.stack([each.view for each in pictures])
    return mnist.resize(torch.from_numpy(views)), torch.tensor([each.digit for each in pictures])


def count_read(pictures, model, device):
    """Return how many of pictures model reads rightly, found and framed as it judges itself."""
    def judge(views):
        images = mnist.resize(torch.from_numpy(np.stack(views)))
        logits, _ = utils.predict_all(model, mnist.Batches(images, torch.zeros(len(images)), 500), device)
        return logits.softmax(1).numpy()

    right = 0
    for each in pictures:
        try:
            right += number.most_prominent(find(picture.open_picture(each.path), judge)).digit == each.digit
        except PictureError:  # no digit found; or the file has gone meanwhile
            pass
    return right
