"""Segments of ink: connected, and cut where digits may touch; too many rather than too few.

    segments = find_segments(hypothesis)    of a binarize.Hypothesis, without boxes, bars and specks
    segments = cut(segments, hypothesis, wide)    where digits may touch; wide: of find_wide()

candidates.py joins them again (heuristic over-segmentation, LeCun et al. 1998, section V).
"""

from collections import namedtuple

import cv2
import numpy as np

from reading.forms import are_teeth, breadth, may_be_writing
from reading.normalize import dilate, stroke_width

MOST_SEGMENTS = 400  # segments: more are noise, or print
WIDE = 0.6  # of its height: a segment as wide may be two digits that touch,
ALONE = 0.8  # or this, if no other segment has a digit's height
ASIDE = 0.02  # of a pixel of ink, what a step aside costs a cut: it is straight where there is none
CUT_OUT = 160  # pixels: a picture as small was cut out round its digit, and is soft if enlarged
FADING = 0.3, 0.7  # ink two pixels beyond the rim, of that at it: less is a stroke, more a smudge
LEANING = 0.1, 0.4  # share of a rim at an edge of the paper: less is a stroke, more the edge itself

Segments = namedtuple("Segments", "label box mass worth genuine origin height ink")
Segments.__doc__ = """Segments of ink, from left to right.

label: uint16 (H, W), 0 paper, segment i is i + 1; box: int (N, 4): left, top, right, bottom; mass:
float (N,), in pixels of full ink; worth: float (N,), how much it counts, 0..1: less along the
picture's edge, if it fades or if it is not genuine; genuine: float (N,), see find_genuine();
origin: int (N,), the connected segment that it is, or is a part of; height: float, that of a digit;
ink: float, the mass of all that count, and of long lines that something may hang on.
"""


def find_segments(hypothesis):
    """Return the connected Segments that may be digits or parts of digits.

    None if there are none, or too many.
    """
    soft = np.minimum(hypothesis.ink, 1)
    label, box = components(hypothesis.mask)
    n = len(box)
    mass = np.bincount(label.ravel(), soft.ravel(), n + 1)[1:]
    narrow, size = np.sort(sizes(box), axis=1).T
    sides = label[0], label[-1], label[:, 0], label[:, -1]
    at_edge = np.bincount(np.concatenate(sides), minlength=n + 1)[1:] / size
    counts = np.where(at_edge > 0.35, 0.3, 1)  # what lies along the edge is a table, a finger
    keep = may_be_writing(label, box, mass) & ~are_teeth(label, box)
    weight = mass * counts * keep
    if weight.sum() <= 0:
        return None
    height = weighted_median(size, weight)
    long = np.flatnonzero((size > 4 * narrow) & ~keep & (narrow > 0.5 * height))
    bars = sum(mass[i] for i in long if breadth(label == i + 1) > 0.5 * height)
    keep &= (mass > 0.02 * weighted_median(mass, weight)) & ((size >= 5) | (mass >= 8))
    if not keep.any() or keep.sum() > MOST_SEGMENTS:
        return None
    kept = np.flatnonzero(keep)[np.argsort(box[keep, 0], kind="stable")]
    renumber = np.zeros(n + 1, dtype=np.uint16)
    renumber[kept + 1] = np.arange(1, len(kept) + 1)
    label, mass, counts = renumber[label], mass[kept], counts[kept]
    rim = label * (cv2.erode(label, None) == 0)
    genuine = find_genuine(hypothesis, rim, len(kept))
    worth = counts * genuine * find_sharp(label, soft, rim, len(kept))
    # what leans on the paper's edge counts by half: it may be a stroke too broad for the paper
    ink = (mass * counts * (1 + genuine) / 2).sum() + 0.5 * bars
    return Segments(label, box[kept], mass, worth, genuine, np.arange(len(kept)), height, ink)


def components(mask):
    """Return (label, box) of a bool mask's connected parts: int (H, W), 0 for none; (N, 4)."""
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    left, top, width, height, _ = stats[1:].T
    return label, np.stack([left, top, left + width, top + height], axis=1)


