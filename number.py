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
import itertools
import math
from collections import namedtuple

import cv2
import numpy as np

import picture
from picture import NoDigit
from pieces import CUT_OUT, edge_weight, find_pieces, sizes, weighted_median

COARSE = 256    # pixels on the long side of the first look: strokes shaded with a pencil close up
CLOSER = 512    # of a closer look at large digits,
FINE = 1600     # of the closest one at small digits
SMALL = 52      # pixels: digits that the first look sees smaller than this are looked at again, closer;
TALL = 72       # then they are about this tall
AT_MOST = 4     # pieces in one digit
MANY_WAYS = 4000  # of what may be left of a cluster of pieces: more are a thicket
SMALLEST = 6    # pixels: no digit that is smaller can be read

AROUND = 5      # digits' heights: as far as that from the digits found so far others are looked for, closer

SKIP = 2.0      # what it costs to leave out a piece as heavy as the others, in nats
EACH = 0.3      # what a digit costs beyond the network's doubt, so that fewer digits are better
CLEAR = 0.9     # share of the ink explained, and the least probability of a digit: then no other look is needed
GOOD = 0.75     # of a Page's score: then digits that are large enough are not looked at closer, which costs ten times as much
POOR = 0.4      # of a Page's score: then what is lighter than the paper, not darker, or the other way round, may be the ink
MANY_DIGITS = 0.15  # what more digits cost a reading, as a share of the ink
WITHOUT_LINES = 0.06  # what a reading gains without ruled lines: where lines were found, most are lines
CUT = 0.05      # what it costs to cut a piece
WIDEST = 1.25, 0.8, 1.35, 1.1, 1.1, 1.45, 1.0, 1.1, 1.0, 0.9  # of its height: 95 % of MNIST's digits are narrower
TOO_WIDE = 4
FAINTER = 0.6
CAP = 0.3
TWO = 1.5       # and to join what is two digits, most likely

Candidates = namedtuple("Candidates", "groups boxes views pieces ink")
Candidates.__doc__ = """Groups of pieces of ink that could be a digit.

groups: list of tuples of pieces; boxes: int (N, 4), left, top, right, bottom in pixels, of the groups; views: list of uint8
(28, 28), each group as MNIST frames it; pieces: a Pieces; ink: float, the mass of all the ink that is to be explained.
"""

Found = namedtuple("Found", "digit probability probabilities box line view mass")
Found.__doc__ = """One digit that was found.

digit: 0..9; probability: 0..1; probabilities: float (10,); box: (left, top, right, bottom) in 0..1 of the picture's sides;
line: int, counted from 0; view: uint8 (28, 28), what the network saw; mass: float, in pixels of full ink.
"""

Page = namedtuple("Page", "digits inverted score look")
Page.__doc__ = """What was read in a picture: digits, list of Found in reading order; inverted as in Look; score: see rate(); look: the Look's
name."""


# ---------------------------------------------------------------------------------------------------------------------
# Groups of pieces, and the choice among them

def find_candidates(look):
    """Return the Candidates of a look, or None if there are none."""
    pieces = find_pieces(look)
    if pieces is None:
        return None
    least, parts = max(0.3 * pieces.height, SMALLEST), np.bincount(pieces.origin)
    found = {group: box for group, box in sorted(find_groups(pieces).items())
             if max(box[2] - box[0], box[3] - box[1]) >= least and in_part(group, pieces.origin, parts) <= 1}
    if not found:
        return None
    groups, boxes = list(found), np.array(list(found.values()))
    views = [frame_group(look, pieces, group, box) for group, box in zip(groups, boxes)]
    ink = (pieces.mass * edge_weight(pieces.at_edge)).sum() + 0.5 * pieces.bars + short_lines(look, pieces.height)
    ink += fainter_ink(look, pieces)
    return Candidates(groups, boxes, views, pieces, float(ink))


def fainter_ink(look, pieces):
    """Return how many pixels there are, in a look, of what is too faint to be ink there and yet may be: what has a digit's
    size, since a digit may be written with less pressure than the others; and what a thin piece is but a torn part of, since
    that is a box's or a table's line and no one. So a look that leaves it out is not clear."""
    faint = look.ink > picture.THRESHOLDS[1] * look.level
    if look.lines is not None:
        faint &= ~look.lines
    _, label, stats, _ = cv2.connectedComponentsWithStats(faint.view(np.uint8), connectivity=8)
    size, mass = stats[:, 2:4].max(axis=1), stats[:, 4]
    counts = (size > 0.6 * pieces.height) & (size < 1.6 * pieces.height)
    counts[label[look.mask]] = False
    sides = sizes(pieces.box)
    for i in np.flatnonzero((sides.max(axis=1) > 5 * sides.min(axis=1)) & (sides.max(axis=1) > 0.4 * pieces.height)):
        left, top, right, bottom = pieces.box[i]
        here = label[top:bottom, left:right][pieces.label[top:bottom, left:right] == i + 1].max()
        counts[here] |= stats[here, 2:4].sum() > 1.3 * sides[i].sum()
    counts[0] = False
    left_out = (mass - np.bincount(label[look.mask], minlength=len(mass)))[counts].sum()
    return min(FAINTER * float(left_out), CAP * float(pieces.mass.sum()))


