"""From an array to ink: the ways in which a picture's pixels may be divided into ink and paper.

    for hypothesis in binarize(array):    a Hypothesis: ink, a mask of what counts as ink, ...
        ...

Ink is what differs from the paper around it, so any ink is read on any paper. How large the paper
around a pixel is, how faint ink may be, and whether ruled lines are ink, a picture does not say:
each answer is a hypothesis, and candidates.py and reader.py find out which one explains it.
"""

import math
from collections import namedtuple

import cv2
import numpy as np

from reading.image import LUMA, to_unit
from reading.normalize import dilate, quantile

PAPER_SIZE = 96  # pixels on the picture's long side when paper is estimated: it has no detail
BESIDE = 2  # pixels of these: as near to where paper suddenly becomes darker, ink may be its rest
PURE_NOISE = 3.5  # standard deviations: noise by itself reaches as far, at a pixel in a thousand
FULL = 100  # pixels: if the 0.1 % strongest are no ink, as many may be
MIN_CONTRAST = 0.04  # of the strongest ink, 0..1: below is the noise of blank paper
SPAN = 0.75  # of the picture: as long, a thin run is a ruled line whatever the digits' size
THUMBNAIL = 64  # pixels: a picture as small may be full of strokes
SHARES = 0.5, 0.25, 1.0  # of the picture's short side: how large the paper around a pixel is
THRESHOLDS = {"half of full ink or more": 0.5, "a third or more": 0.3, "faint ink too": 0.2}

Hypothesis = namedtuple("Hypothesis", "ink mask inverted lines name step", defaults=[0.0])
Hypothesis.__doc__ = """One way to binarize a picture.

ink: float32 (H, W), how far a pixel is from its paper, 0 paper .. 1 full ink, and more; mask: bool
(H, W), what counts as ink; inverted: True if ink is darker than its paper; lines: bool (H, W), the
ruled lines that were taken out of mask; name: str, in words, for people; step: float (H, W), in the
unit of ink, how far the paper jumps towards ink within BESIDE pixels of its estimate, as at the
edge of a shadow.
"""


def binarize(array, invert=None, shares=SHARES, length=None):
    """Yield each Hypothesis of array, float (H, W, C): the likely ones first, without lines last.

    shares: of subtract_paper(); one in which the picture is blank is left out. length: in pixels,
    that of the shortest ruled line. invert: as in find_ink().
    """
    length = length or max(10, int(0.4 * min(array.shape[:2])))
    noise = 0.0 if max(array.shape[:2]) <= THUMBNAIL else grain(array)
    least = max(MIN_CONTRAST, PURE_NOISE * noise)
    found = []
    for share in shares:
        difference, light, paper = subtract_paper(array, share)
        ink, axis, inverted = find_ink(difference, invert)
        paper = along_axis(paper, axis)
        # how much farther it goes up than down within reach: evenly falling light is no step
        step = dilate(paper, BESIDE) - dilate(-paper, BESIDE) - 2 * paper
        step = cv2.resize(step, ink.shape[::-1])
        if inverted:
            light = np.maximum(light, 0.4)
            ink, step = ink / light, step / light  # in a shadow the ink's contrast is less, too
        level = quantile(ink, 0.999)
        if level < least:  # small digits on a large page have fewer pixels than that
            level = quantile(ink, max(0.999, 1 - FULL / ink.size))
        if level < least:
            continue
        what = f"what is {'darker' if inverted else 'lighter'} than the paper within {share:.2g}"
        ink, step, none = ink / level, step / level, np.zeros(ink.shape, dtype=bool)
        found.append([])
        for how, mask in zip(THRESHOLDS, find_masks(ink)):
            name = f"{what} of the picture; {how}"
            found[-1].append(Hypothesis(ink, mask, inverted, none, name, step))
            yield found[-1][-1]
    for looks in found:
        lines = find_ruling(looks[1].mask, length)
        for each in looks:
            ruled = lines & each.mask
            if np.count_nonzero(ruled) > 0.05 * np.count_nonzero(each.mask):
                yield each._replace(mask=each.mask & ~lines, lines=ruled,
                                    name=f"{each.name}; without ruled lines")


