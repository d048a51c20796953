"""From a picture to its digits, in the order in which they are read.

    reading = read_picture(image, judge)    a Reading; judge(views) asks the network
    reading = ask(find_digits(image), judge)    the same; find_digits() yields what is to be judged

LeNet-5 was made to read whole numbers, and its paper finds their digits by heuristic
over-segmentation (LeCun et al. 1998, sections V to VII): cut the ink into segments, let the network
judge every group of neighbours that could be one digit, and take the cheapest way to account for
all of them. Several hypotheses of what is ink are tried, and posterior.py weighs what they say.
Nothing here knows a network: a function that wants views to be judged is a generator, which yields
them, a list of uint8 (28, 28), and is sent their probabilities, float (N, 10).
"""

import functools
import itertools
import math

import numpy as np

from reading.binarize import SHARES, binarize
from reading.candidates import choose, find_candidates, leaves_digit
from reading.image import NoDigit, to_array
from reading.lines import has_signs, order_lines
from reading.posterior import (
    Digit, Look, Reading, combine, completeness, explained, rate, write)
from reading.segments import CUT_OUT, join, sizes

COARSE = 256  # pixels on the long side at first: strokes shaded with a pencil close up
CLOSER = 512  # when large digits are looked at closer,
FINE = 1600  # at most, when small ones are
SMALL = 52  # pixels: digits that are smaller at first are looked at again, closer;
TALL = 72  # then they are about this tall,
RARE = 0.05  # share of the looks: digits that fewer saw are hardly there
AROUND = 5  # heights of a digit: so far from those that were found others are looked for
MOST_TEXTS = 3  # of which a look is kept, to show it and to know where to look closer

CLEAR = 0.9  # share of the ink: readings that explain as much end the search
BEYOND_DOUBT = 0.01  # when those that say one text are as unlikely to be wrong all together
GOOD = 0.75  # of a score: then large digits are not looked at closer, nor turned
AS_GOOD = 0.05  # of a score: of two readings that differ by less neither is better
POOR = 0.5  # of a score: then what is lighter than the paper, or darker, may be the ink instead
LEAST_SCORE = 0.2  # times its worth: digits in noise and empty pages explain hardly any ink


def ask(reader, judge, judged=None):
    """Return what a generator returns that yields views and is sent judge(views).

    judge: a function of a list of views, uint8 (28, 28), that returns their probabilities, float
    (N, 10). judged: those of the views that it has yielded, if it is at work already.
    """
    try:
        while True:
            judged = judge(reader.send(judged))
    except StopIteration as end:
        return end.value


def read_picture(image, judge):
    """Return the Reading of a PIL image; judge is ask()'s. Raises NoDigit."""
    return ask(find_digits(image), judge)


def find_digits(image, invert=None):
    """Yield views of a PIL image; return its Reading. Raises NoDigit, with the reason.

    invert: True if ink is darker than its paper, False if lighter, None to find out.
    """
    best = yield from find_best(image, invert)
    if best is None or best.score * best.worth < LEAST_SCORE:
        blank = next(binarize(to_array(image, COARSE), invert), None) is None
        why = "the picture is blank, or noise" if blank else "nothing in it looks like a digit"
        raise NoDigit(f"no digit found: {why}")
    probability = math.prod(digit.probability for digit in best.digits) * completeness(best)
    return best._replace(probability=probability, pages=image.info.get("pages", 1), looks=())


def find_best(image, invert=None):
    """Yield views; return the best Reading of a PIL image, however poor, with its looks.

    None without ink. Its probability is left open. The arguments are find_digits()'s.
    """
    def see(size, quarters=0):
        return np.ascontiguousarray(np.rot90(to_array(image, size), quarters))

    full = min(max(image.size), FINE)
    best = yield from read_upright(see, full, invert)
    if best is not None and len(best.digits) > 1 and best.score < GOOD:
        best = yield from read_sideways(see, full, invert, best)
    if invert is None and (best is None or best.score < POOR):
        # what seemed to be ink may be the table round a sheet
        for darker in (True, False) if best is None else (not best.inverted,):
            other = yield from read_upright(see, full, darker)
            if other is not None and (best is None or other.score > best.score):
                best = other
    return best


