"""A window to draw a digit in, read while it is drawn.

What is drawn is a picture like any other, so a drawing that was saved to a file is read alike. One that is misread can be kept
with its right digit, for train.py --mine to learn.
"""

import io
from types import SimpleNamespace

import cv2
import numpy as np
from PIL import Image

from training import own_pictures
from figures import plots
import utils
from reading.image import PictureError
from reading.reader import most_prominent
from utils import LeNetError

CANVAS = 384  # pixels on each side of the drawing: about what the window shows of it
NIB = 24      # pixels: the width of the pen
DIGITS = tuple("0123456789")
HINT = "Misread? Press the right digit, 0 to 9: it will be kept to learn from."


def paint(strokes):
    """Return strokes, lists of (x, y) in pixels of the canvas, as a grey PIL image, drawn with a round pen on paper."""
    page = np.full((CANVAS, CANVAS), 250, dtype=np.uint8)
    for stroke in strokes:
        points = np.array(stroke[:1] + stroke).round().astype(np.int32)  # a dot is a line from a point to itself
        cv2.polylines(page, [points], False, 25, NIB, cv2.LINE_AA)
    return Image.fromarray(page)


def draw(read, save=utils.ASSETS / "drawing.png", own=utils.DATA / "mine"):
    """Return a Figure to draw a digit on, or a number, which is read while it is drawn; window.open_window shows it.

    read(PIL image) returns (a Reading or None, what is said of it). The window's keys, each with a button: c
    clears, u or ctrl+z takes the last stroke back, s writes the picture to the file save, as PNG, and q closes the window; the keys
    0 to 9 keep it as that digit in the folder own.
    """
    strokes, pen = [], None  # pen: the stroke that is being drawn, the last one of strokes
    figure, canvas, parts, redraw = lay_out()

    def update(text=""):
        """Read the strokes, show what was read, and text below."""
        image = paint(strokes)
        reading, answer = read(image)
        main = None if reading is None else most_prominent(reading.digits)
        parts.page.set_data(image)
        mark(canvas, parts.marks, reading)
        parts.hint.set_visible(not strokes)
        parts.inside.set_data(np.zeros((28, 28)) if main is None else main.view)
        plots.set_bars(parts.bars, [0] * 10 if main is None else main.probabilities)
        parts.said.set_text(answer.replace(": ", ":\n") if reading is None else answer)
        parts.said.set_fontsize(11 if reading is None else 18)
        parts.note.set_text(text.replace("$", r"\$") or (HINT if strokes else ""))  # two $ in a path are no formula
        redraw()

    def position(event):  # beyond the canvas too, where paint() draws nothing
        return canvas.transData.inverted().transform((event.x, event.y)).tolist()

    def press(event):
        nonlocal pen
        if event.inaxes is canvas and event.button == 1:
            pen = [position(event)]
            strokes.append(pen)
            update()

    def move(event):
        if pen is not None:
            pen.append(position(event))
            update()

    def release(event):
        nonlocal pen
        pen = None

    def forget(start):
        del strokes[start:]
        update()

    figure.canvas.mpl_connect("button_press_event", press)
    figure.canvas.mpl_connect("motion_notify_event", move)
    figure.canvas.mpl_connect("button_release_event", release)
    bind(figure, {"c": ("Clear", lambda: forget(0)), "u": ("Undo", lambda: forget(-1)),
                  "s": ("Save", lambda: update(write(strokes, save))), "q": ("Quit", lambda: close(figure))})
    figure.canvas.mpl_connect("key_press_event", lambda event: event.key in DIGITS and update(teach(strokes, event.key, own)))
    update()
    return figure


