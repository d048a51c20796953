"""From ink to digits: which pieces of ink are a digit, and in which order the digits are read.

LeNet-5 was made to read whole numbers, and its paper finds their digits by heuristic over-segmentation (LeCun et al. 1998,
sections V to VII): cut the ink into pieces, too many rather than too few, let the network judge every group of neighbouring
pieces that could be one digit, and take the cheapest way to account for all of them. Here

    candidates = find_candidates(look)       pieces, and groups of them, each framed as MNIST frames a digit
    digits = choose(candidates, p)           the cheapest set of groups, given what the network says of each
    lines = order_lines(digits)              the lines in which they stand, which may slant

and read_picture() offers the network several looks at a picture and keeps the one that explains most of the ink. It knows
no network: whoever runs it is asked to have views read. Pillow, NumPy and OpenCV only.
"""

import functools
import math
from collections import namedtuple

import numpy as np

from reading import picture
from reading.groups import choose, find_candidates
from reading.picture import NoDigit
from reading.pieces import CUT_OUT, doubt_of, join, sizes, weighted_median

COARSE = 256    # pixels on the long side of the first look: strokes shaded with a pencil close up
CLOSER = 512    # of a closer look at large digits,
FINE = 1600     # of the closest one at small digits
SMALL = 52      # pixels: digits that the first look sees smaller than this are looked at again, closer;
TALL = 72       # then they are about this tall,
AROUND = 5      # and looked for as far as this from those found so far, in heights of a digit

CLEAR = 0.9     # share of the ink explained, and the least probability of a digit: then no other look is needed
GOOD = 0.75     # of a Page's score: then digits that are large enough are not looked at closer, which costs ten times as much
ENOUGH = 0.75   # share of the ink explained: in most pictures something is left out, a speck, a rest of a line
POOR = 0.4      # of a Page's score: then what is lighter than the paper, not darker, or the other way round, may be the ink
MANY_DIGITS = 0.15  # what more digits cost a reading, as a share of the ink
Found = namedtuple("Found", "digit probability probabilities box line view mass")
Found.__doc__ = """One digit that was found.

digit: 0..9; probability: 0..1; probabilities: float (10,); box: (left, top, right, bottom) in 0..1 of the picture's sides;
line: int, counted from 0; view: uint8 (28, 28), what the network saw; mass: float, in pixels of full ink.
"""

Page = namedtuple("Page", "digits inverted score look doubt")
Page.__doc__ = """What was read in a picture: digits, list of Found in reading order; inverted as in Look; score: see rate(); look: the Look's
name; doubt: see pieces.doubt_of().
"""


# ---------------------------------------------------------------------------------------------------------------------
# Lines

def order_lines(box):
    """Return the lines in which boxes (N, 4) stand, from top to bottom, each a list of indices from left to right.

    A line may slant: its slope is the median of the directions from each box to its neighbour on the right.
    """
    if len(box) == 1:
        return [[0]]
    centre = (box[:, :2] + box[:, 2:]) / 2
    height = float(np.median(sizes(box).max(axis=1)))
    slope = find_slope(centre, height)
    lines = min((split_lines(centre, height, s) for s in {0.0, slope}), key=len)
    return [sorted(line, key=lambda i: centre[i, 0]) for line in lines]


def find_slope(centre, height):
    """Return the slope of the lines in which centres (N, 2) of boxes of that height stand, 0 if it is not to be seen."""
    dx, dy = np.moveaxis(centre[None] - centre[:, None], 2, 0)  # from i to j
    distance = np.where(dx > 0.15 * height, dx + 2.5 * np.abs(dy), np.inf)
    slopes, weights = [], []
    for i, j in enumerate(distance.argmin(axis=1)):
        mutual = np.isfinite(distance[i, j]) and distance[:, j].argmin() == i
        if mutual and abs(dy[i, j]) < 1.2 * dx[i, j] and dx[i, j] < 6 * height:
            slopes.append(dy[i, j] / dx[i, j])
            weights.append(dx[i, j])
    slope = weighted_median(np.array(slopes), np.array(weights)) if slopes else 0.0
    return slope if abs(slope) > 0.03 else 0.0


def split_lines(centre, height, slope):
    """Return the lines, lists of indices from top to bottom, of centres (N, 2) along a slope."""
    y = (centre[:, 1] - slope * centre[:, 0]) / math.hypot(1, slope)
    lines = []
    for i in np.argsort(y, kind="stable"):
        if lines and y[i] - np.mean(y[lines[-1]]) < 0.6 * height:
            lines[-1].append(i)
        else:
            lines.append([i])
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# A picture, in several looks

