"""What happened to a picture while it was taken, undone: light fell on it unevenly, was reflected, or the camera moved.

    difference, light = subtract_paper(array, share)     what differs from the paper, and how much light fell on it
    ink = undo_glare(array)                              as if nothing shone on the paper, or None if nothing seems to
    for ink, how in undo_motion(ink):                    as if it had not moved, in the ways that may be true

Pure functions of arrays, whose results picture.py offers among its looks. OpenCV and NumPy only.
"""

import cv2
import numpy as np

PAPER_SIZE = 96     # pixels on the long side of the picture in which the paper is looked for: paper has no detail


def at_paper_size(array):
    """Return array, float (H, W, C), reduced to PAPER_SIZE."""
    height, width, channels = array.shape
    scale = min(1, PAPER_SIZE / max(height, width))
    size = max(3, round(scale * width)), max(3, round(scale * height))
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], channels)


def subtract_paper(array, share):
    """Return array, float (H, W, C), minus the paper around each pixel, and by how much its light falls short, (H, W).

    Paper is the median of a square neighbourhood whose side is `share` of the picture's short one: a median follows falling
    light, but also the edge of a hard shadow, of a sheet on a table or of black bars, where a smooth surface can't. Right
    at such an edge anything between the two levels is paper. The light is 1 on the lightest paper and less in a shadow.
    """
    height, width = array.shape[:2]
    small = at_paper_size(array)
    paper = cv2.medianBlur((255 * small + 0.5).astype(np.uint8), max(3, int(share * min(small.shape[:2]))) | 1)
    ends = [edge(paper, np.ones((3, 3), np.uint8)).astype(np.float32) / 255 for edge in (cv2.erode, cv2.dilate)]
    lowest, highest = (cv2.resize(end, (width, height)).reshape(array.shape) for end in ends)
    brightness = ends[1].reshape(small.shape).mean(axis=2)
    light = np.minimum(brightness / max(np.quantile(brightness, 0.9, method="lower"), 1e-6), 1)
    return array - cv2.min(cv2.max(array, lowest), highest).reshape(array.shape), cv2.resize(light, (width, height))
