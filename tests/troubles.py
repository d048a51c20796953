"""Pictures of one digit among other things, or written or lit so that it is hard to find. Kinds as in pictures.py.

Digits are written with MNIST's own pens or redrawn with another, photographed or drawn in a paint program.
"""

import cv2
import numpy as np
from PIL import Image

from strokes import (camera, clouds, draw_lines, enlarge, lay, light, path, pen_stroke, place, rotate, stationery,
                     tight, to_image, wobble)


def write(digit, rng, size, widths=(3, 10)):
    """Return a digit's ink, tight, by MNIST's pen or one of those widths in hundredths of size, turned a little."""
    ink = enlarge(digit, size) if rng.random() < 0.4 else pen_stroke(digit, size, rng.uniform(*widths) * size / 100)
    return tight(rotate(ink, rng.uniform(-6, 6)))


def pad(ink, rng, least, most):
    """Return ink with an empty margin on each side, in shares of its larger side."""
    size = max(ink.shape)
    top, bottom, left, right = (int(size * rng.uniform(least, most)) + 1 for _ in range(4))
    return np.pad(ink, ((top, bottom), (left, right)))


def show(rng, ink, *others, photo=0.6):
    """Return the picture of ink and of other ink, each in its own colour if given as (ink, colour), by camera or paint."""
    taken = rng.random() < photo
    paper, pen = stationery(rng) if taken or rng.random() < 0.3 else (np.ones(3), np.zeros(3))
    page = lay(paper, *((other if isinstance(other, tuple) else (other, pen)) for other in others), (ink, pen))
    if taken:
        return camera(page, rng)
    return to_image(1 - page if rng.random() < 0.15 else page)


# ---------------------------------------------------------------------------------------------------------------------
# Strokes that are no even black

def hatched(digit, rng):
    """A broad stroke, its outline drawn and shaded by parallel lines of a pencil or pen."""
    size = int(rng.integers(150, 320))
    distance = cv2.resize(path(digit), (size, size), interpolation=cv2.INTER_CUBIC) * size / 84
    distance += 0.006 * size * clouds(rng, size, size, size / 12)
    half, line = size * rng.uniform(0.035, 0.075), rng.uniform(1, 2.2)
    outline = np.clip(line / 2 + 0.5 - abs(distance - half), 0, 1) * rng.uniform(0.5, 1)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    ink, turn, gap = outline, rng.uniform(0, np.pi), line * rng.uniform(1.5, 3)
    for angle in (turn, turn + rng.uniform(0.6, 1.5))[:1 + (rng.random() < 0.3)]:
        phase = (np.cos(angle) * x + np.sin(angle) * y) / gap + 0.3 * clouds(rng, size, size, size / 10)
        stripes = np.clip((line / 2 - gap * abs(phase - np.round(phase))) + 0.5, 0, 1)
        strength = np.clip(0.8 + 0.15 * clouds(rng, size, size, size / 8), 0.4, 1)
        ink = np.maximum(ink, stripes * strength * np.clip(half + 1 - distance, 0, 1))
    return show(rng, pad(tight(ink), rng, 0.1, 0.6), photo=0.8)


def crayon(digit, rng):
    """A broad waxy stroke that leaves the hollows of the paper's grain white."""
    size = int(rng.integers(140, 300))
    half = size * rng.uniform(0.03, 0.065)
    distance = cv2.resize(path(digit), (size, size), interpolation=cv2.INTER_CUBIC) * size / 84
    grain = clouds(rng, size, size, rng.uniform(1.5, 3)) + 0.5 * clouds(rng, size, size, size / 8)
    pressure = rng.uniform(0.3, 1) - 0.6 * np.clip(distance / half, 0, 1) ** 2  # less at the stroke's edges
    ink = np.clip(0.5 + 1.5 * (grain + pressure), 0, 1) * np.clip(half + 0.5 - distance + grain, 0, 1)
    return show(rng, pad(tight(ink * rng.uniform(0.75, 1)), rng, 0.1, 0.6), photo=0.7)


