"""Pieces of ink: connected, and cut where digits may touch; too many rather than too few, since groups.py joins them again.

    pieces = find_pieces(look)       of a picture.Look, without what is drawn round others, bars and specks
"""

from collections import namedtuple

import cv2
import numpy as np

from reading.picture import dilate, stroke_width

MANY = 400      # pieces: more are noise, or print
WIDE = 0.6      # of its height: a piece as wide may be two digits that touch,
ALONE = 0.8     # or this, if no other piece has a digit's height

Pieces = namedtuple("Pieces", "label box mass at_edge worth origin height near bars")
Pieces.__doc__ = """Connected pieces of ink.

From left to right. label: uint16 (H, W), 0 paper, piece i is i + 1; box: int (N, 4); mass: float (N,), in pixels of full
ink; at_edge: float (N,), how much of its length lies on the picture's edge; worth: float (N,), see find_worth(); origin: int
(N,), the connected piece that it is, or is a part of; height: float, that of a digit; near: bool (N, N), see find_near();
bars: float, the mass of long lines that something may hang on.
"""


def find_pieces(look):
    """Return the Pieces in a look that may be digits or parts of digits, or None if there are none, or far too many."""
    soft = np.minimum(look.ink / look.level, 1)
    y, x, which, box = components(look.mask)
    if len(box) == 0:
        return None
    high, wide = look.mask.shape
    mass = np.bincount(which, soft[y, x])
    rim = np.concatenate([which[y == 0], which[y == high - 1], which[x == 0], which[x == wide - 1]])
    size, narrow = sizes(box).max(axis=1), sizes(box).min(axis=1)
    at_edge = np.bincount(rim, minlength=len(box)) / size
    keep = may_be_writing(box, mass, look.mask.shape)
    weight = mass * edge_weight(at_edge) * keep
    if weight.sum() <= 0:
        return None
    height = weighted_median(size, weight)
    bars = mass[(size > 4 * narrow) & ~keep & (narrow > 0.5 * height)].sum()
    keep &= (size <= 3 * height) & (mass > 0.02 * weighted_median(mass, weight)) & ((size >= 5) | (mass >= 8))
    if not keep.any() or keep.sum() > MANY:
        return None
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(box[kept, 0], kind="stable")]
    label, renumber = np.zeros(soft.shape, dtype=np.uint16), np.zeros(len(box), dtype=np.uint16)
    renumber[kept] = np.arange(1, len(kept) + 1)
    label[y, x] = renumber[which]
    pieces = Pieces(label, box[kept], mass[kept], at_edge[kept], None, np.arange(len(kept)), height, None,
                    bars)
    pieces = from_left_to_right(cut_touching(pieces, soft))
    return pieces._replace(near=find_near(pieces), worth=find_worth(pieces, soft))


def from_left_to_right(pieces):
    """Return pieces numbered by their left edges."""
    order = np.argsort(pieces.box[:, 0], kind="stable")
    if (order[1:] > order[:-1]).all():
        return pieces
    renumber = np.zeros(len(order) + 1, dtype=pieces.label.dtype)
    renumber[order + 1] = np.arange(1, len(order) + 1)
    left, top, right, bottom = join(pieces.box.tolist())
    pieces.label[top:bottom, left:right] = renumber[pieces.label[top:bottom, left:right]]
    box, mass, at_edge, origin = (values[order] for values in (pieces.box, pieces.mass, pieces.at_edge, pieces.origin))
    return pieces._replace(box=box, mass=mass, at_edge=at_edge, origin=origin)


def components(mask):
    """Return (y, x, which, box) of a bool mask (H, W): where it is True, and in which of its connected pieces, counted from 0,
    int (P,) each; and the pieces' boxes, int (N, 4): left, top, right, bottom, the last two exclusive.

    OpenCV's own statistics of its components take ten times as long.
    """
    n, label = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    y, x = np.divmod(np.flatnonzero(mask), mask.shape[1])  # nonzero() takes ten times as long, too
    which, box = label[y, x] - 1, np.repeat([[*mask.shape[::-1], 0, 0]], n - 1, axis=0)
    for side, at in enumerate((x, y)):
        np.minimum.at(box[:, side], which, at)
        np.maximum.at(box[:, side + 2], which, at + 1)
    return y, x, which, box


def sizes(box):
    """Return int (N, 2): width and height of boxes (N, 4)."""
    return box[:, 2:] - box[:, :2]


def join(boxes):
    """Return the box (left, top, right, bottom) round boxes, an iterable of such."""
    left, top, right, bottom = zip(*boxes)
    return min(left), min(top), max(right), max(bottom)


def edge_weight(at_edge):
    """Return how much a piece counts that lies along the picture's edge with that much of its length: a table, a finger."""
    return np.where(at_edge > 0.35, 0.3, 1)


