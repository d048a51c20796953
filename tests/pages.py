"""Pictures of several digits by one pen: lines, pages of lines, forms.

Every kind is a function of (digits, rng): digits is a list of MOST pairs (float (28, 28), digit), of which it takes as many
as it needs. It returns (PIL image, text), text with a newline between lines.
"""

import cv2
import numpy as np

from strokes import camera, clouds, colours, enlarge, lay, light, pen_stroke, stationery, tight, to_image
from troubles import rotate_within

MOST = 60  # digits on a page


def a_pen(rng, height, widths=(4, 11)):
    """Return a function that writes a digit about `height` pixels high: ink, tight. One pen, one slant."""
    size = int(height * 1.4)  # MNIST's digits are 20 of 28 pixels high
    width = None if rng.random() < 0.35 else rng.uniform(*widths) * height / 100
    slant = rng.uniform(-0.15, 0.15)

    def write(digit):
        own = max(12, int(size * rng.uniform(0.9, 1.1)))
        ink = enlarge(digit, own) if width is None else pen_stroke(digit, own, width)
        matrix = np.float32([[1, -slant, slant * own / 2 + 4], [0, 1, 4]])
        return tight(cv2.warpAffine(ink, matrix, (own + 8, own + 8), flags=cv2.INTER_LINEAR))

    return write


def gap_between(left, right):
    """Return the least distance along any row between two inks, (row of the top, ink) each, set box to box."""
    (y0, a), (y1, b) = left, right
    top, bottom = max(y0, y1), min(y0 + len(a), y1 + len(b))
    if bottom <= top:
        return 0
    a, b = a[top - y0:bottom - y0] > 0.3, b[top - y1:bottom - y1] > 0.3
    after = np.where(a.any(1), a[:, ::-1].argmax(1), a.shape[1])
    before = np.where(b.any(1), b.argmax(1), b.shape[1])
    return int((after + before).min())


def line_ink(inks, rng, height, spacing, touching=False, baseline=0.04):
    """Return the ink of a line: inks from left to right, `spacing` heights apart; touching: two neighbours touch."""
    boxes = [(int(2 * height - len(ink) + height * baseline * rng.normal()), ink) for ink in inks]
    pair, gaps = 0, [gap_between(*two) for two in zip(boxes, boxes[1:])]
    if touching and gaps:  # not those of which one would have to lie within the other
        near = [i + 1 for i, gap in enumerate(gaps) if gap < 0.15 * height]
        pair = int(rng.choice(near)) if near else int(np.argmin(gaps)) + 1
    at, x = [], 0
    for i, (_, ink) in enumerate(boxes):
        if i and i == pair:  # moved until they overlap by a little
            x -= gaps[i - 1] + max(2, int(0.02 * height))
        elif i:
            x += max(2, int(height * max(0.06, spacing * rng.uniform(0.6, 1.4))))
        at.append(max(x, 0))
        x = at[-1] + ink.shape[1]
    canvas = np.zeros((int(3 * height), max(a + b[1].shape[1] for a, b in zip(at, boxes))), dtype=np.float32)
    for x, (y, ink) in zip(at, boxes):
        view = canvas[y:y + len(ink), x:x + ink.shape[1]]
        np.maximum(view, ink, out=view)
    return canvas


def numbers(digits, rng, least=2, most=10):
    """Return (arrays, their text) of the first few digits."""
    some = digits[:int(rng.integers(least, most + 1))]
    return [array for array, _ in some], "".join(str(label) for _, label in some)


def turn(ink, degrees):
    """Return ink turned, on a canvas that holds all of it."""
    height, width = ink.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    c, s = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = int(width * c + height * s) + 2, int(width * s + height * c) + 2
    matrix[:, 2] += np.array(size) / 2 - (width / 2, height / 2)
    return cv2.warpAffine(ink, matrix, size, flags=cv2.INTER_LINEAR)