def dry_brush(digit, rng):
    """A broad stroke of many bristles, each of which runs dry now and then; a round brush or a flat one."""
    size = int(rng.integers(160, 360))
    distance = cv2.resize(path(digit), (size, size), interpolation=cv2.INTER_CUBIC) * size / 84
    reach = int(size * rng.uniform(0.03, 0.055)) + 2
    distance = np.pad(distance, reach, constant_values=size)
    dry, ink = rng.uniform(-1.1, 0.1), np.zeros(distance.shape, dtype=np.float32)
    wet = clouds(rng, *distance.shape, size / 12)
    flat, turn = rng.random() < 0.3, rng.uniform(0, np.pi)
    for _ in range(36):
        r, angle = reach * np.sqrt(rng.random()), turn + rng.choice((0, np.pi)) if flat else rng.uniform(0, 2 * np.pi)
        shift = int(r * np.sin(angle)), int(r * np.cos(angle))
        own = np.roll(wet, tuple(rng.integers(0, size, 2)), (0, 1))
        bristle = np.clip(reach / 8 + 0.7 - np.roll(distance, shift, (0, 1)), 0, 1) * np.clip(4 * (own - dry), 0, 1)
        ink = np.maximum(ink, bristle)
    return show(rng, pad(tight(ink), rng, 0.08, 0.5), photo=0.5)


def faint_pencil(digit, rng):
    """A thin pencil line of little contrast, in the soft shadow of hand and phone."""
    size = int(rng.integers(80, 180))
    ink = tight(rotate(pen_stroke(digit, size, size * rng.uniform(0.02, 0.045)), rng.uniform(-8, 8)))
    ink = place(ink, rng, *(int(max(ink.shape) * rng.uniform(1.5, 3.5)) for _ in range(2)))
    height, width = ink.shape
    ink *= np.clip(0.85 + 0.2 * clouds(rng, height, width, 3), 0, 1)  # the paper's grain
    paper = np.clip(rng.uniform(0.7, 0.95) + rng.normal(0, 0.03, 3), 0, 1)
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    edge = (np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.5, 0.5)) / rng.uniform(0.3, 0.8)
    shade = light(rng, height, width) * (1 - rng.uniform(0.2, 0.45) / (1 + np.exp(-4 * edge)))[..., None]
    return camera(lay(paper, (ink, paper * rng.uniform(0.5, 0.75))), rng, shade)


# ---------------------------------------------------------------------------------------------------------------------
# What is left at a picture's edges

def framed(digit, rng):
    """A canvas with a frame of 1 to 8 pixels, mostly white with a black one."""
    ink = pad(write(digit, rng, int(rng.integers(80, 260))), rng, 0.15, 0.8)
    paper, pen = (np.ones(3), np.zeros(3)) if rng.random() < 0.7 else stationery(rng)
    colour = np.full(3, rng.choice((0, 0, 0.25, 0.5))) if rng.random() < 0.8 else rng.uniform(0, 0.5, 3)
    thick = int(rng.integers(1, 9))
    page = np.broadcast_to(colour, (ink.shape[0] + 2 * thick, ink.shape[1] + 2 * thick, 3)).copy()
    page[thick:-thick, thick:-thick] = lay(paper, (ink, pen))
    return to_image(page)


def letterbox(digit, rng):
    """A photograph as a phone's viewer shows it: black bars above and below, or left and right."""
    ink = pad(write(digit, rng, int(rng.integers(70, 200))), rng, 0.2, 0.9)
    paper, pen = stationery(rng)
    image = camera(lay(paper, (ink, pen)), rng)
    upright = int(rng.random() < 0.6)
    first = second = int(image.size[upright] * rng.uniform(0.08, 0.4))
    if rng.random() < 0.2:
        second = int(second * rng.uniform(0.5, 1))
    size = np.array(image.size)
    size[upright] += first + second
    box = Image.new("RGB", tuple(size.tolist()), (int(rng.choice((0, 0, 0, 8, 18))),) * 3)
    box.paste(image, (0, first) if upright else (first, 0))
    return box


