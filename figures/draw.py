"""Open a window to draw a digit in, or a number, which is read while it is drawn.

A drawing is a picture like any other, so one that was saved is read alike. One that is misread can
be kept with its correct digit, for train.py --mine to learn.

A movement of the pen only lays ink, in a millisecond: toolkits drop the movements that arrive
during a longer one, and curves become polygons. A thread reads the latest drawing meanwhile.
"""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np

import utils
from figures import drawing, plots
from figures.drawing import CANVAS
from reading.reader import most_prominent

DIGITS = tuple("0123456789")
PAUSE = 0.3  # seconds without ink after which a hand is believed to have finished a stroke
INVITATION = "Draw a digit, or a number"
HINT = "Misread? Press the correct digit, 0 to 9: it will be kept to learn from."


# -------------------------------------------------------------------------------------------------
# The window

def draw(read, save=utils.ASSETS / "drawing.png", own=utils.DATA / "mine"):
    """Return a Figure to draw on; window.open_window() shows it.

    read(PIL image) returns (a Reading or None, what is said of it). The keys, each with a button:
    c clears, u or ctrl+z undoes, e changes between pen and eraser (the right mouse button
    erases, too), s saves the picture in the file save (or save-2, save-3 ...), q closes the window.
    The keys 0 to 9 keep the drawing as that digit in the folder own; u takes it back.
    figure.catch_up() waits until the latest drawing has been read and shown.
    """
    return Window(read, save, own).figure


class Window:
    """The window that draw() returns the Figure of: the drawing, the pen, the latest reading."""

    def __init__(self, read, save, own):
        self.read, self.save, self.own = read, save, own
        self.drawing, self.is_down, self.erases = drawing.Drawing(), False, False
        self.kept = None  # the file that the last key has put into the folder own
        self.moved = -math.inf  # when the pen was lifted last
        self.thread, self.future = ThreadPoolExecutor(1), None  # that reads; what it is reading
        self.unread = self.is_stale = False  # has the drawing changed; is there more to show of it
        self.figure, self.canvas, self.parts = lay_out()
        self.figure.window, self.figure.catch_up = self, self.catch_up
        self.redraw = quick_redraw(self.figure, self.parts, self.show_what_was_read)
        for kind in ("button_press", "motion_notify", "button_release", "key_press"):
            self.figure.canvas.mpl_connect(f"{kind}_event", getattr(self, kind))
        self.keys = {"c": ("Clear", self.clear), "u": ("Undo", self.undo),
                     "e": ("Eraser", self.change_pen), "s": ("Save", self.write),
                     "q": ("Quit", lambda: close(self.figure))}
        add_buttons(self.figure, self.keys)
        self.update()

    # The mouse and the keys

    def button_press(self, event):
        if event.inaxes is self.canvas and event.button in (1, 3):
            self.is_down, self.kept = True, None
            self.drawing.begin(self.position(event), self.erases or event.button == 3)
            self.show_ink()

    def motion_notify(self, event):
        if self.is_down:
            self.drawing.extend(self.position(event))
            self.show_ink()

    def button_release(self, event):
        if self.is_down:
            self.is_down, self.moved = False, time.monotonic()

    def position(self, event):  # beyond the canvas too, where lay_ink() draws nothing
        return self.canvas.transData.inverted().transform((event.x, event.y)).tolist()

    def key_press(self, event):
        key = (event.key or "").lower().replace("ctrl+z", "u").replace("cmd+z", "u")
        if key in self.keys:
            self.keys[key][1]()
        elif key in DIGITS:
            self.kept, note = drawing.keep(self.drawing, key, self.own)
            self.update(note)

    def clear(self):
        self.forget(0)

    def write(self):
        self.update(drawing.write(self.drawing, self.save))

    def undo(self):
        if self.kept is None:
            return self.forget(-1)
        note, self.kept = drawing.take_back(self.kept), None
        self.update(note)

    def forget(self, start):
        self.is_down, self.kept = False, None
        self.drawing.take_back(start)
        self.update(HINT)

    def change_pen(self):
        self.erases = not self.erases
        self.update("You hold the eraser; e takes the pen." if self.erases else "You hold the pen.")

    # What is shown

    def show_ink(self):
        """Show the last movement of the pen at once; have the drawing read."""
        points, erases = self.drawing.strokes[-1]
        self.parts.note.set_text(HINT)
        self.unread = True
        if self.figure.canvas.supports_blit:
            add_ink(self.canvas, self.parts.line, points[-2:], erases)
        else:  # in a browser
            self.redraw(self.drawing.page)

    def is_writing(self):
        """Tell whether the hand is at work, so that nothing that takes long may be done."""
        return self.is_down or time.monotonic() - self.moved < PAUSE

    def update(self, note=""):
        """Show the drawing and a note below the network's input; have the drawing read."""
        self.parts.note.set_text(note.replace("$", r"\$"))  # two $ in a path are no formula
        self.unread = True
        self.show_page()

    def show_page(self):
        if blank := self.drawing.is_blank():
            show_reading(self.canvas, self.parts, None, INVITATION)
            self.unread = False
            self.parts.note.set_text(self.parts.note.get_text().replace(HINT, ""))
        self.parts.hint.set_visible(blank)
        self.redraw(self.drawing.page)
        self.is_stale = False

    def show_what_was_read(self):
        """Show the reading that is finished, begin that of the latest drawing. A timer calls it."""
        if self.future is not None and self.future.done():
            (reading, answer), self.future = self.future.result(), None
            if not self.drawing.is_blank():  # it may have been cleared meanwhile
                show_reading(self.canvas, self.parts, reading, answer)
                self.redraw(None)
            self.is_stale = True
        if self.is_stale and not self.is_writing():
            self.show_page()
        if self.unread and self.future is None:
            self.unread = False
            self.future = self.thread.submit(self.read, self.drawing.image())

    def catch_up(self):
        """Wait until the latest drawing has been read, and show all of it."""
        while self.unread or self.future is not None:
            if self.future is not None:
                self.future.exception()  # waits
            self.show_what_was_read()
        self.show_page()