def margins(ink, rng, height, least=0.3, most=1.5):
    """Return tight ink with margins, in units of the digits' height."""
    ink = tight(ink)
    top, bottom, left, right = (int(height * rng.uniform(least, most)) + 2 for _ in range(4))
    return np.pad(ink, ((top, bottom), (left, right)))


def ruling(shape, gap, thick, start=0.0, degrees=0.0, squared=False):
    """Return the lines of a ruled or squared page, `gap` apart, one of them `start` below the top."""
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:shape[0], :shape[1]].astype(np.float32)
    axes = ((y - start) * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle))[:1 + squared]
    away = np.min([gap * abs(axis / gap - np.round(axis / gap)) for axis in axes], axis=0)
    return np.clip(thick / 2 + 0.5 - away, 0, 1)


def photograph(ink, rng, lines=None, pen=None, lit=None):
    paper, own = stationery(rng)
    layers = [] if lines is None else [(lines, paper * rng.uniform(0.55, 0.85))]
    return camera(lay(paper, *layers, (ink, own if pen is None else pen(paper))), rng, lit)


def one_line(digits, rng, degrees=4.0, touching=None, height=None, widths=(4, 11)):
    """Return (ink with margins, text, height of the digits) of a line."""
    arrays, text = numbers(digits, rng)
    height = int(rng.integers(32, 90)) if height is None else height
    write = a_pen(rng, height, widths)
    touching = rng.random() < 0.15 if touching is None else touching
    ink = line_ink([write(array) for array in arrays], rng, height, rng.uniform(0.1, 0.7), touching)
    return margins(turn(ink, rng.uniform(-degrees, degrees)), rng, height), text, height


# ---------------------------------------------------------------------------------------------------------------------
# Lines

def line(digits, rng):
    """A line, photographed."""
    ink, text, _ = one_line(digits, rng)
    return photograph(ink, rng), text


def touching_line(digits, rng):
    """A line in which two digits touch."""
    ink, text, _ = one_line(digits, rng, touching=True)
    return photograph(ink, rng), text


def slanted_line(digits, rng):
    """A line that climbs or falls by up to 20 degrees, one in six by up to 40."""
    ink, text, _ = one_line(digits, rng, degrees=40 if rng.random() < 1 / 6 else 20)
    return photograph(ink, rng), text


def painted_line(digits, rng):
    """A line drawn in a paint program: exact colours, white on black one time in three."""
    ink, text, _ = one_line(digits, rng)
    if rng.random() < 0.3:
        ink = (ink > 0.5).astype(np.float32)
    paper, pen = (np.ones(3), np.zeros(3)) if rng.random() < 0.7 else colours(rng)
    page = lay(paper, (ink, pen))
    return to_image(1 - page if rng.random() < 1 / 3 else page), text


def ruled_line(digits, rng):
    """A line on ruled or squared paper, standing on the rule or with rules through it."""
    ink, text, height = one_line(digits, rng, degrees=1.5)
    gap, squared = height * rng.uniform(0.5, 2), rng.random() < 0.4
    stands = np.flatnonzero(ink.any(1))[-1] + height * rng.uniform(-0.05, 0.1)
    start = stands if rng.random() < 0.5 else rng.uniform(0, gap)
    lines = ruling(ink.shape, gap, rng.uniform(0.8, 2.2), start, rng.uniform(-1, 1), squared)
    return photograph(ink, rng, lines), text


def pencil_line(digits, rng):
    """A line in thin, faint pencil, in a soft shadow."""
    ink, text, _ = one_line(digits, rng, widths=(3, 6))
    ink = ink * np.clip(0.85 + 0.2 * clouds(rng, *ink.shape, 3), 0, 1)
    height, width = ink.shape
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    edge = (np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.5, 0.5)) / rng.uniform(0.3, 0.8)
    lit = light(rng, height, width) * (1 - rng.uniform(0.2, 0.4) / (1 + np.exp(-4 * edge)))[..., None]
    return photograph(ink, rng, pen=lambda paper: paper * rng.uniform(0.45, 0.7), lit=lit), text