def short_lines(look, height):
    """Return how many pixels of a look's lines may be a digit's strokes: those of lines shorter than 2.5 digits are high that
    end before the picture's edge."""
    if look.lines is None:
        return 0
    _, _, stats, _ = cv2.connectedComponentsWithStats(look.lines.view(np.uint8), connectivity=8)
    left, top, wide, high, mass = stats[1:].T
    at_edge = (left == 0) | (top == 0) | (left + wide == look.mask.shape[1]) | (top + high == look.mask.shape[0])
    return int(mass[(np.maximum(wide, high) < 2.5 * height) & ~at_edge].sum())


def join(box, group):
    """Return the box round a group of pieces."""
    group = list(group)
    return np.concatenate([box[group, :2].min(axis=0), box[group, 2:].max(axis=0)])


def find_groups(pieces):
    """Return {group: its box} of all groups, sorted tuples, that hang together and have a digit's proportions: of up to AT_MOST
    pieces, and these with all that was connected with them or lies in their box."""
    neighbours = [np.flatnonzero(row).tolist() for row in pieces.near]
    single = pieces.box.tolist()
    found = {(i,): box for i, box in enumerate(single)}
    latest = found
    for _ in range(AT_MOST - 1):
        grown = {}
        for group, box in latest.items():
            for j in {j for i in group for j in neighbours[i]}.difference(group):
                larger = tuple(sorted((*group, j)))
                if larger not in grown:
                    grown[larger] = [*map(min, box[:2], single[j][:2]), *map(max, box[2:], single[j][2:])]
        latest = {group: box for group, box in grown.items() if has_proportions(box, pieces.height)}
        if len(found) + len(latest) > 8 * len(pieces.box) + 100:  # a thicket: larger groups are no digits
            break
        found |= latest
    for group in complete(found, pieces):
        box = join(pieces.box, group)
        if has_proportions(box, pieces.height):
            found[group] = box
    return found


def complete(groups, pieces):
    """Return the groups, {group: box}, with all parts of their pieces, and with what lies in their box: a digit may be broken
    into any number of pieces."""
    holds = np.zeros((len(groups), len(pieces.box)), dtype=bool)
    for row, group in zip(holds, groups):
        row[list(group)] = True
    left, top, right, bottom = np.array(list(groups.values())).T[..., None]
    x, y = pieces.box[:, ::2].sum(axis=1) / 2, pieces.box[:, 1::2].sum(axis=1) / 2
    within = (left < x) & (x < right) & (top < y) & (y < bottom)
    connected = (holds @ (pieces.origin[:, None] == pieces.origin)) > 0
    return [tuple(np.flatnonzero(row).tolist()) for row in np.unique(connected | within, axis=0)]


def in_part(group, origin, parts):
    """Return of how many connected pieces a group holds some of their parts: digits that touch are parted by one cut."""
    origins, counts = np.unique(origin[list(group)], return_counts=True)
    return int((counts < parts[origins]).sum())


def has_proportions(box, height):
    wide, high = box[2] - box[0], box[3] - box[1]
    return wide <= 1.4 * max(high, 0.5 * height) and wide <= 1.8 * height and high <= 2.2 * height


def frame_group(look, pieces, group, box):
    """Return one group of pieces as MNIST frames a digit, uint8 (28, 28)."""
    left, top, right, bottom = box
    margin = int(0.15 * max(right - left, bottom - top)) + 3
    window = slice(max(top - margin, 0), bottom + margin), slice(max(left - margin, 0), right + margin)
    here = pieces.label[window]
    mask = here == group[0] + 1
    for i in group[1:]:
        mask |= here == i + 1
    return picture.frame(look.ink[window], mask, look.level)


