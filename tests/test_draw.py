"""The drawing window, driven by synthetic mouse and key events on matplotlib's Agg canvas: no
display is needed."""

import os
import shutil
import subprocess
import sys
import threading

import matplotlib
import numpy as np
import pytest
import replay
import strokes
from matplotlib.backend_bases import KeyEvent, MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from figures import draw, drawing, window
import predict

ONE = [(200, 60), (190, 330)]
SEVEN = [(90, 90), (290, 80), (170, 320)]


def reader(model):
    return lambda image: predict.told(*predict.predict_images([image], model))


@pytest.fixture
def figure(model, tmp_path):
    return open_figure(reader(model), tmp_path)


@pytest.fixture
def blind(tmp_path):
    """A window without a network, for what is kept or drawn, whatever it is read as."""
    return open_figure(lambda image: (None, "no digit found: nobody looked"), tmp_path)


def open_figure(read, tmp_path):
    figure = draw.draw(read, tmp_path / "drawing.png", tmp_path / "mine")
    FigureCanvasAgg(figure).draw()
    return figure


def mouse(figure, kind, point, button=1):
    """Send a mouse event at point, in pixels of the drawing."""
    x, y = figure.axes[0].transData.transform(point)
    MouseEvent(kind, figure.canvas, x, y, button)._process()


def stroke(figure, corners, button=1, lift=True):
    mouse(figure, "button_press_event", corners[0], button)
    for start, end in zip(corners, corners[1:]):
        for t in (0.5, 1):
            mouse(figure, "motion_notify_event", tuple(np.add(start, t * np.subtract(end, start))))
    if lift:
        mouse(figure, "button_release_event", corners[-1], button)


def press(figure, key):
    KeyEvent("key_press_event", figure.canvas, key)._process()


def said(figure):
    """Return what the window says about the drawing, and checks that the bars say the same."""
    figure.catch_up()
    text, bars = figure.texts[0].get_text(), [bar.get_width() for bar in figure.axes[2].patches]
    if text == draw.INVITATION or text.startswith("no digit found"):
        assert bars == [0] * 10
    else:
        assert text[0] == str(np.argmax(bars)) and sum(bars) == pytest.approx(100, abs=0.01)
    return text


def page(figure):
    figure.catch_up()
    return np.asarray(figure.axes[0].images[0].get_array())[..., 0]


def test_digits_are_read_while_they_are_drawn(figure):
    assert said(figure) == draw.INVITATION
    stroke(figure, ONE, lift=False)
    assert said(figure).startswith("1 (")
    before = page(figure).copy()
    mouse(figure, "button_release_event", ONE[-1])
    mouse(figure, "motion_notify_event", (20, 20))  # the pen is up
    assert np.array_equal(page(figure), before)
    press(figure, "c")
    assert said(figure) == draw.INVITATION and page(figure).min() == page(figure).max()
    stroke(figure, SEVEN)
    assert said(figure).startswith("7 (")
    assert figure.axes[1].images[0].get_array().max() > 200  # what the network sees


def test_what_is_shown_is_drawn(figure):
    def pixels():
        figure.catch_up()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()

    blank = pixels()
    stroke(figure, SEVEN)
    moved = pixels()
    figure.canvas.draw()  # the whole of it
    assert np.array_equal(pixels(), moved) and (blank != moved).any(2).mean() > 0.02
    press(figure, "c")
    assert np.array_equal(pixels(), blank)


def test_each_digit_of_a_number_has_its_box_which_goes_with_it(figure, model, tmp_path):
    """In the window, not in what is saved; and not the box of a digit by itself."""
    def marks():
        figure.catch_up()
        canvas = figure.axes[0]
        return len(canvas.patches), [text.get_text() for text in canvas.texts[1:]]

    def pixels():
        figure.catch_up()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()

    blank = pixels()
    stroke(figure, [(60, 60), (55, 330)])
    assert said(figure).startswith("1 (") and marks() == (0, [])
    stroke(figure, [(150, 16), (300, 16), (220, 320)])  # near the upper edge
    figure.catch_up()
    assert figure.texts[0].get_text().startswith("17 (")
    assert marks() == (2, ["1", "7"])
    moved = pixels()
    figure.canvas.draw()  # the whole of it
    assert np.array_equal(pixels(), moved)
    press(figure, "s")
    assert marks() == (2, ["1", "7"])
    saved = Image.open(tmp_path / "drawing.png")
    assert (
        np.array_equal(np.asarray(saved), page(figure))
        and predict.predict_images([saved], model)[0].text == "17"
    )
    press(figure, "u")
    assert marks() == (0, [])
    press(figure, "c")
    assert np.array_equal(pixels(), blank)


def test_a_number_that_is_kept_as_a_digit_is_worth_a_word(blind):
    stroke(blind, SEVEN)
    press(blind, "7")
    assert "several digits" not in blind.texts[1].get_text()
    press(blind, "c")
    stroke(blind, [(60, 60), (55, 330)])
    stroke(blind, [(200, 60), (340, 60), (270, 320)])
    press(blind, "7")
    assert (
        blind.texts[1].get_text().startswith("Thank you!")
        and "several digits" in blind.texts[1].get_text()
    )


