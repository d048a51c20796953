"""Pieces of ink: connected, and cut where digits may touch; too many rather than too few, since number.py joins them again.

    pieces = find_pieces(look)       of a picture.Look, without what is drawn round others, bars and specks
"""

from collections import namedtuple

import cv2
import numpy as np

from picture import dilate, stroke_width

MANY = 400      # pieces: more are noise, or print

Pieces = namedtuple("Pieces", "label box mass at_edge worth origin height near bars")
Pieces.__doc__ = """Connected pieces of ink.

label: uint16 (H, W), 0 paper, piece i is i + 1; box: int (N, 4); mass: float (N,), in pixels of full ink; at_edge: float (N,),
how much of its length lies on the picture's edge; worth: float (N,), see find_worth(); origin: int (N,), the connected piece that it is, or is
a part of; height: float, that of a digit; near:
bool (N, N), see find_near(); bars: float, the mass of long lines that something may hang on.
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
    label, renumber = np.zeros(soft.shape, dtype=np.uint16), np.zeros(len(box), dtype=np.uint16)
    renumber[kept] = np.arange(1, len(kept) + 1)
    label[y, x] = renumber[which]
    pieces = Pieces(label, box[kept], mass[kept], at_edge[kept], None, np.arange(len(kept)), height, None,
                    bars)
    pieces = cut_touching(pieces, soft)
    return pieces._replace(near=find_near(pieces), worth=find_worth(pieces, soft))


def components(mask):
    """Return (y, x, which, box) of a bool mask (H, W): where it is True, and in which of its connected pieces, counted from 0,
    int (P,) each; and the pieces' boxes, int (N, 4): left, top, right, bottom, the last two exclusive.

    OpenCV's own statistics of its components take ten times as long.
    """
    n, label = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    y, x = np.nonzero(mask)
    which, box = label[y, x] - 1, np.repeat([[*mask.shape[::-1], 0, 0]], n - 1, axis=0)
    for side, at in enumerate((x, y)):
        np.minimum.at(box[:, side], which, at)
        np.maximum.at(box[:, side + 2], which, at + 1)
    return y, x, which, box


def sizes(box):
    """Return int (N, 2): width and height of boxes (N, 4)."""
    return box[:, 2:] - box[:, :2]


def edge_weight(at_edge):
    """Return how much a piece counts that lies along the picture's edge with that much of its length: a table, a finger."""
    return np.where(at_edge > 0.35, 0.3, 1)


def find_worth(pieces, soft):
    """Return how much each piece counts, float (N,), 1 for ink, less for a bar, for what lies along the edge or is a smudge.

    A pen's stroke ends within a pixel or two: next to its rim there is hardly any ink left. A shadow, a crease or a stain
    fades slowly. soft: float (H, W), ink in units of full ink.
    """
    worth = np.where(is_bar(pieces, soft.shape), 0.3, edge_weight(pieces.at_edge)) / np.maximum(crossings(pieces) - 1, 1)
    if max(soft.shape) <= CUT_OUT:
        return worth
    label, n = pieces.label, len(pieces.box)
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
    ink = np.isin(label, np.array(chosen) + 1).view(np.uint8)
    soft = np.minimum(look.ink / look.level, 1)
    rim = soft[(ink > 0) & (cv2.erode(ink, SQUARE) == 0)]
    beyond = soft[dilate(ink, 6) > dilate(ink, 3)]
    fading = beyond.mean() / rim.mean() if len(rim) and len(beyond) else 0
    along = np.average(pieces.at_edge[chosen], weights=pieces.mass[chosen])
    return 3 * look.noise / look.level + 2 * max(0, float(fading) - 0.1) + max(0, float(along) - 0.35)


def is_bar(pieces, shape):
    """Return bool (N,): thin, taller or wider than the digits are high, and nearly from edge to edge: a form's line."""
    size = sizes(pieces.box)
    long, thin = size.max(axis=1), size.min(axis=1)
    spans = (size / shape[::-1]).max(axis=1) > 0.7
    return spans & (long > 6 * thin) & (long > 1.15 * pieces.height)


def crossings(pieces):
    """Return int (N,): at how many places each connected piece leaves the picture at its left and right side, or above and
    below, whichever are fewer: a digit, or a line of them, at two at most, a grid at many."""
    label, fewest = pieces.label, None
    for sides in ((label[:, 0], label[:, -1]), (label[0], label[-1])):
        begins = np.concatenate([side[np.flatnonzero(np.diff(side, prepend=0))] for side in sides])
        places = np.bincount(pieces.origin[begins[begins > 0] - 1], minlength=len(pieces.box))
        fewest = places if fewest is None else np.minimum(fewest, places)
    return fewest[pieces.origin]


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
    """Return pieces with those that are wider than high cut where digits may touch; each part is a piece of its own."""
    width, height = sizes(pieces.box).T
    wide = np.flatnonzero((width > 1.1 * height) & (height > 0.5 * pieces.height) & (height < 2 * pieces.height))
    if len(wide) == 0 or len(wide) > 40:
        return pieces
    label, box, mass, origin = pieces.label, list(pieces.box), list(pieces.mass), list(pieces.origin)
    for i in wide:
        left, top, right, bottom = box[i]
        here = label[top:bottom, left:right]
        y, x = np.nonzero(here == i + 1)
        part = np.zeros(len(x), dtype=int)
        for where, slope in find_cuts(here == i + 1):
            part += x + slope * (y - (bottom - top) / 2) > where
        if np.ptp(part) == 0:
            continue
        for n, k in enumerate(np.flatnonzero(np.bincount(part))):
            px, py = x[part == k], y[part == k]
            each = i if n == 0 else len(box)  # the first part keeps the piece's number
            if n > 0:
                box.append(None), mass.append(0), origin.append(i)
            here[py, px] = each + 1
            box[each], mass[each] = outline(px + left, py + top), soft[py + top, px + left].sum()
    more = np.zeros(len(box) - len(pieces.box))
    return pieces._replace(box=np.array(box), mass=np.array(mass), origin=np.array(origin),
                           at_edge=np.concatenate([pieces.at_edge, more]))


def outline(x, y):
    """Return the box (left, top, right, bottom) of pixels."""
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


def find_cuts(mask, most=3):
    """Return [(x at half of the height, slope)] of the lines across a bool mask that cross little ink, from left to right."""
    height, width = mask.shape
    y, x = np.nonzero(mask)
    pen = stroke_width(mask)
    slopes = np.array([[-0.5], [-0.25], [0], [0.25], [0.5]])
    first, last = int(0.2 * height), int(width - 0.2 * height)
    column = np.clip(np.rint(x + slopes * (y - height / 2)).astype(int), 0, width - 1) + width * np.arange(len(slopes))[:, None]
    ink = np.bincount(column.ravel(), minlength=width * len(slopes)).reshape(-1, width)  # that each line crosses
    price = ink[:, first:last] + 0.2 * abs(slopes) * pen
    row, at = np.nonzero(price <= 2.2 * pen)
    cuts = []
    for _, at, slope in sorted(zip(price[row, at].tolist(), (first + at).tolist(), slopes[row, 0].tolist())):
        if len(cuts) < most and all(abs(at - other) > 0.25 * height for other, _ in cuts):
            cuts.append((at, slope))
    return sorted(cuts)
