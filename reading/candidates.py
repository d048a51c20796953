"""Candidates for digits, and the choice among them (heuristic over-segmentation).

    candidates = ask(find_candidates(hypothesis), judge)    groups of segments, judged
    chosen = choose(candidates)    the minimum-cost cover, given what the network says

LeCun et al. 1998, section V: a segmentation graph, scored as a whole.
"""

import itertools
import math
from collections import namedtuple

import numpy as np

from reading.binarize import THRESHOLDS
from reading.lines import holds
from reading.normalize import normalize_digit
from reading.segments import (
    average, components, cut, find_near, find_segments, find_wide, join, sizes, weighted_median)

AT_MOST = 4  # segments in one digit,
BROKEN = 12  # or this many, if they lie in the box of as few
MANY_WAYS = 4000  # of what may be left of a cluster of segments: more are a thicket
SMALLEST = 6  # pixels: no digit that is smaller can be read

SKIP = 3.0  # nats, what it costs to leave out a segment as heavy as the others
PLAIN = 0.9  # probability: as sure a digit is not cut, and not left out without a word
TWO = 1.5  # nats, what it costs to join what is two digits, most likely
BLOT_SIZE, BLOT = 0.55, 6.0  # of a digit's height: what is smaller is a blot; nats for all of it
EACH = 0.4  # nats, what a digit costs beyond the network's doubt, so that fewer are better
FAINTER = 0.6  # what a pixel of fainter ink counts
COVERED = 0.3  # of what is as large as a digit: if as little is ink, the rest is fainter ink

Candidates = namedtuple("Candidates", "groups boxes views probabilities segments ink")
Candidates.__doc__ = """Groups of segments of ink that could be a digit.

groups: list of tuples of segments; boxes: int (N, 4), left, top, right, bottom in pixels; views:
tuple of uint8 (28, 28), each group normalized; probabilities: float (N, 10), the network's of the
views; segments: a Segments; ink: float, the mass of all the ink that is to be explained.
"""


def find_candidates(hypothesis):
    """Yield views; return the Candidates of a Hypothesis, or None.

    What may be two digits that touch is judged first, and cut if the network is not sure that it is
    one.
    """
    segments = find_segments(hypothesis)
    if segments is None:
        return None
    ink = segments.ink + np.count_nonzero(short_lines(hypothesis, segments.height))
    ink += FAINTER * np.count_nonzero(fainter_ink(hypothesis, segments.height))
    wide = find_wide(segments)
    whole = [view_group(hypothesis, segments, (i,), segments.box[i]) for i in wide.tolist()]
    judged = (yield whole) if whole else np.ones((0, 10))
    segments = cut(segments, hypothesis, wide[judged.max(axis=1) < PLAIN])
    known = {tuple(np.flatnonzero(segments.origin == i).tolist()): each
             for i, *each in zip(wide, whole, judged)}
    origin, parts = segments.origin.tolist(), np.bincount(segments.origin).tolist()
    found = {group: box for group, box in sorted(find_groups(segments).items())
             if max(box[2] - box[0], box[3] - box[1]) >= SMALLEST
             and count_cut(group, origin, parts) <= 1}
    if not found:
        return None
    new = {group: view_group(hypothesis, segments, group, box) for group, box in found.items()
           if group not in known}
    judged = (yield list(new.values())) if new else ()
    known |= {group: each for group, *each in zip(new, new.values(), judged)}
    views, probabilities = zip(*(known[group] for group in found))
    return Candidates(list(found), np.array(list(found.values())), views, np.array(probabilities),
                      segments, float(ink))