def shape_cost(box, height, digit):
    """Return what a digit's shape costs, in nats: much smaller or larger than the others, of that height, or wider than is usual."""
    wide, high = box[2] - box[0], box[3] - box[1]
    size = max(wide, high) / height
    return 6 * max(0, 0.55 - size) + 3 * max(0, size - 1.8) + TOO_WIDE * max(0, wide / high - WIDEST[digit])


def joint_cost(group, box, sure, pieces):
    """Return what it costs, in nats, to take these pieces and no others for one digit.

    sure: {origin: box} of the connected pieces that the network is sure of by themselves. Of these, two that stand side by
    side are two digits, most likely, and so are two connected pieces of full height, side by side or one above the other.
    """
    if len(group) == 1 and (pieces.origin == pieces.origin[group[0]]).sum() == 1:
        return 0
    group = np.array(group)
    origins = np.unique(pieces.origin[group])
    left_over = CUT * (np.isin(pieces.origin, origins).sum() > len(group))  # a part of what was cut
    if len(origins) == 1:
        return left_over
    high = box[3] - box[1]
    size = sizes(np.array([join(pieces.box, group[pieces.origin[group] == origin]) for origin in origins]))
    full = size[:, 1] > 0.8 * high
    if max(high, box[2] - box[0]) > 1.5 * pieces.height:
        full |= size.max(axis=1) > 0.8 * pieces.height
    digits = sorted(sure[origin] for origin in origins if origin in sure)
    beside = any(2 * (a[2] - b[0]) < min(a[2] - a[0], b[2] - b[0]) for a, b in itertools.pairwise(digits))
    return left_over + TWO * (beside or full.sum() > 1)


def prices(candidates, probabilities):
    """Return (costs, skip), in nats: what each group costs as the digit that the network thinks likeliest, and each piece
    that is left out. The larger or heavier a piece, the dearer it is to leave out; smudges and edges are cheap."""
    pieces = candidates.pieces
    sure, parts = {}, np.bincount(pieces.origin)
    for group, box, p in zip(candidates.groups, candidates.boxes, probabilities):
        origins = pieces.origin[list(group)]
        if p.max() > CLEAR and (origins == origins[0]).all() and len(group) == parts[origins[0]]:
            sure[origins[0]] = box.tolist()
    worth = np.minimum(pieces.worth / weighted_median(pieces.worth, pieces.mass), 1)
    costs = [-math.log(max(p.max(), 1e-6)) + EACH + 1 - worth[list(group)].max() + shape_cost(box, pieces.height, p.argmax())
             + joint_cost(group, box, sure, pieces)
             for group, box, p in zip(candidates.groups, candidates.boxes, probabilities)]
    heavy = np.maximum(pieces.mass / weighted_median(pieces.mass, pieces.mass), sizes(pieces.box).max(axis=1) / pieces.height)
    return costs, worth * SKIP * np.minimum(1.5, heavy) + 0.05


def choose(candidates, probabilities):
    """Return the indices of the groups that are digits, sorted.

    Every piece is part of one digit or left out, in the cheapest way: exactly found, by the pieces' clusters, unless one is a
    thicket; then the groups that save most are taken first. probabilities: float (N, 10), the network's, of the views.
    """
    near = candidates.pieces.near
    if len(candidates.groups) == len(near) == 1:
        return [0]
    costs, skip = prices(candidates, probabilities)
    cluster, chosen = clusters(near), []
    for c in np.unique(cluster):
        members = frozenset(np.flatnonzero(cluster == c).tolist())
        mine = [(frozenset(group), i) for i, group in enumerate(candidates.groups) if group[0] in members]
        cover = cheapest_cover(members, mine, costs, skip) or thriftiest_cover(members, mine, costs, skip)
        chosen += cover[1]
    return sorted(chosen)


def clusters(near):
    """Return int (N,), the number of the cluster of each, of a symmetric bool matrix (N, N)."""
    cluster = np.arange(len(near))
    for i, j in zip(*np.nonzero(np.triu(near))):
        if cluster[i] != cluster[j]:
            cluster[cluster == max(cluster[i], cluster[j])] = min(cluster[i], cluster[j])
    return cluster


def cheapest_cover(members, groups, costs, skip):
    """Return (price, [index of each group taken]): the cheapest way to take or leave out each of members; None if there are
    too many ways. Pieces are numbered from left to right, so what is left of a line is nearly the same set in most of them."""
    by_first = {}
    for group, i in groups:
        by_first.setdefault(min(group), []).append((group, i))
    known = {frozenset(): (0.0, ())}

    def best(rest):
        if rest not in known and len(known) < MANY_WAYS:
            first = min(rest)
            price, taken = best(rest - {first})
            options = [(price + skip[first], taken)]
            for group, i in by_first.get(first, ()):
                if group <= rest:
                    price, taken = best(rest - group)
                    options.append((price + costs[i], (*taken, i)))
            known[rest] = min(options)
        return known.get(rest, (math.inf, ()))

    price, taken = best(members)
    return (price, list(taken)) if len(known) < MANY_WAYS else None