def read_picture(image, invert=None):
    """Read a PIL image: a generator that yields lists of views, uint8 (28, 28), and is sent the probabilities of each,
    float (N, 10); it returns the Page.

    So whoever runs it decides when and with what a network reads, and many pictures' views can be read at once. invert as in
    looks(). Raises NoDigit, with the reason, if nothing looks like a digit in any look.
    """
    def see(size, quarters=0):
        return np.ascontiguousarray(np.rot90(picture.to_array(image, size), quarters))

    full = min(max(image.size), FINE)
    best = yield from read_upright(see, full, invert)
    poor = best is not None and LEAST < best.score and (best.score < 0.6 or mean_probability(best) < 0.85)
    if poor and len(best.digits) >= 4:
        for quarters in (1, 3):  # stored sideways, and nothing in the file says so
            turned = yield from read_upright(functools.partial(see, quarters=quarters), full, invert)
            if turned is not None and turned.score > best.score + 0.1 and len(turned.digits) >= 3:
                digits = [found._replace(box=turn_back(found.box, quarters)) for found in turned.digits]
                best = turned._replace(digits=digits)
    if invert is None and (best is None or best.score < POOR):  # what seemed to be ink may be the table round a sheet
        other = yield from read_upright(see, full, best is None or not best.inverted)
        least = believed(best) if best else 0.15
        if other is not None and believed(other) > least + (0.4 if least > 0.3 else 0.25):  # less where nothing is lost
            best = other
    if best is None or believed(best) < LEAST:
        blank = next(picture.looks(see(COARSE), invert), None) is None
        raise NoDigit("no digit found: " + ("the picture is blank" if blank else "nothing in it looks like a digit"))
    return best


LEAST = 0.2  # of a Page's score: of noise and empty pages, sure digits explain hardly any ink; real digits stay above


def read_upright(see, full, invert):
    """Read a picture as read_picture() does; the generator returns a Page or None.

    see(size) is the picture with at most `size` pixels on its long side, float (H, W, C); full is the most that make sense.
    """
    shares = (0.5, 0.25, 1.0) if full > CUT_OUT else (1.0, 0.5, 0.25)
    coarse = see(COARSE)
    best = yield from read_looks(coarse, invert, shares)
    height = digit_height(best, coarse.shape[:2]) if best is not None else 0
    if full <= 1.2 * COARSE or (height >= SMALL and best.score >= GOOD):
        return best
    for _ in range(2):  # what is found closer may be small there, too
        small = best is not None and height < SMALL
        closer = see(int(min(full, FINE, TALL * COARSE / height)) if small else min(full, CLOSER))
        tall = height * max(closer.shape) / COARSE if small else 60
        page = yield from read_part(closer, around(best.digits, closer.shape, tall) if small else None, tall, invert)
        if page is None or (best is not None and page.score <= best.score + (-0.05 if small else 0.1)):
            break
        best, height = page, digit_height(page, coarse.shape[:2])
        if small or digit_height(page, closer.shape[:2]) > SMALL / 2:
            break
    return best


def read_part(array, place, tall, invert):
    """Read the part of an array at place, (left, top, right, bottom) in pixels, or all of it, in which digits are about so tall;
    the generator returns a Page or None."""
    left, top, right, bottom = place or (0, 0, array.shape[1], array.shape[0])
    part = array[top:bottom, left:right]
    share = min(0.5, 3 * tall / min(part.shape[:2]))
    shares = share, max(0.12, share / 2) if share > 0.15 else 2 * share
    page = yield from read_looks(part, invert, shares, int(2.5 * tall))
    if page is None or place is None:
        return page
    high, wide = array.shape[:2]
    scale, start = np.tile(((right - left) / wide, (bottom - top) / high), 2), np.tile((left / wide, top / high), 2)
    digits = [found._replace(box=tuple((np.array(found.box) * scale + start).tolist())) for found in page.digits]
    return page._replace(digits=digits)


