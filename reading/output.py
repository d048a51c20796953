"""Say what was read: to people, as JSON, as a CSV table; and read a CSV table of images."""

import json
import re
import warnings

import numpy as np

from reading.image import PictureError
from reading.reader import most_prominent

SURE = 0.80  # below this probability a reading gets a question mark
SCHEMA = """\
--json prints a line for each picture, an object with the same fields for one
digit and for many:
  image        the picture's name
  text         all digits in reading order, lines separated by newlines
  probability  that text is all that is written in the picture, 0..1
  sure         true if that is 0.8 or more; else people see a question mark
  inverted     true if the ink is darker than its paper
  pages        of the file, of which the first was read
  digits       a list, one object for each digit in text: digit 0..9, its
               probability, probabilities (ten), line (counted from 0) and box
               (left, top, right, bottom in 0..1 of the picture's sides)
or image and error, one line that says why it could not be read.
"""
COLUMNS = "image", "text", "probability", "sure", "error"


def say(reading):
    """Return a reading as people are told it: 90210 (97.1 %)."""
    mark = "" if reading.probability >= SURE else "?"
    return f"{' / '.join(reading.text.split())}{mark} ({percent(reading.probability)})"


def percent(p):
    """Return a probability in percent; one that would be rounded to certainty is not."""
    return "> 99.9 %" if p >= 0.9995 else f"{100 * p:.1f} %"


def told(reading):
    """Return (reading, what is said of it) of a Reading, (None, why) of a PictureError."""
    return (None, str(reading)) if isinstance(reading, PictureError) else (reading, say(reading))


def single(reading):
    """Return a Reading of the most prominent digit of reading alone."""
    main = most_prominent(reading.digits)._replace(line=0)
    return reading._replace(text=str(main.digit), probability=main.probability, digits=[main])


def unread(pages):
    """Return what is said of a file with that many pages, more than 1."""
    return f"only the first of its {pages} pages was read"


def as_json(name, reading):
    """Return a Reading or PictureError of the picture called name as one line of JSON."""
    if isinstance(reading, PictureError):
        return json.dumps({"image": name, "error": str(reading)})
    digits = [{"digit": digit.digit, "probability": round(digit.probability, 6),
               "probabilities": [round(float(p), 6) for p in digit.probabilities],
               "line": digit.line, "box": [round(edge, 4) for edge in digit.box]}
              for digit in reading.digits]
    return json.dumps({
        "image": name, "text": reading.text, "probability": round(reading.probability, 6),
        "sure": reading.probability >= SURE, "inverted": reading.inverted, "pages": reading.pages,
        "digits": digits})


def as_row(name, reading):
    """Return a Reading or PictureError of the picture called name as a row of COLUMNS."""
    if isinstance(reading, PictureError):
        return name, "", "", "", str(reading)
    sure = reading.probability >= SURE
    return name, reading.text, f"{reading.probability:.6f}", str(sure).lower(), ""


def read_table(path, rows=2000):
    """Yield the images in a CSV file, uint8 (N, 28, 28), at most `rows` at once.

    Each line holds 784 numbers, 0 paper .. 255 ink, as in Kaggle's test.csv; the first line may
    hold names. Raises PictureError, naming the line, if the file holds anything else.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:  # as Excel writes it, too
            first, n = file.readline(), 1
            if re.search("[^\\W\\deE]", first.partition(",")[0]):  # a letter, but of 1e+02, or _
                first, n = file.readline(), 2
            if not first:
                raise PictureError("there are no images in it")
            lines = [first]
            while True:
                while len(lines) < rows and (line := file.readline()):
                    lines.append(line)
                if not lines:
                    return
                if not "".join(lines).isspace():
                    yield parse_lines(lines, n)
                n, lines = n + len(lines), []
    except UnicodeDecodeError:
        raise PictureError("not a table of numbers") from None
    except OSError as error:
        raise PictureError(f"can't be read: {error.strerror}") from None


def parse_lines(lines, n):
    """Return lines of a CSV file, the first of which is its n-th, as uint8 (N, 28, 28).

    Raises PictureError, naming the first line that can't be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # an old numpy takes 1.5 as 1
            table = np.loadtxt(lines, dtype=np.int64, delimiter=",", ndmin=2, comments=None)
        if table.shape[1] == 784 and table.min() >= 0 and table.max() <= 255:
            return table.astype(np.uint8).reshape(-1, 28, 28)
        why = f"{table.shape[1]} columns" if table.shape[1] != 784 else "a number outside 0 .. 255"
        why += " (leave out the labels)" * (table.shape[1] == 785)
    except (ValueError, DeprecationWarning):
        why = "what is no whole number, or another number of columns"
    for i, line in enumerate(lines):
        if len(lines) > 1 and not line.isspace():
            parse_lines([line], n + i)
    raise PictureError(f"line {n}: 784 numbers, 0 .. 255, are expected; found {why}")