def find_worth(pieces, soft):
    """Return how much each piece counts, float (N,), 1 for ink, less for what lies along the edge or is a smudge.

    A pen's stroke ends within a pixel or two: next to its rim there is hardly any ink left. A shadow, a crease or a stain
    fades slowly. soft: float (H, W), ink in units of full ink.
    """
    worth = np.where(pieces.at_edge > 1, 0.1, edge_weight(pieces.at_edge))  # more than 1: along a whole side
    if max(soft.shape) <= CUT_OUT:
        return worth
    left, top, right, bottom = join(pieces.box.tolist())
    window = slice(max(top - 4, 0), bottom + 4), slice(max(left - 4, 0), right + 4)
    label, soft, n = pieces.label[window], soft[window], len(pieces.box)
    rim = label * (cv2.erode(label, SQUARE) == 0)
    near = cv2.dilate(label, SQUARE)
    beyond = cv2.dilate(near, SQUARE, iterations=2) * (near == 0)
    fading = average(soft, beyond, n) / np.maximum(average(soft, rim, n), 1e-6)
    return worth * (1 - np.clip((fading - FADING[0]) / (FADING[1] - FADING[0]), 0, 0.9))


def doubt_of(look, pieces, chosen):
    """Return how doubtful it is, 0 .. 4, in the unit of a score, that the chosen pieces of ink are written at all.

    What hardly stands out from the paper's grain may be grain, what goes on faintly beyond its rim falling light, and what
    lies along the picture's edge its dark corner: an empty page's digits are made of these. chosen: list of pieces.
    """
    label = pieces.label
    if max(label.shape) <= CUT_OUT:  # strokes are as soft as light, and all lies near the edge
        return 0.0
    left, top, right, bottom = join(pieces.box[chosen].tolist())
    window = slice(max(top - 7, 0), bottom + 7), slice(max(left - 7, 0), right + 7)
    ink = np.isin(label[window], np.array(chosen) + 1).view(np.uint8)
    soft = np.minimum(look.ink[window] / look.level, 1)
    rim = soft[(ink > 0) & (cv2.erode(ink, SQUARE) == 0)]
    beyond = soft[dilate(ink, 6) > dilate(ink, 3)]
    fading = beyond.mean() / rim.mean() if len(rim) and len(beyond) else 0
    along = np.average(pieces.at_edge[chosen], weights=pieces.mass[chosen])
    return 3 * look.noise / look.level + 2 * max(0, float(fading) - 0.1) + max(0, float(along) - 0.35)


CUT_OUT = 160  # pixels: a picture as small was cut out round its digit, and is soft all over if it was enlarged before
FADING = 0.3, 0.7  # of the ink at a piece's rim, two pixels farther out: ink, and a smudge
SQUARE = np.ones((3, 3), np.uint8)


def average(values, label, n):
    """Return the mean, float (n,), of values (H, W) over the pixels with label 1, 2, ... n, int (H, W); 0 if there are none."""
    labelled = np.flatnonzero(label != 0)
    label = label.ravel()[labelled]
    counts = np.bincount(label, minlength=n + 1)[1:]
    return np.bincount(label, values.ravel()[labelled], n + 1)[1:] / np.maximum(counts, 1)


def weighted_median(values, weights):
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def may_be_writing(box, mass, shape):
    """Return bool (N,): not a bar four times as wide as high, not what spans the picture, not what is drawn round others."""
    high, wide = shape
    width, height = sizes(box).T
    size = np.maximum(width, height)
    spans = ((box[:, 0] == 0) & (box[:, 2] == wide)) | ((box[:, 1] == 0) & (box[:, 3] == high))
    keep = (width <= 4 * height) & ~(spans & (size > 4 * np.minimum(width, height)))
    for i in np.flatnonzero(size > 0.1 * max(shape)) if len(box) > 1 else ():
        margin = 0.04 * size[i]
        within = (box[:, :2] > box[i, :2] + margin).all(axis=1) & (box[:, 2:] < box[i, 2:] - margin).all(axis=1)
        drawn_round = (within & keep & (size > 0.25 * size[i])).any()  # a box, a circle, a drawn shape
        many = (within & keep & (size > 0.03 * size[i])).sum() >= 3 or within.sum() >= 12
        table = many and mass[i] < 0.1 * width[i] * height[i]
        keep[i] &= not (drawn_round or table)
    return keep


def find_near(pieces):
    """Return bool (N, N): pieces so near to one another that they may be parts of one digit."""
    if len(pieces.box) == 1:
        return np.zeros((1, 1), dtype=bool)
    box, size = pieces.box, sizes(pieces.box).max(axis=1)
    apart = np.maximum(box[:, None, :2] - box[None, :, 2:], box[None, :, :2] - box[:, None, 2:]).max(axis=2)
    near = apart <= 0.3 * np.maximum(size[:, None], size[None, :])
    np.fill_diagonal(near, False)
    return near