def scan(digit, rng):
    """A sheet of A4 from a flatbed scanner, with a dark strip at one or two of its sides."""
    width = int(rng.integers(240, 480))
    height = int(1.414 * width)
    ink = place(write(digit, rng, int(width * rng.uniform(0.25, 0.6))), rng, height, width)
    page = lay(np.full(3, rng.uniform(0.95, 1)), (ink, stationery(rng)[1]))
    page += (0.008 * clouds(rng, height, width, 40))[..., None]
    for side in rng.choice(4, int(rng.integers(1, 3)), replace=False):
        page = np.rot90(page, side)
        thick = max(1, int(width * rng.uniform(0.004, 0.035)))
        fall = np.clip(np.arange(thick, 0, -1) / rng.uniform(1, thick + 1), 0, 1)[:, None, None]  # sharp or soft
        page = page.copy()
        page[:thick] += fall * (rng.uniform(0, 0.3) - page[:thick])
        page = np.rot90(page, -side)
    return to_image(page)


def form_cell(digit, rng):
    """A cell cut from a form, with one to four of its printed lines left at the edges."""
    size = int(rng.integers(60, 200))
    ink = pad(write(digit, rng, size), rng, 0.12, 0.4)
    lines = np.zeros_like(ink)
    for side in rng.choice(4, int(rng.integers(1, 5)), replace=False):
        view = np.rot90(lines, side)
        thick, away = max(1, int(size * rng.uniform(0.01, 0.04))), int(size * rng.choice((0, rng.uniform(0, 0.06))))
        view[away:away + thick] = 1
    turn = rng.uniform(-1, 1)
    lines = rotate_within(lines, turn) if rng.random() < 0.4 else lines
    return show(rng, ink, (lines, np.full(3, rng.uniform(0, 0.4))), photo=0.4)


def rotate_within(ink, degrees):
    """Return ink turned about its centre, of the same size; what it has at its edges reaches beyond."""
    height, width = ink.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(ink, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn beside a digit

def boxed(digit, rng):
    """A digit in a printed box that it does not touch."""
    size = int(rng.integers(70, 200))
    inner = pad(write(digit, rng, size), rng, 0.1, 0.4)
    margin = int(size * rng.uniform(0.15, 0.7))
    ink = np.pad(inner, margin)
    height, width = ink.shape
    x, y = (margin, width - margin), (margin, height - margin)
    box = draw_lines([[(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]), (x[0], y[0])]], height, width,
                     size * rng.uniform(0.01, 0.035))
    if rng.random() < 0.5:
        box = rotate_within(box, rng.uniform(-2, 2))
    return show(rng, ink, box if rng.random() < 0.4 else (box, rng.uniform(0, 0.5) + rng.uniform(0, 0.1, 3)))


def circled(digit, rng):
    """A digit in a circle drawn by hand with the same pen, whose ends may miss each other or cross."""
    size = int(rng.integers(80, 200))
    width = rng.uniform(2.5, 7) * size / 100
    inner = tight(rotate(pen_stroke(digit, size, width), rng.uniform(-6, 6)))
    height, wide = inner.shape
    turns = np.linspace(0, 2 * np.pi * rng.uniform(0.98, 1.1), 48) + rng.uniform(0, 2 * np.pi)
    radius = np.hypot(height, wide) / 2 + size * rng.uniform(0.08, 0.2)
    squeeze, drift = rng.uniform(0.92, 1.15), 1 + np.linspace(-0.03, 0.03, 48) * rng.uniform(-1, 1)
    ring = np.stack([radius * squeeze * np.cos(turns), radius * np.sin(turns)], axis=1) * drift[:, None]
    ring = wobble(ring, rng, size * rng.uniform(0, 0.015))
    margin = int(radius * 0.3 + size * rng.uniform(0.15, 0.6))
    middle = margin + radius
    canvas = np.zeros((int(2 * middle), int(2 * middle)), dtype=np.float32)
    y, x = int(middle - height / 2), int(middle - wide / 2)
    canvas[y:y + height, x:x + wide] = inner
    return show(rng, canvas, draw_lines([ring + middle], *canvas.shape, width))


