"""What happened to a picture while it was taken, undone: light fell on it unevenly, was reflected, or the camera moved.

    difference, light = subtract_paper(array, share)     what differs from the paper, and how much light fell on it
    ink = undo_glare(array)                              as if nothing shone on the paper, or None if nothing seems to
    for ink, how in undo_motion(ink):                    as if it had not moved, in the ways that may be true

Pure functions of arrays, whose results picture.py offers among its looks. OpenCV and NumPy only.
"""

import cv2
import numpy as np

WHITE = 1.1         # what a reflection tends to, 1 what the camera can record: a light is lighter than white paper
GLARE = 0.15, 0.85, 0.4  # how much lighter the paper is there than elsewhere, and how light; how light it is elsewhere, at least
STEEP = 0.3         # of that, how much its light rises within a pixel, at most
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


def undo_motion(ink):
    """Yield (ink, float32 (H, W), its name) without the blur of a picture that moved while it was taken, in directions and by
    lengths that may be true: where the picture was sharp, or moved otherwise, much of what comes out is less than no ink.

    Wiener's filter (1949); the transform of a straight movement is a sinc. Longest first: half of it is no good, but may be true.
    """
    y, x = np.fft.fftfreq(ink.shape[0])[:, None], np.fft.rfftfreq(ink.shape[1])
    along = np.array([np.cos(turn) * x + np.sin(turn) * y for turn in np.arange(16) * np.pi / 16])
    for length in (min(ink.shape) / 3, min(ink.shape) / 4, min(ink.shape) / 6):
        moved = np.sinc(length * along)
        still = np.fft.irfft2(np.fft.rfft2(ink) * moved / (moved ** 2 + 0.01), ink.shape).astype(np.float32)
        less = -np.minimum(still, 0).sum(axis=(1, 2)) / np.maximum(still, 0).sum(axis=(1, 2))
        for i in np.argsort(less)[:2]:
            if less[i] < 0.2:  # of what is ink; 0.1 if it is true, 0.6 of a sharp picture
                yield np.maximum(still[i], 0), f"as if moved by {length:.1f} pixels at {11.25 * i:.1f} degrees"


def undo_glare(array):
    """Return the dark ink, float32 (H, W), of an array, float (H, W, C), as if no light were reflected from its paper; None if
    no light fades so slowly on its paper. A reflection covers ink and paper by the same share: what it leaves of
    the way from paper to ink is what it leaves of the way from paper to white.
    """
    height, width = array.shape[:2]
    grey = at_paper_size(array).mean(axis=2)
    reach = max(3, int(0.2 * min(grey.shape))) | 1  # wider than a stroke; a reflection is wider still
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    paper = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, disc)
    usual, lightest, paper = np.quantile(paper, 0.7), paper.max(), cv2.GaussianBlur(paper, (0, 0), 1)  # a reflection covers less
    if usual < GLARE[2] or lightest < max(usual + GLARE[0], GLARE[1]):
        return None
    above = np.maximum(paper, usual)
    if max(abs(np.diff(above, axis=axis)).max() for axis in (0, 1)) > STEEP * (lightest - usual):  # chalk, or a lighter sheet
        return None
    paper = cv2.resize(paper, (width, height))
    return (np.maximum(paper - array.mean(axis=2), 0) * (WHITE - usual) / np.maximum(WHITE - paper, 0.1)).astype(np.float32)