def test_a_path_is_no_formula_and_one_line(model, tmp_path):
    folder = tmp_path / "$^$\n"
    folder.mkdir()
    figure = open_figure(reader(model), folder)
    press(figure, "s")
    figure.canvas.draw()
    assert (folder / "drawing.png").exists() and figure.texts[1].get_text().endswith(
        r"\$^\$\n/drawing.png"
    )


@pytest.mark.parametrize("key", ["u", "ctrl+z", "cmd+z"])
def test_undo(figure, key):
    stroke(figure, ONE)
    one = page(figure).copy()
    stroke(figure, [(40, 60), (340, 330)], lift=False)
    press(figure, key)
    mouse(figure, "motion_notify_event", (20, 20))  # a stroke that was taken back is over
    assert np.array_equal(page(figure), one) and said(figure).startswith("1 (")
    press(figure, key)
    press(figure, key)
    assert said(figure) == draw.INVITATION


def test_only_the_left_button_on_the_canvas_draws(blind):
    blank = page(blind).copy()
    stroke(blind, SEVEN, button=3)
    stroke(blind, [(600, 100), (100, 100)])
    assert np.array_equal(page(blind), blank)
    stroke(blind, [(200, 60), (190, 5000)])  # beyond the canvas the pen goes on, unseen
    assert (page(blind) != blank).any()


def test_a_saved_drawing_is_read_alike(figure, model, tmp_path):
    stroke(figure, SEVEN)
    press(figure, "s")
    assert figure.texts[1].get_text() == f"saved in {tmp_path / 'drawing.png'}"
    (reading,) = predict.predict_images([tmp_path / "drawing.png"], model)
    assert reading.text == "7" and reading.inverted and predict.say(reading) == said(figure)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "drawing.png")), page(figure))


def test_saving_replaces_no_drawing(blind, tmp_path):
    for points in (ONE, SEVEN, ONE):
        stroke(blind, points)
        press(blind, "s")
    saved = [np.asarray(Image.open(tmp_path / f"drawing{n}.png")) for n in ("", "-2", "-3")]
    assert (saved[0] != saved[1]).any() and np.array_equal(saved[2], page(blind))
    assert blind.texts[1].get_text().endswith("drawing-3.png")


def test_the_eraser_takes_ink_away(blind):
    stroke(blind, SEVEN)
    seven = page(blind).copy()
    stroke(blind, [(290, 80), (170, 320)], button=3)  # the right button
    assert (page(blind) >= seven - 1.0).all() and (page(blind) > seven).any()
    press(blind, "u")
    press(blind, "e")
    stroke(blind, [(x, y) for y in range(0, 400, 20) for x in (0, 384)])  # all of it
    assert said(blind) == draw.INVITATION and page(blind).min() == 250
    press(blind, "e")
    stroke(blind, ONE)
    assert page(blind).min() < 50


def test_a_kept_drawing_can_be_taken_back(blind, tmp_path):
    stroke(blind, SEVEN)
    before = page(blind).copy()
    press(blind, "7")
    press(blind, "u")
    assert (
        not list((tmp_path / "mine").rglob("*.png")) and "Taken back" in blind.texts[1].get_text()
    )
    assert np.array_equal(page(blind), before)
    press(blind, "1")
    press(blind, "7")  # the right one now
    (path,) = (tmp_path / "mine").rglob("*.png")
    assert path.parent.name == "7"
    stroke(blind, ONE)
    press(blind, "u")  # the stroke
    assert path.exists() and np.array_equal(page(blind), before)


def test_the_pen_waits_for_no_reading(tmp_path):
    """Movements only lay ink; what is read in the end is the whole drawing."""
    read, go_on = [], threading.Event()

    def slow(image):
        go_on.wait(300)
        read.append(np.asarray(image))
        return None, "nothing: so far"

    figure = open_figure(slow, tmp_path)
    points = [(50 + 3 * i, 200 + 90 * np.sin(i / 9)) for i in range(80)]
    stroke(figure, points[:2], lift=False)
    figure.window.show_what_was_read()
    for point in points[2:]:
        mouse(figure, "motion_notify_event", point)
        figure.window.show_what_was_read()
    assert read == []  # none has ended
    mouse(figure, "button_release_event", points[-1])
    go_on.set()
    figure.catch_up()
    wanted = drawing.Drawing()
    wanted.draw(figure.window.drawing.strokes[0][0])
    assert len(read) == 2 and len(wanted.strokes[0][0]) == 81
    assert np.array_equal(read[1], wanted.page) and np.array_equal(page(figure), wanted.page)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.2, 1])