def underlined(digit, rng):
    """A digit underlined once or twice, by hand or with a ruler, close enough to touch now and then."""
    size = int(rng.integers(80, 200))
    width = rng.uniform(2.5, 8) * size / 100
    inner = tight(rotate(pen_stroke(digit, size, width), rng.uniform(-6, 6)))
    ink = pad(inner, rng, 0.4, 0.9)
    below = np.flatnonzero(ink.any(1))[-1] + size * rng.uniform(0.02, 0.25)
    columns = np.flatnonzero(ink.any(0))
    left, right = columns[0] - size * rng.uniform(-0.05, 0.3), columns[-1] + size * rng.uniform(-0.05, 0.3)
    pen, tilt, shaky = width * rng.uniform(0.5, 1.2), size * rng.uniform(-0.05, 0.05), rng.choice((0, 0.005, 0.01)) * size
    lines = []
    for i in range(1 + (rng.random() < 0.15)):
        y = below + i * (pen + size * rng.uniform(0.05, 0.1)) + pen / 2
        lines.append(wobble([(left, y - tilt), (right, y + tilt)], rng, shaky))
    return show(rng, ink, draw_lines(lines, *ink.shape, pen))


def thick_grid(digit, rng):
    """Squared paper whose lines are thick, the squares about as large as the digit."""
    size = int(rng.integers(80, 200))
    ink = pad(write(digit, rng, size, (4, 9)), rng, 0.3, 1)
    height, width = (int(1.2 * side) for side in ink.shape)
    lines = np.zeros((height, width), dtype=np.float32)
    gap, thick = int(size * rng.uniform(0.35, 1)), max(2, int(size * rng.uniform(0.015, 0.04)))
    for start in range(int(rng.integers(0, gap)), max(height, width), gap):
        lines[start:start + thick] = 1
        lines[:, start:start + thick] = 1
    lines = rotate_within(lines, rng.uniform(-3, 3))[(height - ink.shape[0]) // 2:, (width - ink.shape[1]) // 2:]
    lines = lines[:ink.shape[0], :ink.shape[1]]
    return show(rng, ink, (lines, rng.uniform(0.45, 0.7) + rng.uniform(-0.05, 0.15, 3)), photo=0.8)


# ---------------------------------------------------------------------------------------------------------------------
# Sheets and light

def far_sheet(digit, rng):
    """A sheet that fills a third of the picture, on a table of another colour, perhaps turned; lit evenly or not."""
    size = int(rng.integers(60, 130))
    ink = pad(write(digit, rng, size), rng, 0.15, 0.9)
    paper, pen = stationery(rng)
    while True:
        table = rng.uniform(0.05, 0.8, 3) if rng.random() < 0.5 else rng.uniform(0.05, 0.6) * np.array((1, 0.8, 0.6))
        if abs(table - paper).mean() > 0.2:
            break
    sheet = np.dstack([lay(paper, (ink, pen)), np.ones(ink.shape, dtype=np.float32)])
    share = rng.uniform(0.25, 0.5)
    height, width = (int(side / np.sqrt(share) * rng.uniform(0.95, 1.2)) for side in ink.shape)
    turn = rng.uniform(-15, 15) if rng.random() < 0.7 else 0
    matrix = cv2.getRotationMatrix2D((ink.shape[1] / 2, ink.shape[0] / 2), turn, 1)
    room = np.array((width, height)) - ink.shape[::-1]
    matrix[:, 2] += room * rng.uniform(0.3, 0.7, 2)
    sheet = cv2.warpAffine(sheet, matrix, (width, height), flags=cv2.INTER_LINEAR)
    grain = 1 + rng.choice((0, 0.05)) * clouds(rng, height, width, 4)[..., None]  # wood or cloth
    page = table * grain * (1 - sheet[..., 3:]) + sheet[..., :3]
    return camera(page, rng, np.ones((1, 1, 1)) if rng.random() < 0.5 else None)


def hard_shadow(digit, rng):
    """A page with a shadow of 30 to 45 % whose edge is sharp, as of a phone under a lamp."""
    ink = pad(write(digit, rng, int(rng.integers(80, 200))), rng, 0.25, 1)
    height, width = ink.shape
    paper, pen = stationery(rng)
    middle = np.array((width, height)) * rng.uniform(0.3, 0.7, 2)
    angle, far = rng.uniform(0, 2 * np.pi), 2 * max(ink.shape)
    opening = rng.choice((np.pi, rng.uniform(1, 2.5)))  # a straight edge or a corner
    corners = [middle] + [middle + far * np.array((np.cos(a), np.sin(a)))
                          for a in np.linspace(angle - opening / 2, angle + opening / 2, 5)]
    shade = cv2.fillPoly(np.zeros(ink.shape, dtype=np.uint8), [np.round(corners).astype(np.int32)], 255)
    shade = cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.5, 3)).astype(np.float32) / 255
    lit = 1 - rng.uniform(0.3, 0.45) * shade[..., None]
    return camera(lay(paper, (ink, pen)), rng, lit * (light(rng, height, width) if rng.random() < 0.4 else 1))


