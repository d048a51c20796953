"""The lines in which digits stand, which may slant, and the order in which they are read."""

import math

import numpy as np

from reading.segments import components, sizes, weighted_median

SPECK = 0.12  # of a digit's height: what is smaller is no sign


def order_lines(box):
    """Return the lines in which boxes (N, 4) stand, from the top, each indices from left to right.

    A line may slant: its slope is the median of the directions from each box to its neighbour on
    the right.
    """
    if len(box) == 1:
        return [[0]]
    centre = (box[:, :2] + box[:, 2:]) / 2
    height = float(np.median(sizes(box).max(axis=1)))
    slope = find_slope(centre, height)
    lines = min((split_lines(centre, height, s) for s in (0.0, slope)), key=len)
    return [sorted(line, key=lambda i: centre[i, 0]) for line in lines]


def has_signs(box, lines, mask):
    """Say whether something that is no digit stands in a line of several digits: a minus, a point.

    box: int (N, 4), the digits'; lines: as order_lines() returns them; mask: bool (H, W), all ink.
    """
    if len(box) == 1:
        return False
    _, parts = components(mask)
    x, y = (parts[:, :2] + parts[:, 2:]).T / 2
    size, narrow = sizes(parts).max(axis=1), sizes(parts).min(axis=1)
    for ours in (box[line] for line in lines if len(line) > 1):
        left, top, right, bottom = ours.T
        height = np.median(sizes(ours).max(axis=1))
        within = (y > top.min()) & (y < bottom.max() + 0.1 * height)
        near = (x > left.min() - height) & (x < right.max() + height)
        speck = SPECK * height
        aside = is_aside(x, left, right, speck / 2)  # not over or under a digit, nor part of it
        signs = aside & (size > speck) & (size < 1.2 * height)
        # a point is smaller, stands low, and may have been taken for a part of the digit beside it
        body = parts[(size * holds(ours, x, y)).argmax(axis=1)]
        point = is_aside(x, body[:, 0], body[:, 2], speck / 2) & (size > speck / 2)
        point &= size < np.minimum(0.3 * height, 2 * narrow)
        point &= np.abs(y - np.median(bottom)) < 0.2 * height
        if (within & near & (signs | point)).any():
            return True
    return False


def is_aside(x, left, right, margin):
    """Return bool (N,): of x (N,), what lies in none of the spans left..right (M,)."""
    return ((x[:, None] < left - margin) | (x[:, None] > right + margin)).all(axis=1)


def holds(box, x, y):
    """Return bool (M, N): which of M boxes hold which of N points."""
    left, top, right, bottom = box.T[..., None]
    return (left < x) & (x < right) & (top < y) & (y < bottom)


def find_slope(centre, height):
    """Return the slope of the lines of centres (N, 2) of boxes so high, 0 if it can't be seen."""
    dx, dy = np.moveaxis(centre[None] - centre[:, None], 2, 0)  # from i to j
    distance = np.where(dx > 0.15 * height, dx + 2.5 * np.abs(dy), np.inf)
    i, j = np.arange(len(centre)), distance.argmin(axis=1)
    mutual = np.isfinite(distance[i, j]) & (distance.argmin(axis=0)[j] == i)
    dx, dy = dx[i, j][mutual], dy[i, j][mutual]
    level = (np.abs(dy) < 1.2 * dx) & (dx < 6 * height)
    return weighted_median((dy / dx)[level], dx[level]) if level.any() else 0.0


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