def lay_out():
    """Return (the window's Figure, the axes to draw on, the parts that change, by name)."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    # laid out by hand: a layout engine is slow
    figure = Figure(figsize=(9.6, 4.6), label="LeNet-5 reads what you draw")
    canvas, seen, chart = (figure.add_axes(place) for place in (
        (0.02, 0.15, 0.40, 0.835), (0.45, 0.31, 0.20, 0.417), (0.70, 0.22, 0.27, 0.60)))
    for ax in (canvas, seen):
        ax.set(xticks=[], yticks=[])
    parts = SimpleNamespace(
        page=canvas.imshow(colour(drawing.Drawing().page), extent=(0, CANVAS, CANVAS, 0),
                           interpolation="nearest"),
        line=canvas.add_line(Line2D([], [], solid_capstyle="round", animated=True)),
        hint=canvas.text(CANVAS / 2, 24, "draw here", ha="center", color=plots.PALE, fontsize=12),
        inside=seen.imshow(np.zeros((28, 28)), cmap="gray", vmin=0, vmax=255),
        bars=plots.plot_bars(chart, [0] * 10),
        said=figure.text(0.70, 0.90, "", va="center", color=plots.INK),
        note=figure.text(0.45, 0.06, "", va="center", color=plots.INK, fontsize=9, wrap=True),
        marks=[],  # round each digit, of several
        frames=[*canvas.spines.values()],
        axes=[*seen.spines.values(), chart.spines["left"]])
    canvas.set(xlim=(0, CANVAS), ylim=(CANVAS, 0))  # whatever is drawn on it
    seen.set_title("what the network sees", fontsize=10)
    chart.set_xlabel("probability (%)")
    return figure, canvas, parts


def show_reading(canvas, parts, reading, answer):
    """Show a Reading, or None, and what is said of it; put a box round each digit of a number."""
    main = None if reading is None else most_prominent(reading.digits)
    parts.inside.set_data(np.zeros((28, 28)) if main is None else main.view)
    plots.set_bars(parts.bars, [0] * 10 if main is None else main.probabilities)
    parts.said.set_text(answer.replace(": ", ":\n") if reading is None else answer)
    parts.said.set_fontsize(11 if reading is None else 18)
    while parts.marks:
        parts.marks.pop().remove()
    if reading is not None and len(reading.digits) > 1:
        parts.marks += plots.mark_digits(canvas, reading, (CANVAS, CANVAS))
    for artist in parts.marks:
        artist.set_animated(True)


def quick_redraw(figure, parts, on_timer):
    """Return redraw(page), which draws only what changes; redraw(None) leaves the page alone.

    That takes a third of the time. on_timer() is called 25 times a second once all is drawn.
    """
    from matplotlib.transforms import Bbox

    still, timers = [], []  # still: the pixels of what never changes: all, and right of the page

    def changing(everything=True):
        reading = [parts.inside, *parts.bars, parts.said, parts.note, *parts.axes]  # lines on top
        return reading + [parts.page, parts.hint, *parts.marks, *parts.frames] * everything

    for artist in changing():
        artist.set_animated(True)

    def right():  # of the page
        return Bbox([(parts.page.axes.bbox.x1 + 3, 0), figure.bbox.max])

    def keep_still(event):
        """Keep the pixels after everything was drawn, then draw what changes on top."""
        if figure.canvas.supports_blit:
            still[:] = map(figure.canvas.copy_from_bbox, (figure.bbox, right()))
        for artist in changing():
            artist.draw(event.renderer)
        if not timers:
            timers.append(figure.canvas.new_timer(40, [(lambda: on_timer() or True, (), {})]))
            timers[0].start()

    def redraw(page):
        everything = page is not None
        if everything:
            parts.page.set_data(colour(page))
        if not (still and figure.canvas.supports_blit):  # not drawn yet, or closed, or a browser
            return figure.canvas.draw_idle()
        figure.canvas.restore_region(still[0 if everything else 1])
        for artist in changing(everything):
            figure.draw_artist(artist)
        figure.canvas.blit(figure.bbox if everything else right())

    figure.canvas.mpl_connect("draw_event", keep_still)
    return redraw


def add_ink(canvas, line, points, erases):
    """Draw the last movement of the pen, on top of what the window shows of the canvas."""
    from matplotlib.transforms import Bbox

    figure, (shade, width) = canvas.figure, drawing.nib(erases)
    width *= canvas.bbox.width / CANVAS  # in pixels of the window
    corners = np.array([points[0], *points])
    line.set(data=corners.T, color=str(shade / 255), linewidth=width * 72 / figure.dpi)
    figure.draw_artist(line)
    where = canvas.transData.transform(corners)
    figure.canvas.blit(Bbox([where.min(axis=0), where.max(axis=0)]).padded(width))


def colour(page):
    """Return a grey page as RGBA, which matplotlib shows twice as fast."""
    return cv2.cvtColor(page, cv2.COLOR_GRAY2RGBA)


def add_buttons(figure, actions):
    """Give each of actions, {key: (word, function)}, a button with that word and key."""
    from matplotlib.widgets import Button

    figure.buttons = []  # matplotlib itself holds on to them only weakly
    for i, (key, (word, act)) in enumerate(actions.items()):
        button = Button(figure.add_axes((0.02 + 0.082 * i, 0.03, 0.075, 0.08)), f"{word} ({key})")
        button.label.set_fontsize(9)
        button.on_clicked(lambda event, act=act: act())
        figure.buttons.append(button)


def close(figure):
    import matplotlib.pyplot as plt

    plt.close(figure)
