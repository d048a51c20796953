"""From a digit's ink to what the network saw in training: 20x20 pixels in 28x28.

    normalize_digit(ink, mask)    uint8 (28, 28), white on black
"""

import cv2
import numpy as np
from PIL import Image

REACH = 0.06  # of the digit's size: fainter ink as near as this is the digit's too
TRACE = 0.2  # of full ink: anything below is paper
PEN = 2.4  # the least stroke width in the 20 pixels of a digit; MNIST's pens draw about 2 to 4


def normalize_digit(ink, mask):
    """Return a digit as uint8 (28, 28), white on black, as MNIST has them.

    The digit is fitted into 20x20 pixels, keeping its aspect ratio, and its centre of mass put in
    the middle of 28x28 (LeCun et al. 1998, section III.A). Strokes thinner than PEN are widened
    first. ink: float (H, W), 0 paper .. 1 full ink; mask: bool (H, W), the digit.
    """
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    size = max(width, height)
    reach = max(1, round(REACH * size))
    grow = max(0, round((PEN * size / 20 - stroke_width(mask)) / 2))
    margin = reach + grow
    window = (slice(max(top - margin, 0), top + height + margin),
              slice(max(left - margin, 0), left + width + margin))
    mask, ink = (cv2.copyMakeBorder(array[window], *[margin] * 4, cv2.BORDER_CONSTANT)
                 for array in (mask.view(np.uint8), ink))
    soft = cv2.copyTo(np.minimum(ink, 1), dilate(mask, reach))
    soft *= soft >= TRACE
    fitted = fit((255 * dilate(soft, grow)).astype(np.uint8))
    height, width = fitted.shape
    mass = cv2.moments(fitted)
    top = min(max(round(13.5 - mass["m01"] / mass["m00"]), 0), 28 - height)
    left = min(max(round(13.5 - mass["m10"] / mass["m00"]), 0), 28 - width)
    view = np.zeros((28, 28), dtype=np.uint8)
    view[top:top + height, left:left + width] = fitted
    return view


def fit(soft):
    """Return the ink in soft, uint8 (H, W), 20 pixels on its long side."""
    left, top, width, height = cv2.boundingRect(soft)
    box, scale = (left, top, left + width, top + height), 20 / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BICUBIC, box=box))


def quantile(array, share):
    """Return the value that this share of array stays below or reaches."""
    at = int(share * (array.size - 1))
    return float(np.sort(array, axis=None)[at])  # partition() is slow where much of it is 0


def dilate(array, radius):
    """Return array (H, W), each pixel the largest of those at most radius rows, columns away."""
    return cv2.dilate(array, np.ones((2 * radius + 1, 2 * radius + 1), dtype=np.uint8))


def stroke_width(mask):
    """Return the mean width in pixels of mask's strokes: twice its area over its outline."""
    edges = (np.count_nonzero(mask[1:] != mask[:-1])
             + np.count_nonzero(mask[:, 1:] != mask[:, :-1]))
    return 2 * np.count_nonzero(mask) / max(edges * np.pi / 4, 1)  # of slanted edges too