def glare(digit, rng):
    """The reflection of a flash on the page, on or near the digit."""
    ink = pad(write(digit, rng, int(rng.integers(80, 200))), rng, 0.2, 0.8)
    height, width = ink.shape
    paper, pen = stationery(rng)
    page = lay(paper * rng.uniform(0.7, 0.95), (ink, pen)) * light(rng, height, width)
    x0, y0 = np.array((width, height)) * rng.uniform(0.2, 0.8, 2)
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - x0, (y - y0) * rng.uniform(0.7, 1.4)) / (max(height, width) * rng.uniform(0.1, 0.25))
    spot = rng.uniform(0.6, 0.85) * np.exp(-distance ** rng.uniform(2, 4))[..., None]
    return camera(page + spot * (1.1 - page), rng, np.ones((1, 1, 1)))


# ---------------------------------------------------------------------------------------------------------------------
# Digits that MNIST's writers write in another way: drawn anew, whatever the digit given

def one(digit, rng):
    """A European 1 with an upstroke, short to nearly as long as the stem, sometimes with a foot."""
    flag, lean = rng.uniform(0.15, 0.75), rng.uniform(-0.08, 0.25)
    top, foot = np.array((0.5 + lean, 0)), np.array((0.5, 1))
    start = top + (-rng.uniform(0.15, 0.5) * min(1, 0.5 + flag), flag)
    lines = [[start, top, foot]]
    if rng.random() < 0.35:
        half = rng.uniform(0.12, 0.3)
        lines.append([foot + (-half, rng.uniform(-0.03, 0.03)), foot + (half, rng.uniform(-0.03, 0.03))])
    return stroked(lines, rng)


def seven(digit, rng):
    """A European 7 with a bar across its stem, sometimes with a serif at its left."""
    left, right = rng.uniform(0, 0.1), rng.uniform(0.55, 0.75)
    foot, at = np.array((rng.uniform(0.15, 0.45), 1)), rng.uniform(0.42, 0.6)
    top = np.array((right, rng.uniform(-0.04, 0.06)))
    lines = [[(left, rng.uniform(0, 0.1)), top, foot]]
    if rng.random() < 0.25:
        lines[0].insert(0, (left + rng.uniform(-0.03, 0.03), rng.uniform(0.12, 0.22)))
    middle, half, tilt = top + at * (foot - top), rng.uniform(0.12, 0.25), rng.uniform(-0.06, 0.04)
    lines.append([middle + (-half, -tilt), middle + (half, tilt)])
    return stroked(lines, rng)


def stroked(lines, rng):
    """Return the picture of lines, in units of the digit's height, drawn by hand."""
    size, width = int(rng.integers(80, 220)), rng.uniform(0.025, 0.1)
    shaky = rng.choice((0.003, 0.008, 0.015))
    lines = [size * (0.5 + wobble(line, rng, shaky)) for line in lines]
    ink = tight(draw_lines(lines, 2 * size + 20, 2 * size, width * size))
    return show(rng, pad(ink, rng, 0.15, 0.9))


KINDS = [hatched, crayon, dry_brush, faint_pencil, framed, letterbox, scan, form_cell, boxed, circled, underlined, thick_grid,
         far_sheet, hard_shadow, glare, one, seven]
ALWAYS = {one: 1, seven: 7}  # the digit that a kind shows, whatever it is given