def read_sideways(see, full, invert, best):
    """Yield views; return the best Reading of a picture that may be stored sideways.

    best: its Reading as it stands. A way to turn it is followed if the first look at it is clearly
    better than all as it stands.
    """
    least = best.score + AS_GOOD
    for quarters in (1, 3):
        turn = functools.partial(see, quarters=quarters)
        found = find_hypotheses(turn(COARSE), invert, shares_of(full))
        reading = yield from read_hypotheses(itertools.islice(found, 1))
        if reading is None or reading.score <= least:
            continue
        turned = yield from read_upright(turn, full, invert)
        if turned is not None and turned.score > least and len(turned.digits) > 2:
            digits = [digit._replace(box=turn_back(digit.box, quarters))
                      for digit in turned.digits]
            best, least = turned._replace(digits=digits), turned.score
    return best


def shares_of(full):
    """Return binarize()'s shares for a picture with so many pixels on its long side."""
    return SHARES if full > CUT_OUT else tuple(sorted(SHARES, reverse=True))


def read_upright(see, full, invert):
    """Yield views; return the Reading of a picture as it stands, or None.

    see(size) is the picture with at most `size` pixels on its long side, float (H, W, C); full is
    the most that make sense.
    """
    coarse = see(COARSE)
    best = yield from read_hypotheses(find_hypotheses(coarse, invert, shares_of(full)))
    height = digit_height(best, coarse.shape[:2]) if best is not None else 0
    if full <= 1.2 * COARSE or (height >= SMALL and best.score >= GOOD):
        return best
    for size in (CLOSER, FINE):  # what is found closer may be small there, too
        small = best is not None and height < SMALL
        if small:
            size = TALL * COARSE / height
        closer = see(int(min(full, FINE, size)))
        tall = height * max(closer.shape) / COARSE if small else 60
        found = yield from (read_around(best, closer, tall, invert) if small
                            else read_part(closer, None, tall, invert))
        least = -1 if best is None else best.score + (-AS_GOOD if small else AS_GOOD)
        if found is None and best is None and full > CLOSER:
            continue
        if found is None or found.score <= least:
            break
        best, height = found, digit_height(found, coarse.shape[:2])
        if small or digit_height(found, closer.shape[:2]) > SMALL / 2:
            break
    return best


def read_around(best, array, tall, invert):
    """Yield views; return the Reading of the part of an array with small digits, or None.

    The part grows as long as what is read in it stands at its edge, and makes sense. best: the
    Reading with the looks that saw them; array, float (H, W, C), has digits about so tall.
    """
    seen = [digit for look in best.looks if look.share > RARE for digit in look.reading.digits]
    found, place = None, around(seen or best.digits, array.shape, tall)
    while True:
        wider = yield from read_part(array, place, tall, invert)
        if wider is None or (found is not None and wider.score < found.score - AS_GOOD):
            return found
        found, last = wider, place
        place = join((place, around(found.digits, array.shape, tall)))
        if max(abs(new - old) for new, old in zip(place, last)) < tall:
            return found


def read_part(array, place, tall, invert):
    """Yield views; return the Reading of part of an array, or None.

    place: (left, top, right, bottom) in pixels, or None for all of it; digits are about so tall.
    """
    left, top, right, bottom = place or (0, 0, array.shape[1], array.shape[0])
    part = array[top:bottom, left:right]
    share = min(0.5, 3 * tall / min(part.shape[:2]))
    found = find_hypotheses(part, invert, (share, share / 2), int(2.5 * tall))
    reading = yield from read_hypotheses(found)
    if reading is None or place is None:
        return reading
    size, whole = np.tile(part.shape[1::-1], 2), np.tile(array.shape[1::-1], 2)
    boxes = [(np.array(digit.box) * size + (left, top, left, top)) / whole
             for digit in reading.digits]
    digits = [digit._replace(box=tuple(box.tolist()))
              for digit, box in zip(reading.digits, boxes)]
    return reading._replace(digits=digits)