def lay_out():
    """Return (the window's Figure, the axes to draw on, the parts that change by name, the function that redraws them)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.6), label="LeNet-5 reads what you draw")  # laid out by hand: a layout engine is slow
    canvas, seen, chart = (figure.add_axes(place) for place in (
        (0.02, 0.15, 0.40, 0.835), (0.45, 0.31, 0.20, 0.417), (0.70, 0.22, 0.27, 0.60)))
    for ax in (canvas, seen):
        ax.set(xticks=[], yticks=[])
    parts = SimpleNamespace(
        page=canvas.imshow(paint([]), cmap="gray", vmin=0, vmax=255, extent=(0, CANVAS, CANVAS, 0)),
        hint=canvas.text(CANVAS / 2, CANVAS / 2, "draw a digit here", ha="center", color=plots.PALE, fontsize=16),
        inside=seen.imshow(np.zeros((28, 28)), cmap="gray", vmin=0, vmax=255),
        bars=plots.plot_bars(chart, [0] * 10),
        said=figure.text(0.70, 0.90, "", va="center", color=plots.INK),
        note=figure.text(0.45, 0.06, "", va="center", color=plots.INK, fontsize=9, wrap=True),
        marks=[])  # round each digit, of several
    seen.set_title("what the network sees", fontsize=10)
    chart.set_xlabel("probability (%)")
    frames = [*canvas.spines.values(), *seen.spines.values(), chart.spines["left"]]  # lie on top of what changes
    changing = [parts.page, parts.hint, parts.inside, *parts.bars, parts.said, parts.note, *frames]
    return figure, canvas, parts, quick_redraw(figure, changing, parts.marks)


def mark(canvas, marks, reading):
    """Draw a box round each digit of a number that was read on canvas, with what it is, in place of marks, a list of those
    before."""
    while marks:
        marks.pop().remove()
    if reading is not None and len(reading.digits) > 1:
        marks += plots.mark_digits(canvas, reading, (CANVAS, CANVAS))
    for artist in marks:
        artist.set_animated(True)


def quick_redraw(figure, changing, marks):
    """Return the function redraw(): it draws these artists anew, and only these, with each movement of the pen.

    That takes a third of the time that all of figure would take, which a pen in motion notices.
    """
    still = None  # the pixels of all the rest
    for artist in changing:
        artist.set_animated(True)

    def keep(event):
        """After everything was drawn anew: keep its pixels, then draw what changes on top."""
        nonlocal still
        if figure.canvas.supports_blit:
            still = figure.canvas.copy_from_bbox(figure.bbox)
        for artist in changing + marks:
            artist.draw(event.renderer)

    def redraw():
        if still is None:
            figure.canvas.draw_idle()
        else:
            figure.canvas.restore_region(still)
            for artist in changing + marks:
                figure.draw_artist(artist)
            figure.canvas.blit(figure.bbox)

    figure.canvas.mpl_connect("draw_event", keep)
    return redraw


def bind(figure, actions):
    """Give each of actions, {key: (word, function)}, its key and a button with that word."""
    from matplotlib.widgets import Button

    figure.buttons = []  # matplotlib itself holds on to them only weakly
    for i, (key, (word, act)) in enumerate(actions.items()):
        button = Button(figure.add_axes((0.02 + 0.102 * i, 0.03, 0.094, 0.08)), f"{word} ({key})")
        button.on_clicked(lambda event, act=act: act())
        figure.buttons.append(button)
    keys = actions | {"ctrl+z": actions["u"], "cmd+z": actions["u"]}
    figure.canvas.mpl_connect("key_press_event", lambda event: keys.get((event.key or "").lower(), ("", lambda: None))[1]())


def write(strokes, path):
    """Write strokes as a picture to path; return what became of it."""
    try:
        utils.write_atomically(path, lambda file: paint(strokes).save(file, "PNG"))
    except LeNetError as error:
        return str(error)
    return f"saved in {utils.one_line(path)}"


def teach(strokes, digit, folder):
    """Keep strokes as a picture of digit, "0" to "9", in folder; return what became of it, with thanks."""
    file = io.BytesIO()
    paint(strokes).save(file, "PNG")
    try:
        path, n_digits = own_pictures.keep(file, ".png", int(digit), folder)
    except (LeNetError, PictureError) as error:
        return str(error)
    what = "(python train.py --mine learns it)" if n_digits == 1 else f"but it {own_pictures.SEVERAL}"
    return f"Thank you! Kept as a {digit} in\n{utils.one_line(utils.short_path(path))}\n{what}"


def close(figure):
    import matplotlib.pyplot as plt

    plt.close(figure)