def subtract_paper(array, share):
    """Return (array minus the paper around each pixel, the light on it (H, W), the paper, small).

    Paper is the median of a square neighbourhood whose side is `share` of the picture's short one:
    a median follows falling light, but also the edge of a hard shadow or of a sheet on a table,
    where a smooth surface can't. Right at such an edge anything between the two levels is paper.
    The light is 1 on the lightest paper and less in a shadow. array: float (H, W, C), and so is
    the paper, of PAPER_SIZE.
    """
    height, width, channels = array.shape
    scale = min(1, PAPER_SIZE / max(height, width))
    size = max(3, round(scale * width)), max(3, round(scale * height))
    small = cv2.resize(array, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], channels)
    reach = max(3, int(share * min(size))) | 1
    paper = cv2.medianBlur((255 * small + 0.5).astype(np.uint8), reach)
    paper = to_unit(paper).reshape(small.shape)
    darkest, lightest = (edge(paper, None).reshape(small.shape)
                         for edge in (cv2.erode, cv2.dilate))
    brightness = lightest.mean(axis=2)
    light = np.minimum(brightness / max(quantile(brightness, 0.9), 1e-6), 1)
    between = [cv2.resize(end, (width, height)).reshape(array.shape) for end in (darkest, lightest)]
    return array - np.clip(array, *between), cv2.resize(light, (width, height)), paper


def find_ink(difference, invert=None):
    """Return (ink, axis, inverted): ink float (H, W), 0 paper; inverted True if it is the darker.

    difference, float (H, W, C), is the picture without its paper. Ink is the distance from paper
    along the colour axis, float (C,), on which the strongest differences lie, so that red on green
    of the same lightness is ink too. Which end of the axis is ink is decided by the stronger side,
    or by invert (True: ink is the darker one).
    """
    strength = along_axis(difference * difference)
    strong = difference[strength >= quantile(strength, 0.98)]
    axis = np.linalg.eigh(strong.T @ strong)[1][:, -1].astype(np.float32)
    lighter = axis @ (LUMA if len(axis) == 3 else [1]) >= 0
    along = along_axis(difference, axis)
    other_end = np.vdot(along, np.abs(along)) < 0 if invert is None else lighter == invert
    if other_end:
        along, axis, lighter = -along, -axis, not lighter
    return np.maximum(along, 0), axis, not lighter


def along_axis(array, axis=None):
    """Return array, float (H, W, C), along an axis of colour, float (C,), or its mean: (H, W)."""
    if axis is None:
        axis = np.full(array.shape[2], 1 / array.shape[2], dtype=np.float32)
    return cv2.transform(array, axis[None])


def grain(array):
    """Return the standard deviation of the noise in array, along a unit vector of colour.

    Taken from the median difference of pixels two apart, side by side or one above the other,
    whichever is less: strokes are in few places, or run in one direction, and falling light
    differs by little. array: float (H, W, C).
    """
    grey = along_axis(array)
    apart = [quantile(np.abs(lines[2:] - lines[:-2]), 0.5)
             for lines in (grey, grey.T) if len(lines) > 2]
    return math.sqrt(array.shape[2]) * min(apart) / 0.954  # of a normal distribution


def find_masks(ink):
    """Yield what may count as ink, bool (H, W), of ink in units of full ink: the strictest first.

    All ink of half the strength, or of a third; then fainter ink too, where it hangs together with
    ink of half the strength (hysteresis, as of Canny's edges, 1986): a stroke that fades stays
    whole, and specks of faint noise stay out.
    """
    strict, lenient, faint = THRESHOLDS.values()
    yield ink > strict
    yield ink > lenient
    n, label = cv2.connectedComponents((ink > faint).view(np.uint8), connectivity=8)
    strong = np.zeros(n, dtype=bool)
    strong[label[ink > strict]] = True
    yield strong[label]


def find_ruling(mask, length):
    """Return bool (H, W): the ruled lines in mask, level or upright, thin runs of that length.

    Where a stroke crosses a line, or stands on it, the run is not thin, and the stroke stays whole.
    """
    found = np.zeros(mask.shape, dtype=bool)
    for turn in (np.asarray, np.transpose):
        pixels = np.ascontiguousarray(turn(mask)).view(np.uint8)
        height, width = pixels.shape
        long = min(length, int(SPAN * width))
        if long < 10:
            continue
        closed = cv2.morphologyEx(cv2.dilate(pixels, np.ones((3, 1), np.uint8)), cv2.MORPH_CLOSE,
                                  np.ones((1, max(3, long // 10)), np.uint8))
        runs = pixels & cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((1, long), np.uint8))
        outline = ((pixels[1:] != pixels[:-1]) & ((runs[1:] | runs[:-1]) > 0)).sum()
        thick = max(2, round(2 * runs.sum() / max(outline, 1)))
        if thick < 0.1 * height:
            upright = np.ones((int(1.8 * thick) + 1, 1), np.uint8)
            strokes = cv2.morphologyEx(pixels, cv2.MORPH_OPEN, upright)
            found |= turn((runs & ~strokes).view(bool))
    return found