def around(digits, shape, tall):
    """Return the box in pixels of the part where small digits, about so tall, and others may be.

    What is far from them tells nothing of their ink, and takes time. shape: the picture's.
    """
    high, wide = shape[:2]
    boxes = np.array([digit.box for digit in digits]) * (wide, high, wide, high)
    left, top, right, bottom = join(boxes.tolist())
    margin = AROUND * tall
    return (max(int(left - margin), 0), max(int(top - margin), 0),
            min(int(right + margin), wide), min(int(bottom + margin), high))


def find_hypotheses(array, invert, *options):
    """Yield the Hypotheses of an array, float (H, W, C), that differ in what is ink."""
    seen = []
    for hypothesis in binarize(array, invert, *options):
        if not any(np.array_equal(hypothesis.mask, mask) for mask in seen):
            seen.append(hypothesis.mask)
            yield hypothesis


def read_hypotheses(hypotheses):
    """Yield views; return what hypotheses say together, or None.

    Only those are asked up to where a text is beyond doubt.
    """
    looks, doubts = [], {}
    for hypothesis in hypotheses:
        candidates = yield from find_candidates(hypothesis)
        chosen = choose(candidates) if candidates else []
        if not chosen:
            continue
        ours = [each for i in chosen for each in candidates.groups[i]]
        reading = make_reading(hypothesis, candidates, chosen, ours)
        looks.append(Look(reading, 0.0, hypothesis, candidates.segments, ours))
        if explained(reading) >= CLEAR:
            least = min(digit.probability for digit in reading.digits)
            doubts[reading.text] = doubts.get(reading.text, 1.0) * (1 - least)
            if doubts[reading.text] <= BEYOND_DOUBT:
                break
    if not looks:
        return None
    votes, reading = combine([look.reading for look in looks])
    best = tuple(looks[i]._replace(share=share) for i, share in votes[:MOST_TEXTS])
    return reading._replace(looks=best)


def make_reading(hypothesis, candidates, chosen, ours):
    """Return the Reading of a hypothesis with the chosen groups; ours are their segments."""
    segments, box = candidates.segments, candidates.boxes[chosen]
    lines = order_lines(box)
    high, wide = hypothesis.mask.shape
    places = list(map(tuple, (box / (wide, high, wide, high)).tolist()))
    digits, worthy = [], segments.mass * segments.worth
    for n, line in enumerate(lines):
        for i in line:
            k = chosen[i]
            p, mass = candidates.probabilities[k], float(worthy[list(candidates.groups[k])].sum())
            digits.append(Digit(int(p.argmax()), float(p.max()), p, places[i], n,
                                candidates.views[k], mass))
    worth = 1.0  # of what was cut out round a digit all lies near the edge
    if max(high, wide) > CUT_OUT:
        worth = float(np.average(segments.worth[ours], weights=segments.mass[ours]))
    are_parts = len(np.unique(segments.origin[ours])) == 1 < len(chosen)
    suspect = (are_parts or leaves_digit(candidates, ours)
               or has_signs(box, lines, hypothesis.mask))
    return Reading(digits, write(digits), 0.0, hypothesis.inverted,
                   suspect=suspect, score=rate(digits, candidates.ink), worth=worth)


def digit_height(reading, shape):
    """Return the median size of a reading's digits in pixels of a picture of that shape."""
    boxes = np.array([digit.box for digit in reading.digits])
    return float(np.median((sizes(boxes) * shape[1::-1]).max(axis=1)))


def most_prominent(digits):
    """Return the one of digits, a list of Digit, that has the most ink and is the surest."""
    return max(digits, key=lambda digit: digit.mass * digit.probability)


def turn_back(box, quarters):
    """Return a box in 0..1 of a picture turned by quarters, counter-clockwise, in the picture."""
    for _ in range(quarters):
        left, top, right, bottom = box
        box = 1 - bottom, left, 1 - top, right
    return box
