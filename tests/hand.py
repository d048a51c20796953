"""A made-up hand, to be learnt: its every 4 is closed at the top and slants far to the left, as a 9
does that leans back."""

import numpy as np
from strokes import draw_lines, shoot, stationery, wobble


def four(rng):
    """Return a photograph, a PIL image, of a 4 in this hand."""
    size = rng.uniform(70, 130)
    tip, left, cross, foot = (0.62, 0.0), (0.12, 0.55), (0.62, 0.58), (0.62, 1.0)
    points = np.array([tip, left, cross, tip, foot]) + rng.normal(0, 0.025, (5, 2))
    points[:, 0] += rng.uniform(0.85, 1.05) * (
        points[:, 1] - 0.5
    )  # to the left, from the foot upwards
    line = size * wobble(points, rng, 0.012)
    height, width = (int(size * rng.uniform(1.5, 2.2)) for _ in range(2))
    low, high = line.min(axis=0), line.max(axis=0)
    ink = draw_lines(
        [line - (low + high) / 2 + (width / 2, height / 2)],
        height,
        width,
        size * rng.uniform(0.05, 0.1),
    )
    paper, pen = stationery(rng)
    return shoot(ink, rng, paper, pen)


def fours(n, seed):
    """Return n such pictures, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    return [four(rng) for _ in range(n)]
