"""What a reading is, how good it is, and what several readings of one picture say together.

    votes, reading = combine(readings)    of the hypotheses of one picture

A reading is rated by the share of the ink that its digits explain. No hypothesis of what is ink is
sure, so a digit's probability is its mean over all hypotheses, each as likely as its reading is
good (the forward scorer of LeCun et al. 1998, section VI, which sums over all paths): what most
looks agree on is likely, and a good rival makes it less so.
"""

import math
from typing import NamedTuple

import numpy as np

TEMPERATURE = 0.08  # of a score: as much less makes a hypothesis less likely by a factor of e
SAME = 0.3  # intersection over union of two boxes that hold one digit
ENOUGH = 0.75  # share of the ink explained: a speck is left out of most pictures
SUSPECT = 0.7  # how far digits are believed that are suspect: see Reading
MANY_DIGITS = 0.2  # what more digits cost a reading, as a share of the ink


class Digit(NamedTuple):
    """One digit that was found."""

    digit: int  # 0..9
    probability: float  # 0..1
    probabilities: np.ndarray  # float (10,): of one look, or after combine() the mean of all
    box: tuple  # left, top, right, bottom in 0..1 of the picture's sides
    line: int  # counted from 0
    view: np.ndarray  # uint8 (28, 28), what the network saw
    mass: float  # of its ink, in pixels of full ink, each as far as it is worth


class Reading(NamedTuple):
    """What was read in a picture."""

    digits: list  # of Digit, in reading order
    text: str  # all digits, lines separated by newlines
    probability: float  # that the text is all that is written, 0..1
    inverted: bool  # is the ink darker than its paper?
    pages: int = 1  # of the file, of which the first was read
    score: float = 1.0  # see rate()
    worth: float = 1.0  # how far its digits are ink, 0..1: the mean of its segments' worth
    alone: float = 1.0  # the share of all looks, by weight, that see no more digits
    suspect: bool = False  # are they parts of one segment, among signs, or is one left out?
    looks: tuple = ()  # of Look, if it is asked for: of each of the likeliest texts the best one


class Look(NamedTuple):
    """What one look at a picture took for ink, and what it read in it."""

    reading: Reading  # by itself
    share: float  # of the summed weight of all looks, 0..1: of those with this text
    hypothesis: tuple  # a binarize.Hypothesis
    segments: tuple  # a segments.Segments
    chosen: list  # of the segments, those that are parts of its digits


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
    return mass / ink - price_of_many(digits)


def price_of_many(digits):
    """Return what it costs a score that there are as many digits, 0 for one."""
    return MANY_DIGITS * math.log(min(len(digits), 3))


def explained(reading):
    """Return the share of the ink that a reading explains, 0..1."""
    return reading.score + price_of_many(reading.digits)


def find_terms(reading):
    """Return {name: what it takes from 1}: what is left of 1 in the end is the score."""
    mass = sum(digit.mass for digit in reading.digits)
    sure = sum(digit.mass * digit.probability for digit in reading.digits)
    unsure = explained(reading) * (mass / sure - 1)
    return {"ink not explained": 1 - explained(reading) - unsure, "unsure digits": unsure,
            "many digits": price_of_many(reading.digits)}


def completeness(reading):
    """Return how far a reading's digits are all that is written, 0..1.

    It is less if other ink is left out, if what was read is hardly ink, if looks see more digits,
    or if it is suspect.
    """
    share = min(explained(reading) * reading.worth / ENOUGH, 1) * reading.alone
    return SUSPECT * share if reading.suspect else share


def combine(readings):
    """Return (votes, Reading): the texts, and what all say of the best with the likeliest one.

    votes: a list of (i, share), the likeliest text first: the best reading that says it, and the
    share of the weight of all that do. Each digit becomes what is likeliest at its place; a reading
    without a digit there says that there is none. readings: a list of Reading, at least one.
    """
    scores = np.array([reading.score for reading in readings])
    weights = np.exp((scores - scores.max()) / TEMPERATURE)
    weights /= weights.sum()
    by_text = {}
    for i, reading in enumerate(readings):
        by_text.setdefault(reading.text, []).append(i)
    votes = sorted(((max(ours, key=lambda i: scores[i]), weights[ours].sum())
                    for ours in by_text.values()), key=lambda vote: -vote[1])
    reading = readings[votes[0][0]]
    mean = sum(weight * at_places(reading.digits, other.digits)
               for other, weight in zip(readings, weights))
    digits = [digit._replace(digit=int(p.argmax()), probability=float(p.max()), probabilities=p)
              for digit, p in zip(reading.digits, mean)]
    more = [len(other.digits) > len(digits) for other in readings]
    alone = 1 - float(weights[more].sum())
    return votes, reading._replace(digits=digits, text=write(digits), alone=alone)


def at_places(ours, theirs):
    """Return the probabilities, float (N, 10), of their digits at our N digits' places, or 0."""
    a = np.array([digit.box for digit in ours])[:, None]
    b = np.array([digit.box for digit in theirs])[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.maximum(sides, 0).prod(axis=2)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=2) for box in (a, b)]
    union = areas[0] + areas[1] - both
    overlap = both / union
    probabilities = np.array([digit.probabilities for digit in theirs])
    return probabilities[overlap.argmax(axis=1)] * (overlap.max(axis=1) > SAME)[:, None]