def sizes(box):
    """Return int (N, 2): width and height of boxes (N, 4)."""
    return box[:, 2:] - box[:, :2]


def join(boxes):
    """Return the box (left, top, right, bottom) round boxes, an iterable of such."""
    left, top, right, bottom = zip(*boxes)
    return min(left), min(top), max(right), max(bottom)


def weighted_median(values, weights):
    """Return the value below which half of the weight lies."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def find_genuine(hypothesis, rim, n):
    """Return how far each segment is ink, float (N,): 0.1 for what the paper's own edge left, or 1.

    A stroke has the same paper all around. Where the paper itself is suddenly half as far towards
    ink beside a segment's rim, as at the edge of a shadow, a sheet or a frame, the segment ends
    since all beyond is taken for paper, and not because the picture changes there.
    """
    return fall(average(hypothesis.step > 0.5 * hypothesis.ink, rim, n), *LEANING)


def find_sharp(label, soft, rim, n):
    """Return how sharply each segment ends, float (N,): 1 for a stroke, less for a smudge.

    A pen's stroke ends within a pixel or two: next to its rim there is hardly any ink left. A
    shadow, a crease or a stain fades slowly. soft: float (H, W), ink in units of full ink.
    """
    if max(soft.shape) <= CUT_OUT:
        return np.ones(n)
    near = dilate(label, 1)
    beyond = dilate(near, 2) * (near == 0)
    fading = average(soft, beyond, n) / np.maximum(average(soft, rim, n), 1e-6)
    return fall(fading, *FADING)


def fall(share, low, high):
    """Return 1 up to low, then less, and 0.1 from just below high on, float (N,) as share."""
    return 1 - np.clip((share - low) / (high - low), 0, 0.9)


def average(values, label, n):
    """Return the mean, float (n,), of values over the pixels with label 1 .. n; 0 if none."""
    labelled = np.flatnonzero(label != 0)
    label = label.ravel()[labelled]
    counts = np.bincount(label, minlength=n + 1)[1:]
    return np.bincount(label, values.ravel()[labelled], n + 1)[1:] / np.maximum(counts, 1)


def find_near(segments):
    """Return bool (N, N): segments so near to one another that they may be parts of one digit."""
    box, size = segments.box, sizes(segments.box).max(axis=1)
    apart = np.maximum(box[:, None, :2] - box[None, :, 2:], box[None, :, :2] - box[:, None, 2:])
    near = apart.max(axis=2) <= 0.3 * np.maximum(size[:, None], size[None, :])
    np.fill_diagonal(near, False)
    return near


# -------------------------------------------------------------------------------------------------
# Cuts

def find_wide(segments):
    """Return the indices of the segments that may be two digits or more which touch, int (M,).

    A one takes little room, so beside other digits a segment need not be wider than high.
    """
    width, height = sizes(segments.box).T
    full = (height > 0.5 * segments.height) & (height < 2 * segments.height)
    wide = np.flatnonzero(full & (width > (WIDE if full.sum() > 1 else ALONE) * height))
    return wide if len(wide) <= 100 else wide[:0]


def cut(segments, hypothesis, wide):
    """Return Segments of which those numbered in wide are cut where digits may touch.

    Each part is a segment of its own, worth as much as the whole.
    """
    if len(wide) == 0:
        return segments
    soft = np.minimum(hypothesis.ink, 1)
    label, box, mass, origin = (segments.label.copy(), list(segments.box), list(segments.mass),
                                list(segments.origin))
    windows = [(slice(y0, y1), slice(x0, x1)) for x0, y0, x1, y1 in segments.box[wide]]
    inks = [soft[w] * (label[w] == i + 1) for i, w in zip(wide, windows)]
    for i, window, cuts in zip(wide, windows, find_cuts(inks)):
        here = label[window]
        y, x = np.nonzero(here == i + 1)
        part = sum((x > cut[y] for cut in cuts), np.zeros(len(x), dtype=int))
        left, top = box[i][:2]
        for n, k in enumerate(np.flatnonzero(np.bincount(part))):
            px, py = x[part == k], y[part == k]
            each = i if n == 0 else len(box)  # the first part keeps the segment's number
            if n > 0:
                box.append(None), mass.append(0), origin.append(i)
            here[py, px] = each + 1
            box[each] = np.array([px.min() + left, py.min() + top, px.max() + left + 1,
                                  py.max() + top + 1])
            mass[each] = soft[py + top, px + left].sum()
    order = np.argsort(np.array(box)[:, 0], kind="stable")
    renumber = np.append(0, np.argsort(order) + 1).astype(label.dtype)
    origin = np.array(origin)[order]
    return segments._replace(
        label=renumber[label], box=np.array(box)[order], mass=np.array(mass)[order], origin=origin,
        worth=segments.worth[origin], genuine=segments.genuine[origin])


def find_cuts(inks):
    """Return for each of inks, float (H, W), 0..1, the cuts through it: each row's last column.

    A cut is the path from top to bottom that crosses the least ink (a seam, Avidan and Shamir 2007)
    of those through one column half-way down; it follows the valley between two digits of which one
    leans over the other. Each is int (H,), the last column on the left of the cut.
    """
    half = max(len(ink) for ink in inks) // 2 + 1
    halves = np.zeros((len(inks), 2, half, max(ink.shape[1] for ink in inks)))  # edge to middle row
    for both, ink in zip(halves, inks):
        middle, (height, width) = len(ink) // 2, ink.shape
        both[0, half - middle - 1:, :width] = ink[:middle + 1]
        both[1, half - height + middle:, :width] = ink[middle:][::-1]
    crossed, paths = (values.reshape(len(inks), 2, *values.shape[1:])
                      for values in best_paths(np.concatenate(halves)))
    crossed = crossed.sum(axis=1) - halves[:, 0, -1]
    found = []
    for ink, (upper, lower), through in zip(inks, paths, crossed):
        middle, (height, width) = len(ink) // 2, ink.shape
        lines = np.concatenate([upper[half - middle - 1:],
                                lower[half - height + middle:-1][::-1]])
        found.append(choose_cuts(ink > 0, lines[:, :width], through[:width]))
    return found


def best_paths(ink):
    """Return (crossed, paths) of the paths from the first row of ink to each column of the last.

    A path goes at most a column to either side a row. ink: float (N, H, W); crossed: float (N, W),
    how much ink the best path crosses; paths: int (N, H, W), its columns.
    """
    n, height, width = ink.shape
    total = np.pad(ink[:, 0], ((0, 0), (1, 1)), constant_values=np.inf)
    steps = np.zeros((height, n, width), dtype=np.int8)
    for row in range(1, height):
        straight, left, right = total[:, 1:-1], total[:, :-2] + ASIDE, total[:, 2:] + ASIDE
        best = np.minimum(straight, left)
        steps[row] = np.where(right < best, 1, -(left < straight).view(np.int8))
        total[:, 1:-1] = np.minimum(best, right) + ink[:, row]
    paths = np.empty((height, n * width), dtype=int)  # side by side: a column is found by number
    paths[-1] = np.arange(n * width)
    for row in range(height - 1, 0, -1):
        paths[row - 1] = paths[row] + steps[row].ravel()[paths[row]]
    return total[:, 1:-1], (paths % width).reshape(height, n, width).swapaxes(0, 1)


def choose_cuts(mask, lines, through, most=3):
    """Return the `most` best of lines, a path in each column, that part a mask, each its own way.

    mask: bool (H, W); lines: int (H, W); through: float (W,), how much ink each path crosses.
    """
    height, width = mask.shape
    columns = np.flatnonzero(through <= 2.2 * stroke_width(mask))
    # how much of mask is left of each cut, row by row
    at = np.minimum(lines[:, columns], width - 1)
    left = np.cumsum(mask, axis=1)[np.arange(height)[:, None], at]
    total = mask.sum()
    least, cuts = 0.08 * total, []
    good = (left.sum(axis=0) > least) & (total - left.sum(axis=0) > least)
    while good.any() and len(cuts) < most:
        at = np.where(good, through[columns], np.inf).argmin()
        cuts.append(lines[:, columns[at]])
        good &= np.abs(left - left[:, at:at + 1]).sum(axis=0) > least
    return cuts