def thriftiest_cover(members, groups, costs, skip):
    """Return what cheapest_cover does, nearly, for many members: the groups that save most are taken first."""
    rest, price, taken = set(members), 0.0, []
    for group, i in sorted(groups, key=lambda each: costs[each[1]] - sum(skip[j] for j in each[0])):
        if group <= rest and costs[i] < sum(skip[j] for j in group):
            rest -= group
            price += costs[i]
            taken.append(i)
    return price + sum(skip[j] for j in rest), taken


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
        margin = 0.4 if best is not None and best.score > 0.3 else 0.25
        if other is not None and other.score > (best.score if best else 0.15) + margin:
            best = other
    if best is None or best.score < LEAST:
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
    left, top, right, bottom = join(np.array([found.box for found in digits]) * (wide, high, wide, high), range(len(digits)))
    margin = AROUND * tall
    return max(int(left - margin), 0), max(int(top - margin), 0), min(int(right + margin), wide), min(int(bottom + margin), high)


def read_looks(array, invert, *looking):
    """Read an array, float (H, W, C), in looks until one is clear; it returns the best Page, or None."""
    best = None
    for look in picture.looks(array, invert, *looking):
        candidates = find_candidates(look)
        if candidates is None:
            continue
        views = candidates.views
        framed = [picture.stretch(look.ink)] if array.shape[:2] == (28, 28) else []
        probabilities = yield views + framed
        if framed:  # most likely framed already: the network judges both views
            probabilities = (probabilities[:-1] + probabilities[-1:]) / 2
        page = make_page(look, candidates, probabilities)
        if page is not None and (best is None or page.score > best.score + 0.05):
            best = page
        if is_clear(best):
            break
    return best


def make_page(look, candidates, probabilities):
    """Return the Page of a look, given the network's probabilities of its candidates, or None if nothing is a digit."""
    chosen = choose(candidates, probabilities)
    if not chosen:
        return None
    box = candidates.boxes[chosen]
    lines = order_lines(box)
    mass = np.array([candidates.pieces.mass[list(candidates.groups[i])].sum() for i in chosen])
    lines = [line for line in lines if len(line) > 1 or len(mass) < 4 or mass[line[0]] > 0.35 * np.median(mass)]  # else a speck
    high, wide = look.mask.shape
    digits, ink = [], candidates.ink
    for n, line in enumerate(lines):
        for i in line:
            group, p = list(candidates.groups[chosen[i]]), probabilities[chosen[i]]
            ink += (candidates.pieces.mass * (1 - edge_weight(candidates.pieces.at_edge)))[group].sum()
            weight = (candidates.pieces.mass * candidates.pieces.worth)[group].sum()
            place = tuple(float(edge / side) for edge, side in zip(box[i], (wide, high, wide, high)))
            digits.append(Found(int(p.argmax()), float(p.max()), p, place, n, candidates.views[chosen[i]], float(weight)))
    unruled = WITHOUT_LINES if look.lines is not None else 0
    return Page(digits, look.inverted, rate(digits, ink) + unruled, look.name)


def rate(digits, ink):
    """Return how good a reading is: the share of the ink that sure digits explain, less a little for many digits.

    Of two readings that explain the same ink, the one with fewer digits is right, most likely.
    """
    explained = sum(found.mass * found.probability for found in digits) / max(ink, 1e-9)
    return explained - price_of_many(digits) - overlap(digits)


def overlap(digits):
    """Return how far digits' boxes lie in one another, 0..1, on average: parts of one digit do, digits side by side hardly."""
    boxes = np.array([found.box for found in digits])
    both = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    area = sizes(boxes).prod(axis=1)
    share = np.maximum(both, 0).prod(axis=2) / np.minimum(area[:, None], area[None, :])
    np.fill_diagonal(share, 0)
    return np.maximum(share.max(axis=1) - 0.3, 0).mean()


def price_of_many(digits):
    return MANY_DIGITS * math.log(min(len(digits), 3))


def is_clear(page):
    """Say whether a page is so good that no other look is needed: sure of every digit, and hardly any ink left out."""
    return (page is not None and page.score + price_of_many(page.digits) >= CLEAR
            and min(found.probability for found in page.digits) > CLEAR)


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
