"""What a reading is, how good it is, and what several readings of one picture say together.

    best, reading = combine(readings)    of the hypotheses of one picture

A reading is rated by the share of the ink that its digits explain. No hypothesis of what is ink is
sure, so a digit's probability is its mean over all hypotheses, each as likely as its reading is
good (the forward scorer of LeCun et al. 1998, section VI, which sums over all paths): what most
looks agree on is likely, and a good rival makes it less so.
"""

import math
from typing import NamedTuple

import numpy as np

TEMPERATURE = 0.05  # of a score: as much less makes a hypothesis less likely by a factor of e
SAME = 0.3  # intersection over union of two boxes that hold one digit
ENOUGH = 0.75  # share of the ink explained: a speck is left out of most pictures
SUSPECT = 0.7  # how far digits are believed that are parts of one segment, or among signs
MANY_DIGITS = 0.2  # what more digits cost a reading, as a share of the ink


class Digit(NamedTuple):
    """One digit that was found."""

    digit: int  # 0..9
    probability: float  # 0..1
    probabilities: np.ndarray  # float (10,): of one look, or after combine() the mean of all
    box: tuple  # left, top, right, bottom in 0..1 of the picture's sides
    line: int  # counted from 0
    view: np.ndarray  # uint8 (28, 28), what the network saw
    mass: float  # of its ink, in pixels of full ink


class Reading(NamedTuple):
    """What was read in a picture."""

    digits: list  # of Digit, in reading order
    text: str  # all digits, lines separated by newlines
    probability: float  # that the text is all that is written, 0..1
    inverted: bool  # is the ink darker than its paper?
    hypothesis: str  # how the picture was binarized, in words
    pages: int = 1  # of the file, of which the first was read
    score: float = 1.0  # see rate()
    doubt: float = 0.0  # see segments.doubt_of()
    rivals: tuple = ()  # (text, share) of what other looks say, the likeliest first, share 0..1
    suspect: bool = False  # are the digits parts of one segment, as of a letter, or among signs?


def write(digits):
    """Return the text of digits in reading order, lines separated by newlines."""
    lines = {}
    for digit in digits:
        lines.setdefault(digit.line, []).append(str(digit.digit))
    return "\n".join("".join(line) for line in lines.values())


def rate(digits, ink):
    """Return how good a reading is: the share of the ink that sure digits explain.

    Less a little for many digits: of two readings that explain the same ink, the one with fewer
    digits is right, most likely.
    """
    mass = sum(digit.mass * digit.probability for digit in digits)
    return mass / max(ink, 1e-9) - price_of_many(digits)


def price_of_many(digits):
    """Return what it costs a score that there are as many digits, 0 for one."""
    return MANY_DIGITS * math.log(min(len(digits), 3))


def explained(reading):
    """Return the share of the ink that a reading explains, 0..1."""
    return reading.score + price_of_many(reading.digits)


def believed(reading):
    """Return what is left of a reading's score if its doubt is taken from it."""
    return reading.score - reading.doubt


def completeness(reading):
    """Return how far a reading's digits are all that is written, 0..1.

    It is less if other ink is left out, if it is doubtful that they are written, or if suspect.
    """
    share = min(max((explained(reading) - reading.doubt) / ENOUGH, 0), 1)
    return SUSPECT * share if reading.suspect else share


def combine(readings):
    """Return (i, Reading): what all say of the i-th one, the best with the likeliest text.

    Each of its digits becomes what is likeliest at its place; a reading without a digit there says
    that there is none. readings: a list of Reading, at least one.
    """
    scores = np.array([reading.score for reading in readings])
    weights = np.exp((scores - scores.max()) / TEMPERATURE)
    weights /= weights.sum()
    votes = {}
    for reading, weight in zip(readings, weights):
        votes[reading.text] = votes.get(reading.text, 0.0) + weight
    text = max(votes, key=votes.get)
    best = max((i for i, each in enumerate(readings) if each.text == text), key=scores.__getitem__)
    ours = readings[best].digits
    mean = sum(weight * at_places(ours, reading.digits)
               for reading, weight in zip(readings, weights))
    digits = [digit._replace(digit=int(p.argmax()), probability=float(p.max()), probabilities=p)
              for digit, p in zip(ours, mean)]
    said = write(digits)
    rivals = sorted(((each, float(share)) for each, share in votes.items() if each != said),
                    key=lambda rival: -rival[1])
    return best, readings[best]._replace(digits=digits, text=said, rivals=tuple(rivals[:3]))


def at_places(ours, theirs):
    """Return the probabilities, float (N, 10), of their digits at our N digits' places, or 0."""
    a = np.array([digit.box for digit in ours])[:, None]
    b = np.array([digit.box for digit in theirs])[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.maximum(sides, 0).prod(axis=2)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=2) for box in (a, b)]
    union = areas[0] + areas[1] - both
    overlap = both / np.maximum(union, 1e-12)
    probabilities = np.array([digit.probabilities for digit in theirs])
    return probabilities[overlap.argmax(axis=1)] * (overlap.max(axis=1) > SAME)[:, None]