def shadowed_line(digits, rng):
    """A line with the sharp shadow of a phone across it."""
    ink, text, _ = one_line(digits, rng)
    height, width = ink.shape
    x0, lean = rng.uniform(0.2, 0.8) * width, rng.uniform(-1, 1)
    y, x = np.mgrid[:height, :width]
    step = np.clip((x - x0 + lean * (y - height / 2)) / rng.uniform(2, 20) + 0.5, 0, 1)
    if rng.random() < 0.5:
        step = 1 - step
    lit = light(rng, height, width) * (1 - rng.uniform(0.25, 0.45) * step)[..., None]
    return photograph(ink, rng, lit=lit), text


def small_line(digits, rng):
    """A line written small on a large page: 1600x1200 pixels or upright, the digits 40 high."""
    ink, text, _ = one_line(digits, rng, degrees=8, height=int(rng.integers(34, 50)))
    width, height = (1600, 1200) if rng.random() < 0.5 else (1200, 1600)
    page = np.zeros((height, width), dtype=np.float32)
    y, x = (int(rng.uniform(0.15, 0.85) * (room - side)) for room, side in zip(page.shape, ink.shape))
    page[y:y + ink.shape[0], x:x + ink.shape[1]] = ink
    lit = cv2.resize(light(rng, height // 8, width // 8).astype(np.float32), (width, height))[..., None]
    return photograph(page, rng, lit=lit), text


# ---------------------------------------------------------------------------------------------------------------------
# Pages and forms

def some_lines(digits, rng, height, degrees):
    """Return (ink, text) of two to six lines."""
    write, spacing, leading = a_pen(rng, height), rng.uniform(0.15, 0.6), rng.uniform(1.6, 2.4)
    rows, texts, at = [], [], 0
    typical = int(rng.integers(2, 9))
    for _ in range(int(rng.integers(2, 7))):
        arrays, text = numbers(digits[at:at + typical + 1], rng, max(1, typical - 1), typical + 1)
        at += len(arrays)
        rows.append(line_ink([write(array) for array in arrays], rng, height, spacing, rng.random() < 0.05))
        texts.append(text)
    left = [int(height * abs(rng.normal(0, 0.1))) for _ in rows]
    step = int(height * leading)
    page = np.zeros((step * len(rows) + 3 * height, max(len(row[0]) + x for row, x in zip(rows, left))), dtype=np.float32)
    for i, (row, x) in enumerate(zip(rows, left)):
        view = page[i * step:i * step + len(row), x:x + len(row[0])]
        np.maximum(view, row, out=view)
    return turn(page, rng.uniform(-degrees, degrees)), "\n".join(texts)


def page(digits, rng):
    """Two to six lines, photographed, one in four on ruled paper; or painted."""
    height = int(rng.integers(28, 56))
    ink, text = some_lines(digits, rng, height, rng.choice((2, 2, 8)))
    ink = margins(ink, rng, height)
    if rng.random() < 0.3:
        image = lay(np.ones(3), (ink, np.zeros(3)))
        return to_image(1 - image if rng.random() < 0.3 else image), text
    lines = None
    if rng.random() < 0.3:
        lines = ruling(ink.shape, height * rng.uniform(0.8, 2), rng.uniform(0.8, 2), 0, rng.uniform(-2, 2))
    return photograph(ink, rng, lines), text


def boxes(digits, rng):
    """A line of boxes as forms have them, apart or side by side, a digit in each."""
    arrays, text = numbers(digits, rng, 2, 8)
    height = int(rng.integers(32, 80))
    return cells([arrays], rng, height, rng.choice((0, rng.uniform(0.1, 0.5)))), text


def table(digits, rng):
    """A printed table of two to five rows, a digit in each cell."""
    rows, columns = (int(rng.integers(2, 6)) for _ in range(2))
    grid = [digits[i * columns:(i + 1) * columns] for i in range(rows)]
    image = cells([[array for array, _ in row] for row in grid], rng, int(rng.integers(28, 56)), 0)
    return image, "\n".join("".join(str(label) for _, label in row) for row in grid)


def cells(grid, rng, height, apart):
    """Return the picture of digits, a list of rows, in printed cells, `apart` heights from each other."""
    write, thick = a_pen(rng, height), max(1, int(height * rng.uniform(0.015, 0.05)))
    high, wide, step = int(height * rng.uniform(1.4, 1.9)), int(height * rng.uniform(1.25, 1.8)), int(apart * height)
    margin = int(height * rng.uniform(0.3, 1.2)) + 2
    size = len(grid) * (high + step) + 2 * margin, len(grid[0]) * (wide + step) + 2 * margin
    ink, lines = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
    for i, row in enumerate(grid):
        for j, array in enumerate(row):
            top, left = margin + i * (high + step), margin + j * (wide + step)
            lines[top:top + high + thick, left:left + wide + thick] = 1
            lines[top + thick:top + high, left + thick:left + wide] = 0
            digit = write(array)
            room = np.array((high, wide)) - digit.shape - 2 * thick
            y, x = (np.maximum(room, 0) * rng.uniform(0.3, 0.7, 2)).astype(int) + (top + thick, left + thick)
            view = ink[y:y + digit.shape[0], x:x + digit.shape[1]]
            view[:] = np.maximum(view, digit[:view.shape[0], :view.shape[1]])
    turned = rng.uniform(-3, 3) if rng.random() < 0.6 else 0
    ink, lines = turn(ink, turned), turn(lines, turned)
    if rng.random() < 0.35:
        return to_image(lay(np.ones(3), (lines, np.full(3, rng.uniform(0, 0.6))), (ink, stationery(rng)[1])))
    return photograph(ink, rng, lines)


def field(digits, rng):
    """A field cut from a form, 37 pixels high, binarized: digits between a comb's teeth or in the cells of a frame."""
    arrays, text = numbers(digits, rng, 3, 9)
    height, width, thick = 74, 640, int(rng.integers(2, 5))  # twice its size
    write = a_pen(rng, int(rng.integers(36, 52)), (6, 12))
    cell = min(64, (width - 8) / len(arrays))
    bottom, left = height - int(rng.integers(4, 12)), rng.uniform(4, max(5, width - len(arrays) * cell))
    framed = rng.random() < 0.4
    top = 4 if framed else bottom - int(height * rng.uniform(0.1, 0.5))
    edges = np.arange(left, width - thick, cell).astype(int)[:len(arrays) + 1 + int(rng.integers(0, 4))]
    ink, lines = np.zeros((height, width), dtype=np.float32), np.zeros((height, width), dtype=np.float32)
    for x in edges:
        lines[top:bottom, x:x + thick] = 1
    for y, drawn in ((bottom, 0.8), (top, 0.8 * framed)):
        lines[y:y + thick, edges[0]:edges[-1] + thick] = rng.random() < drawn
    for x, array in zip(edges, arrays):
        digit = write(array)
        scale = min(1, (cell - thick) / digit.shape[1], (bottom - 2) / digit.shape[0])
        digit = cv2.resize(digit, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        room = np.maximum(np.array((bottom - 2, cell - thick)) - digit.shape, 0)
        y, x = (room * rng.uniform((0.3, 0.2), (1, 0.8))).astype(int) + (2, x + thick)
        view = ink[y:y + digit.shape[0], x:x + digit.shape[1]]
        view[:] = np.maximum(view, digit[:view.shape[0], :view.shape[1]])
    page = np.maximum(ink, rotate_within(lines, rng.uniform(-0.5, 0.5)))
    return to_image(cv2.resize(page, (width // 2, height // 2), interpolation=cv2.INTER_AREA) < 0.4), text


KINDS = [line, touching_line, slanted_line, painted_line, ruled_line, pencil_line, shadowed_line, small_line, page, boxes, table, field]