def cut_touching(pieces, soft):
    """Return pieces with those that are wide cut where digits may touch; each part is a piece of its own.

    A one takes little room, so beside other digits a piece need not be wider than high to be two.
    """
    width, height = sizes(pieces.box).T
    full = (height > 0.5 * pieces.height) & (height < 2 * pieces.height)
    wide = np.flatnonzero(full & (width > (WIDE if full.sum() > 1 else ALONE) * height))
    if len(wide) == 0 or len(wide) > 100:
        return pieces
    label, box, mass, origin = pieces.label, list(pieces.box), list(pieces.mass), list(pieces.origin)
    windows = [(slice(top, bottom), slice(left, right)) for left, top, right, bottom in pieces.box[wide]]
    for i, window, cuts in zip(wide, windows, find_cuts([soft[w] * (label[w] == i + 1) for i, w in zip(wide, windows)])):
        here = label[window]
        y, x = np.nonzero(here == i + 1)
        part = sum((x > cut[y] for cut in cuts), np.zeros(len(x), dtype=int))
        left, top = box[i][:2]
        for n, k in enumerate(np.flatnonzero(np.bincount(part))):
            px, py = x[part == k], y[part == k]
            each = i if n == 0 else len(box)  # the first part keeps the piece's number
            if n > 0:
                box.append(None), mass.append(0), origin.append(i)
            here[py, px] = each + 1
            box[each], mass[each] = outline(px + left, py + top), soft[py + top, px + left].sum()
    return pieces._replace(box=np.array(box), mass=np.array(mass), origin=np.array(origin), at_edge=pieces.at_edge[origin])


def outline(x, y):
    """Return the box (left, top, right, bottom) of pixels."""
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


def find_cuts(inks):
    """Return for each of inks, float (H, W), 0..1, a list of cuts through it, int (H,): each row's last column on the left.

    A cut is the path from top to bottom that crosses the least ink (a seam, Avidan and Shamir 2007) of those through one
    column half-way down; it follows the valley between two digits of which one leans over the other.
    """
    half = max(len(ink) for ink in inks) // 2 + 1
    halves = np.zeros((len(inks), 2, half, max(ink.shape[1] for ink in inks)))  # each from its edge to the middle row
    for both, ink in zip(halves, inks):
        middle, (height, width) = len(ink) // 2, ink.shape
        both[0, half - middle - 1:, :width] = ink[:middle + 1]
        both[1, half - height + middle:, :width] = ink[:middle - 1 if middle else None:-1]
    crossed, paths = (values.reshape(len(inks), 2, *values.shape[1:]) for values in best_paths(np.concatenate(halves)))
    crossed = crossed.sum(axis=1) - halves[:, 0, -1]
    found = []
    for ink, (upper, lower), through in zip(inks, paths, crossed):
        middle, (height, width) = len(ink) // 2, ink.shape
        lines = np.concatenate([upper[half - middle - 1:], lower[half - height + middle:-1][::-1]])
        found.append(choose_cuts(ink > 0, lines[:, :width], through[:width]))
    return found


def best_paths(ink):
    """Return (crossed, paths) of the paths from the first row of ink, float (N, H, W), to each column of the last one, at most a
    column to either side a row: how much ink the best one crosses, float (N, W), and its columns, int (N, H, W)."""
    n, height, width = ink.shape
    total = np.pad(ink[:, 0], ((0, 0), (1, 1)), constant_values=np.inf)
    steps = np.zeros((height, n, width), dtype=np.int8)
    for row in range(1, height):
        straight, left, right = total[:, 1:-1], total[:, :-2] + ASIDE, total[:, 2:] + ASIDE
        best = np.minimum(straight, left)
        steps[row] = np.where(right < best, 1, -(left < straight).view(np.int8))
        total[:, 1:-1] = np.minimum(best, right) + ink[:, row]
    paths = np.empty((height, n * width), dtype=int)  # side by side, so that a column is found by its number
    paths[-1] = np.arange(n * width)
    for row in range(height - 1, 0, -1):
        paths[row - 1] = paths[row] + steps[row].ravel()[paths[row]]
    return total[:, 1:-1], (paths % width).reshape(height, n, width).swapaxes(0, 1)


ASIDE = 0.02  # of a pixel of ink: what a step to the side costs a path, so that it is straight where there is no ink


def choose_cuts(mask, lines, through, most=3):
    """Return the `most` best of lines, int (H, W), a path in each column, that part a mask, bool (H, W), each in its own way.
    through: float (W,), how much ink each path crosses."""
    height, width = mask.shape
    columns = np.arange(width)
    columns = columns[(0.1 * height <= columns) & (columns < width - 0.1 * height) & (through <= 2.2 * stroke_width(mask))]
    # how much of mask is left of each cut, row by row
    left = np.cumsum(mask, axis=1)[np.arange(height)[:, None], np.minimum(lines[:, columns], width - 1)]
    total = mask.sum()
    least, cuts = 0.08 * total, []
    good = (left.sum(axis=0) > least) & (total - left.sum(axis=0) > least)
    while good.any() and len(cuts) < most:
        at = np.where(good, through[columns], np.inf).argmin()
        cuts.append(lines[:, columns[at]])
        good &= np.abs(left - left[:, at:at + 1]).sum(axis=0) > least
    return cuts