def fainter_ink(hypothesis, height):
    """Return bool (H, W): what is too faint to be ink here and yet may be.

    That is what has a digit's size: a digit may be written with less pressure than the others,
    and a few darker spots are not the whole of it.
    """
    faint = (hypothesis.ink > THRESHOLDS["a third or more"]) & ~hypothesis.lines
    if not (faint & ~hypothesis.mask).any():
        return np.zeros_like(faint)
    label, box = components(faint)
    size = sizes(box).max(axis=1)
    covered = average(hypothesis.mask, label, len(box))
    counts = np.append(False, (size > 0.6 * height) & (size < 1.6 * height) & (covered < COVERED))
    return counts[label] & ~hypothesis.mask


def short_lines(hypothesis, height):
    """Return bool (H, W): ruled lines that may be strokes, short ones that end on the paper."""
    if not hypothesis.lines.any():
        return hypothesis.lines
    label, box = components(hypothesis.lines)
    high, wide = label.shape
    at_edge = (box[:, :2] == 0).any(axis=1) | (box[:, 2:] == (wide, high)).any(axis=1)
    short = (sizes(box).max(axis=1) < 2.5 * height) & ~at_edge
    return np.append(False, short)[label]


def find_groups(segments):
    """Return {group: its box} of all groups that hang together and have a digit's proportions.

    A group is a sorted tuple of up to AT_MOST segments, or of these with all that was connected
    with them or lies in their box, up to BROKEN.
    """
    single = segments.box.tolist()
    found = {(i,): box for i, box in enumerate(single)}
    if len(single) == 1:
        return found
    neighbours = [np.flatnonzero(row).tolist() for row in find_near(segments)]
    latest = found
    for _ in range(AT_MOST - 1):
        grown = {tuple(sorted((*group, j))): join((box, single[j]))
                 for group, box in latest.items()
                 for j in {j for i in group for j in neighbours[i]}.difference(group)}
        latest = {group: box for group, box in grown.items()
                  if has_proportions(box, segments.height)}
        if len(found) + len(latest) > 3 * len(single) + 200:  # a thicket, no digits
            break
        found |= latest
    whole = {group: join(single[i] for i in group) for group in complete(found, segments)}
    return found | {group: box for group, box in whole.items()
                    if len(group) <= BROKEN and has_proportions(box, segments.height)}


def complete(groups, segments):
    """Return the set of groups that hold all parts of their segments and all that is in their box.

    groups: {group: box}, to begin with. A digit may be broken into many segments.
    """
    same = segments.origin[:, None] == segments.origin
    connected = np.array([same[list(group)].any(axis=0) for group in groups])
    x, y = (segments.box[:, :2] + segments.box[:, 2:]).T / 2
    within = holds(np.array(list(groups.values())), x, y)
    return {tuple(np.flatnonzero(row).tolist()) for row in connected | within}


def count_cut(group, origin, parts):
    """Return of how many connected segments a group holds some of their parts."""
    ours = [origin[i] for i in group]
    return sum(ours.count(each) < parts[each] for each in set(ours))


def has_proportions(box, height):
    """Say whether a box may be a digit's, where digits are about so high."""
    wide, high = box[2] - box[0], box[3] - box[1]
    return wide <= 1.8 * min(max(high, 0.5 * height), height) and high <= 2.2 * height


def view_group(hypothesis, segments, group, box):
    """Return one group of segments, normalized: uint8 (28, 28)."""
    left, top, right, bottom = box
    margin = int(0.15 * max(right - left, bottom - top)) + 3
    window = (slice(max(top - margin, 0), bottom + margin),
              slice(max(left - margin, 0), right + margin))
    here = segments.label[window]
    mask = np.logical_or.reduce([here == i + 1 for i in group])
    return normalize_digit(hypothesis.ink[window], mask)


# -------------------------------------------------------------------------------------------------
# The choice

def joint_cost(group, sure, origin):
    """Return what it costs, in nats, to take these segments for one digit.

    origin: of each segment; sure: {origin: box} of the connected segments that the network is sure
    of by themselves. Of these, two that stand side by side are two digits, most likely.
    """
    digits = sorted(sure[each] for each in {origin[i] for i in group} if each in sure)
    return TWO * any(2 * (a[2] - b[0]) < min(a[2] - a[0], b[2] - b[0])
                     for a, b in itertools.pairwise(digits))