@pytest.mark.parametrize("toolkit", ["TkAgg", "QtAgg"])
def test_a_hand_at_the_mouse_is_read_as_its_strokes(toolkit, seconds):
    """In a window on a display of its own; a busy machine may lose movements, so one of three tries
    counts."""
    if not (shutil.which("xvfb-run") and shutil.which("xdotool")):
        pytest.skip("xvfb-run and xdotool are not installed")
    pytest.importorskip("tkinter" if toolkit == "TkAgg" else "PyQt6.QtGui")
    command = ["xvfb-run", "-a", sys.executable, replay.__file__, str(seconds)]
    for _ in range(3):
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env=dict(os.environ, MPLBACKEND=toolkit),
        )
        assert process.returncode == 0, process.stderr
        window, direct, _ = (line.split(": ")[1] for line in process.stdout.splitlines())
        if window.split()[0] == direct.split()[0] == "9021":
            return
    pytest.fail(process.stdout)


def test_a_drawing_that_cannot_be_saved_is_told_in_the_window(model, tmp_path):
    figure = draw.draw(reader(model), tmp_path / "nowhere" / "drawing.png")
    FigureCanvasAgg(figure)
    press(figure, "s")
    assert "could not be written" in figure.texts[1].get_text()


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_s_key_keeps_the_drawing_with_its_label(blind, tmp_path, digit):
    stroke(blind, SEVEN)
    press(blind, str(digit))
    (path,) = (tmp_path / "mine").rglob("*.png")
    assert path.parent.name == str(digit) and np.array_equal(
        np.asarray(Image.open(path)), page(blind)
    )
    note = blind.texts[1].get_text()
    assert note.startswith(f"Thank you! Kept as a {digit}") and path.name in note
    stroke(blind, ONE)
    assert "Thank you" not in blind.texts[1].get_text()
    press(blind, str(digit))
    assert len(list((tmp_path / "mine").rglob("*.png"))) == 2


def test_an_empty_page_teaches_nothing(figure, tmp_path):
    press(figure, "7")
    assert (
        figure.texts[1].get_text().startswith("no digit found") and not (tmp_path / "mine").exists()
    )


def test_a_folder_that_takes_no_drawing_is_told_in_the_window(blind, tmp_path):
    (tmp_path / "mine").write_text("a file")
    stroke(blind, SEVEN)
    press(blind, "7")
    assert "could not be written" in blind.texts[1].get_text()


def test_buttons_do_what_keys_do(figure, tmp_path):
    def click(button):
        for kind in ("button_press_event", "button_release_event"):
            MouseEvent(kind, figure.canvas, *button.ax.bbox.get_points().mean(axis=0), 1)._process()

    clear, undo, _, save, _ = figure.buttons
    stroke(figure, SEVEN)
    stroke(figure, [(40, 60), (340, 330)])
    click(undo)
    assert said(figure).startswith("7 (")
    click(save)
    assert (tmp_path / "drawing.png").exists()
    click(clear)
    assert said(figure) == draw.INVITATION


@pytest.fixture
def agg():
    """pyplot on a backend without windows, whatever this machine has."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield plt
    plt.close("all")


def test_its_keys_are_its_own_and_only_its(agg, figure, tmp_path, monkeypatch):
    settings = dict(matplotlib.rcParams)
    monkeypatch.setattr(window, "WITHOUT_WINDOWS", ())  # as if Agg had some
    monkeypatch.setattr(agg, "show", lambda block: None)
    matplotlibs_own = []
    monkeypatch.setattr(
        "matplotlib.backend_bases.key_press_handler",
        lambda event: matplotlibs_own.append(event.key),
    )
    window.open_window(figure, own_keys=True)
    assert dict(matplotlib.rcParams) == settings
    number = figure.number
    for key in ("s", "c", "q"):
        assert agg.fignum_exists(number)
        press(figure, key)
    assert (
        matplotlibs_own == []
        and (tmp_path / "drawing.png").exists()
        and not agg.fignum_exists(number)
    )
    press(agg.figure(), "c")
    assert matplotlibs_own == ["c"]


@pytest.mark.parametrize(
    "arguments", [["--draw"], ["Assets/none.png", "--show"], ["--multi", "3", "--show"]]
)
def test_without_a_window_it_is_one_line_with_status_1(capsys, agg, tmp_path, arguments):
    if arguments[0].startswith("Assets"):
        strokes.as_drawn([ONE]).save(tmp_path / "one.png")
        arguments[0] = str(tmp_path / "one.png")
    assert predict.main([*arguments, "--save", str(tmp_path / "figure.png")]) == 1
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1
        and "no window can be opened here" in err
        and "pip install" in err
        and not agg.get_fignums()
    )


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["x.png"], "takes no IMAGE"),
        (["--multi"], "takes no --multi"),
        (["--explain"], "takes no --explain"),
        (["--json"], "takes no --json"),
        (["--show"], "takes no --show"),
        (["--invert", "yes"], "takes no --invert"),
        (["--seed", "1"], "takes no --seed"),
        (["--save", "x.jpg"], "saved as .png"),
        (["--save", "."], "--save"),
    ],
)
def test_wrong_calls(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as exit:
        predict.main(["--draw", *arguments])
    out, err = capsys.readouterr()
    assert exit.value.code == 2 and out == "" and err.count("\n") == 1 and complaint in err
