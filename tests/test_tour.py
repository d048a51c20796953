"""The notebook runs from top to bottom, and its figures appear."""

import json
import sys
import types

import matplotlib.pyplot as plt
import pytest

import predict
import utils
from figures import layers, plots, window
from model import LeNet5
from utils import LeNetError


@pytest.fixture
def shown(monkeypatch):
    """The PNG files that a notebook shows: as in Jupyter, where matplotlib's backend is
    "inline"."""
    pictures, ipython, display = (
        [],
        types.ModuleType("IPython"),
        types.ModuleType("IPython.display"),
    )
    display.Image, display.display, ipython.version_info = bytes, pictures.append, (9, 0)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(plt, "get_backend", lambda: "inline")
    return pictures


def test_a_notebook_shows_figures_and_opens_no_window(shown, tmp_path, seven, model):
    seven.save(tmp_path / "seven.png")
    assert predict.single_predict(tmp_path / "seven.png", model=model, show=True) == 7
    assert predict.multi_predict(10, seed=0, model=model, save=None, show=True) in range(5)
    assert len(shown) == 2 and all(picture.startswith(b"\x89PNG") for picture in shown)
    with pytest.raises(
        LeNetError, match="no window can be opened here"
    ):  # it has to answer a mouse
        window.open_window(layers.plot_architecture(LeNet5()), own_keys=True)
    assert not plt.get_fignums()


@pytest.mark.slow
def test_the_tour_runs(shown, capsys, monkeypatch):
    monkeypatch.chdir(utils.ROOT)
    cells = json.loads((utils.ROOT / "tour.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 10 and all(cell["outputs"] == [] for cell in cells if "outputs" in cell)
    names = {}
    for cell in code:
        exec(compile(cell, "tour.ipynb", "exec"), names)
    out = capsys.readouterr().out
    assert len(shown) == 7 and "epoch 3: training loss" in out and out.count("\n") >= 8
