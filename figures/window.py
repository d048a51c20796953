"""Write a figure to a file, or show it in a window.

matplotlib's pyplot is imported by the functions that need it: choosing a toolkit takes time, and
can fail.
"""

import contextlib
import io
from pathlib import Path

import utils
from utils import LeNetError


def save_figure(figure, path):
    """Write figure to path (its suffix says the format). Raises LeNetError if that fails."""
    path = Path(path)
    utils.write_atomically(path, render(figure, find_format(path)))


def render(figure, kind):
    """Return figure as a picture file, bytes, of that format."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=100)
    return file.getvalue()


def find_format(path):
    """Return the name of the picture format that path's suffix stands for; raise LeNetError."""
    from matplotlib.backend_bases import FigureCanvasBase

    kind = path.suffix[1:].lower() or "png"
    if kind not in FigureCanvasBase.get_supported_filetypes():
        raise LeNetError(f"{path}: no picture format is called {path.suffix!r}; .png always works")
    return kind


# matplotlib's backends that open no window
WITHOUT_WINDOWS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")


def open_window(figure, own_keys=False, wait=True):
    """Show figure in a window and wait until it is closed; in a notebook, below the cell.

    own_keys: the figure answers the keys itself, so it gets neither matplotlib's keys (s, c, q ...)
    nor the toolbar. wait: False returns at once; the window is drawn while the program handles
    events. Raises LeNetError if no window can be opened.
    """
    import matplotlib.pyplot as plt

    inline = "inline" in plt.get_backend()  # a notebook's
    if inline and wait and not own_keys:
        return show_in_notebook(figure)
    try:
        with plt.rc_context({"toolbar": "None"} if own_keys else {}):
            _give_to_pyplot(figure)
        usable = not inline and plt.get_backend().lower() not in WITHOUT_WINDOWS
    except Exception:  # each toolkit says in its own way that it is missing or has no display
        usable = False
    if not usable:
        plt.close(figure)
        raise LeNetError("no window can be opened here: it takes a display and a toolkit (pip "
                         "install PyQt6), or a browser (pip install tornado, and set "
                         "MPLBACKEND=WebAgg); Assets/lenet5.html is a page to draw in")
    if own_keys:
        figure.canvas.mpl_disconnect(figure.canvas.manager.key_press_handler_id)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C in the terminal closes the window too
        plt.show(block=wait)


def wait_for_windows():
    """Wait until the windows that open_window() opened are closed, if any are open."""
    import matplotlib.pyplot as plt

    if plt.get_fignums():
        with contextlib.suppress(KeyboardInterrupt):
            plt.show(block=True)


def show_in_notebook(figure):
    """Show figure below the cell of a notebook that is running."""
    from IPython.display import Image, display

    display(Image(render(figure, "png")))


def _give_to_pyplot(figure):
    """Let pyplot manage a figure that it did not make.

    This is plt.figure(figure), which matplotlib refuses before version 3.11.
    """
    import matplotlib.pyplot as plt
    from matplotlib._pylab_helpers import Gcf

    try:
        plt.figure(figure)
    except ValueError:  # before 3.11; what follows is what 3.11 does
        number = max(plt.get_fignums(), default=0) + 1
        manager = plt._get_backend_mod().new_figure_manager_given_figure(number, figure)
        Gcf._set_new_active_manager(manager)
