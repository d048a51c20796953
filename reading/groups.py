"""Groups of pieces of ink that could be a digit, and the choice among them: heuristic over-segmentation (LeCun et al. 1998, V).

    candidates = find_candidates(look)       pieces, and groups of them, each framed as MNIST frames a digit
    digits = choose(candidates, p)           the cheapest set of groups, given what the network says of each
"""

import math
from collections import namedtuple

import numpy as np

from reading import picture
from reading.pieces import components, edge_weight, find_pieces, join, sizes, weighted_median

AT_MOST = 4     # pieces in one digit,
BROKEN = 12     # or this many, if they lie in the box of as few
MANY_WAYS = 4000  # of what may be left of a cluster of pieces: more are a thicket
SMALLEST = 6    # pixels: no digit that is smaller can be read

SKIP = 2.0      # what it costs to leave out a piece as heavy as the others, in nats
EACH = 0.3      # what a digit costs beyond the network's doubt, so that fewer digits are better
WIDEST = 1.25, 0.8, 1.35, 1.1, 1.1, 1.45, 1.0, 1.1, 1.0, 0.9  # of its height, 0 to 9: 95 % of MNIST's digits are narrower
FAINT = 0.6, 0.3  # what fainter ink counts, and the most that it counts, as a share of the ink

Candidates = namedtuple("Candidates", "groups boxes views pieces ink")
Candidates.__doc__ = """Groups of pieces of ink that could be a digit.

groups: list of tuples of pieces; boxes: int (N, 4), left, top, right, bottom in pixels, of the groups; views: list of uint8
(28, 28), each group as MNIST frames it; pieces: a Pieces; ink: float, the mass of all the ink that is to be explained.
"""


def find_candidates(look):
    """Return the Candidates of a look, or None if there are none."""
    pieces = find_pieces(look)
    if pieces is None:
        return None
    least, origin, parts = max(0.3 * pieces.height, SMALLEST), pieces.origin.tolist(), np.bincount(pieces.origin).tolist()
    found = {group: box for group, box in sorted(find_groups(pieces).items())
             if max(box[2] - box[0], box[3] - box[1]) >= least and in_part(group, origin, parts) <= 1}
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
    if not (faint & ~look.mask).any():
        return 0.0
    y, x, which, box = components(faint)
    size, within = sizes(box).max(axis=1), look.mask[y, x]
    counts = (size > 0.6 * pieces.height) & (size < 1.6 * pieces.height)
    counts[which[within]] = False
    sides = sizes(pieces.box)
    for i in np.flatnonzero((sides.max(axis=1) > 5 * sides.min(axis=1)) & (sides.max(axis=1) > 0.4 * pieces.height)):
        here = which[pieces.label[y, x] == i + 1].max(initial=-1)
        counts[here] |= here >= 0 and sizes(box[here:here + 1]).sum() > 1.3 * sides[i].sum()
    left_out = np.count_nonzero(counts[which] & ~within)
    return min(FAINT[0] * left_out, FAINT[1] * float(pieces.mass.sum()))


def short_lines(look, height):
    """Return how many pixels of a look's lines may be a digit's strokes: those of lines shorter than 2.5 digits are high that
    end before the picture's edge."""
    if look.lines is None:
        return 0
    _, _, which, box = components(look.lines)
    high, wide = look.lines.shape
    at_edge = (box[:, :2] == 0).any(axis=1) | (box[:, 2:] == (wide, high)).any(axis=1)
    return int(np.bincount(which, minlength=len(box))[(sizes(box).max(axis=1) < 2.5 * height) & ~at_edge].sum())


def find_groups(pieces):
    """Return {group: its box} of all groups, sorted tuples, that hang together and have a digit's proportions: of up to AT_MOST
    pieces, and these with all that was connected with them or lies in their box, up to BROKEN."""
    single = pieces.box.tolist()
    found = {(i,): box for i, box in enumerate(single)}
    if len(single) == 1:
        return found
    neighbours = [np.flatnonzero(row).tolist() for row in pieces.near]
    latest = found
    for _ in range(AT_MOST - 1):
        grown = {}
        for group, box in latest.items():
            for j in {j for i in group for j in neighbours[i]}.difference(group):
                larger = tuple(sorted((*group, j)))
                if larger not in grown:
                    grown[larger] = join((box, single[j]))
        latest = {group: box for group, box in grown.items() if has_proportions(box, pieces.height)}
        if len(found) + len(latest) > 8 * len(pieces.box) + 100:  # a thicket: larger groups are no digits
            break
        found |= latest
    for group in complete(found, pieces):
        if len(group) <= BROKEN and has_proportions(box := join(single[i] for i in group), pieces.height):
            found[group] = box
    return found


def complete(groups, pieces):
    """Return the groups, {group: box}, with all parts of their pieces, and with what lies in their box: a digit may be broken
    into many pieces."""
    connected = np.zeros((len(groups), len(pieces.box)), dtype=bool)  # and the parts of each group's pieces
    parts = [np.flatnonzero(row).tolist() for row in pieces.origin[:, None] == pieces.origin]
    for row, group in zip(connected, groups):
        row[[part for i in group for part in parts[i]]] = True
    left, top, right, bottom = np.array(list(groups.values())).T[..., None]
    x, y = pieces.box[:, ::2].sum(axis=1) / 2, pieces.box[:, 1::2].sum(axis=1) / 2
    within = (left < x) & (x < right) & (top < y) & (y < bottom)
    return {tuple(np.flatnonzero(row).tolist()) for row in connected | within}


def in_part(group, origin, parts):
    """Return of how many connected pieces a group holds some of their parts: digits that touch are parted by one cut."""
    mine = [origin[i] for i in group]
    return sum(mine.count(each) < parts[each] for each in set(mine))


def has_proportions(box, height):
    wide, high = box[2] - box[0], box[3] - box[1]
    return wide <= 1.8 * min(max(high, 0.5 * height), height) and high <= 2.2 * height


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
    """Return what a digit's shape costs, in nats: smaller or larger than the others, of that height, or wider than usual."""
    wide, high = box[2] - box[0], box[3] - box[1]
    size = max(wide, high) / height
    return 6 * max(0, 0.55 - size) + 3 * max(0, size - 1.8) + 4 * max(0, wide / high - WIDEST[digit])


def prices(candidates, probabilities):
    """Return (costs, skip), in nats: what each group costs as the digit that the network thinks likeliest, and each piece
    that is left out. The larger or heavier a piece, the dearer it is to leave out; smudges and edges are cheap."""
    pieces = candidates.pieces
    judged = list(zip(candidates.groups, candidates.boxes.tolist(), probabilities.max(axis=1).tolist(),
                      probabilities.argmax(axis=1).tolist()))
    worth = np.minimum(pieces.worth / weighted_median(pieces.worth, pieces.mass), 1)
    each = worth.tolist()
    costs = [-math.log(max(p, 1e-6)) + EACH + 1 - max(each[i] for i in group) + shape_cost(box, pieces.height, digit)
             for group, box, p, digit in judged]
    heavy = np.maximum(pieces.mass / weighted_median(pieces.mass, pieces.mass), sizes(pieces.box).max(axis=1) / pieces.height)
    return costs, (worth * SKIP * np.minimum(1.5, heavy) + 0.05).tolist()


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