def find_costs(candidates):
    """Return (costs, skip), in nats: of each group as a digit, of each segment that is left out.

    The heavier a segment, the dearer it is to leave out; smudges and edges are cheap.
    """
    segments, p = candidates.segments, candidates.probabilities.max(axis=1)
    origin, sure = segments.origin.tolist(), {}
    for group, box, probability in zip(candidates.groups, candidates.boxes.tolist(), p):
        first = origin[group[0]]
        if probability > PLAIN and group == tuple(np.flatnonzero(segments.origin == first)):
            sure[first] = box
    worth = np.minimum(segments.worth / weighted_median(segments.worth, segments.mass), 1)
    each, genuine = worth.tolist(), segments.genuine.tolist()
    blot = BLOT * np.maximum(BLOT_SIZE - sizes(candidates.boxes).max(axis=1) / segments.height, 0)
    costs = EACH - np.log(p) + blot + [
        1 - max(each[i] for i in group) * min(genuine[i] for i in group)
        + joint_cost(group, sure, origin) for group in candidates.groups]
    heavy = segments.mass / weighted_median(segments.mass, segments.mass)
    skip = worth * SKIP * heavy + 0.05
    return costs.tolist(), skip.tolist()


def choose(candidates):
    """Return the indices of the groups that are digits, sorted: a minimum-cost cover.

    Every segment is part of one digit or left out, in the cheapest way: exactly found, cluster by
    cluster; nothing of a thicket.
    """
    if len(candidates.groups) == len(candidates.segments.box) == 1:
        return [0]
    costs, skip = find_costs(candidates)
    chosen = []
    for members, ours in find_clusters(candidates.groups, len(skip)):
        chosen += cheapest_cover(members, ours, costs, skip)
    return sorted(chosen)


def leaves_digit(candidates, ours):
    """Say whether what is left besides the segments ours is a digit, surely, and surely ink."""
    taken, worth = set(ours), candidates.segments.worth
    return any(taken.isdisjoint(group) and p.max() * worth[list(group)].min() > PLAIN
               for group, p in zip(candidates.groups, candidates.probabilities))


def find_clusters(groups, n_segments):
    """Return [(segments, [(group, its index)])]: the parts of a picture that share no group."""
    cluster = [({i}, []) for i in range(n_segments)]  # that each segment is in
    for index, group in enumerate(groups):
        ours = cluster[group[0]]
        ours[1].append((group, index))
        for other in (cluster[i] for i in group):
            if other is not ours:
                ours[0].update(other[0])
                ours[1].extend(other[1])
                for i in other[0]:
                    cluster[i] = ours
    return list({id(each): each for each in cluster}.values())


def cheapest_cover(members, groups, costs, skip):
    """Return [index of each group taken] of the cheapest way to take or leave members.

    Nothing if there are too many ways. Segments are numbered from left to right, so what is left of
    a line is nearly the same set in most of them.
    """
    by_first = {}  # sets of segments are the bits of whole numbers: a thicket has thousands of them
    for group, i in groups:
        by_first.setdefault(min(group), []).append((sum(1 << j for j in group), i))
    known = {0: (0.0, ())}

    def best(rest):
        if rest not in known and len(known) < MANY_WAYS:
            first = (rest & -rest).bit_length() - 1
            cost, taken = best(rest & (rest - 1))
            options = [(cost + skip[first], taken)]
            for group, i in by_first.get(first, ()):
                if group & rest == group:
                    cost, taken = best(rest ^ group)
                    options.append((cost + costs[i], (*taken, i)))
            known[rest] = min(options)
        return known.get(rest, (math.inf, ()))

    _, taken = best(sum(1 << j for j in members))
    return list(taken) if len(known) < MANY_WAYS else []
