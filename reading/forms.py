"""What is drawn round digits, and is none: bars, boxes, circles, tables, the teeth of a comb."""

import cv2
import numpy as np

ALIKE = 0.06  # of their height: how far a comb's teeth may differ; digits by hand differ more


def may_be_writing(label, box, mass):
    """Return bool (N,): no flat bar, not what spans the picture or is drawn round others."""
    width, height = (box[:, 2:] - box[:, :2]).T
    size = np.maximum(width, height)
    high, wide = label.shape
    spans = (box[:, 0] == 0) & (box[:, 2] == wide) | (box[:, 1] == 0) & (box[:, 3] == high)
    keep = (width <= 4 * height) & ~(spans & (size > 4 * np.minimum(width, height)))
    for i in np.flatnonzero(size > 0.1 * max(label.shape)) if len(box) > 1 else ():
        margin = 0.04 * size[i]
        within = ((box[:, :2] > box[i, :2] + margin) & (box[:, 2:] < box[i, 2:] - margin)).all(1)
        large = np.flatnonzero(within & keep & (size > 0.25 * size[i]))
        drawn_round = any(size[j] > 0.5 * size[i] or surrounds(label, i + 1, box[j])
                          for j in large)  # a box, a circle, a corner of a cell; not a 7 its bar
        many = (within & keep & (size > 0.03 * size[i])).sum() >= 3 or within.sum() >= 12
        table = many and mass[i] < 0.1 * width[i] * height[i]
        keep[i] &= not (drawn_round or table)
    return keep


def surrounds(label, number, box):
    """Say whether label's part of that number lies on three sides of a box, as no 7 does."""
    left, top, right, bottom = box
    x, y = (left + right) // 2, (top + bottom) // 2
    sides = label[y, :x], label[y, x:], label[:y, x], label[y:, x]
    return sum((side == number).any() for side in sides) > 2


def breadth(mask):
    """Return how broad what a mask, bool (H, W), holds is across its length, however it is turned.

    So a ruled line is thin along a slope, too, and a line that something hangs on is not.
    """
    return min(cv2.minAreaRect(cv2.findNonZero(mask.view(np.uint8)))[1])


def are_teeth(label, box):
    """Return bool (N,): upright lines of one height, at one step, with other ink between them.

    The separators of a form's boxes look like this once its level lines are left out. Ones by hand
    differ in height, or there is nothing else between them. label, box: as of components().
    """
    width, height = (box[:, 2:] - box[:, :2]).T
    area = np.bincount(label.ravel())[1:]
    straight = np.flatnonzero((height > 2.5 * width) & (area > 0.5 * width * height))
    teeth = np.zeros(len(box), dtype=bool)
    for i in straight if len(straight) > 2 else ():
        apart = np.abs(box[straight] - box[i])[:, 1::2].max(axis=1)
        like = straight[apart <= ALIKE * height[i] + 1]
        edges = np.sort(box[like, 0])
        steps = np.diff(edges)
        if len(steps) < 2 or steps.min() <= width[i]:
            continue
        others = (box[:, 1] < box[i, 3]) & (box[:, 3] > box[i, 1])  # at the same level
        others[straight] = False  # they may be ones
        filled = np.histogram(box[others, ::2].mean(axis=1), edges)[0] > 0
        cells = steps / steps.min()
        regular = np.abs(cells - np.round(cells)) < 2 * ALIKE * cells
        teeth[i] = regular.all() and 2 * filled.sum() >= len(steps)
    return teeth