def around(digits, shape, tall):
    """Return (left, top, right, bottom), in pixels of a picture of that shape, of the part of it where small digits, about so
    tall, and their neighbours are: what is far from them tells nothing of their ink, and takes time."""
    high, wide = shape[:2]
    left, top, right, bottom = join((np.array([found.box for found in digits]) * (wide, high, wide, high)).tolist())
    margin = AROUND * tall
    return max(int(left - margin), 0), max(int(top - margin), 0), min(int(right + margin), wide), min(int(bottom + margin), high)


def read_looks(array, invert, *looking):
    """Read an array, float (H, W, C), in looks until one is clear; it returns the best Page, or None."""
    best, seen, why = None, [], None
    for look in picture.looks(array, invert, *looking):
        if any(np.array_equal(look.mask, mask) and abs(look.level - level) < 0.1 * level for mask, level in seen):
            continue  # the same pieces again
        seen.append((look.mask, look.level))
        candidates = find_candidates(look)
        if candidates is None:
            continue
        views = candidates.views
        framed = [picture.stretch(look.ink)] if array.shape[:2] == (28, 28) else []
        probabilities = yield views + framed
        if framed:  # most likely framed already: the network judges both views
            probabilities = (probabilities[:-1] + probabilities[-1:]) / 2
        page, chosen = make_page(look, candidates, probabilities)
        if page is not None and (best is None or page.score > best.score + 0.05):
            best, why = page, (look, candidates.pieces, [piece for i in chosen for piece in candidates.groups[i]])
        if is_clear(best):
            break
    return best and best._replace(doubt=doubt_of(*why))


def make_page(look, candidates, probabilities):
    """Return (the Page of a look, its doubt left open, the indices of its groups), given the network's probabilities of its
    candidates; (None, []) if nothing is a digit."""
    chosen = choose(candidates, probabilities)
    if not chosen:
        return None, []
    box = candidates.boxes[chosen]
    lines = order_lines(box)
    mass = np.array([candidates.pieces.mass[list(candidates.groups[i])].sum() for i in chosen])
    lines = [line for line in lines if len(line) > 1 or len(mass) < 4 or mass[line[0]] > 0.35 * np.median(mass)]  # else a speck
    high, wide = look.mask.shape
    digits = []
    for n, line in enumerate(lines):
        for i in line:
            group, p = list(candidates.groups[chosen[i]]), probabilities[chosen[i]]
            weight = (candidates.pieces.mass * candidates.pieces.worth)[group].sum()
            place = tuple(float(edge / side) for edge, side in zip(box[i], (wide, high, wide, high)))
            digits.append(Found(int(p.argmax()), float(p.max()), p, place, n, candidates.views[chosen[i]], float(weight)))
    return Page(digits, look.inverted, rate(digits, candidates.ink), look.name, None), chosen


def rate(digits, ink):
    """Return how good a reading is: the share of the ink that sure digits explain, less a little for many digits.

    Of two readings that explain the same ink, the one with fewer digits is right, most likely.
    """
    explained = sum(found.mass * found.probability for found in digits) / max(ink, 1e-9)
    return explained - price_of_many(digits)


def price_of_many(digits):
    return MANY_DIGITS * math.log(min(len(digits), 3))


def is_clear(page):
    """Say whether a page is so good that no other look is needed: sure of every digit, and hardly any ink left out."""
    return (page is not None and page.score + price_of_many(page.digits) >= CLEAR
            and min(found.probability for found in page.digits) > CLEAR)


def believed(page):
    """Return what is left of a page's score if its doubt is taken from it."""
    return page.score - page.doubt


def completeness(page):
    """Return how far a page's digits are all that is written, 0..1: less if other ink is left out, a letter's, say, or a box's,
    or if it is doubtful that they are written at all."""
    return min(max((believed(page) + price_of_many(page.digits)) / ENOUGH, 0), 1)


def mean_probability(page):
    return sum(found.probability for found in page.digits) / len(page.digits)


def digit_height(page, shape):
    """Return the median size of a page's digits in pixels of a picture of that shape."""
    boxes = np.array([found.box for found in page.digits])
    return float(np.median((sizes(boxes) * shape[1::-1]).max(axis=1)))


def most_prominent(digits):
    """Return the one of digits, a list of Found, that has the most ink and is the surest."""
    return max(digits, key=lambda found: found.mass * found.probability)


def turn_back(box, quarters):
    """Return a box in 0..1 of a picture that was turned by quarters, counter-clockwise, in 0..1 of the picture itself."""
    for _ in range(quarters):
        left, top, right, bottom = box
        box = 1 - bottom, left, 1 - top, right
    return box
