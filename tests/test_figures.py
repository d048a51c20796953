"""The figures show what they say they show."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import make_figures as figures
import make_film
import utils
from figures import layers, plots, readings, window
from reading.posterior import Digit, Reading
import train
from model import LeNet5
from training import runs
from training.recipes import RECIPES


@pytest.fixture
def few(load_small):
    """600 training, 500 validation and 40 test digits: three batches an epoch."""
    return load_small(None, "cpu", 600)


def test_filters_are_the_weights_and_maps_their_answers(few):
    model, image = LeNet5(), few[1][0][0]
    figure = figures.plot_filters(model, image)
    shown = {ax.get_title(): ax.images[0] for ax in figure.axes if ax.images}
    with torch.no_grad():
        maps = model.feature_extractor[:2](utils.standardise(image[None].float() / 255))[0].numpy()
    for i, weight in enumerate(model.feature_extractor[0].weight.detach()[:, 0].numpy()):
        assert np.array_equal(shown[f"filter {i + 1}"].get_array(), weight)
        assert np.array_equal(shown[f"map {i + 1}"].get_array(), maps[i])
        low, high = shown[f"filter {i + 1}"].get_clim()
        assert -low == high == pytest.approx(model.feature_extractor[0].weight.abs().max().item())
        assert shown[f"map {i + 1}"].get_clim() == (-1, 1)


def edit_relu(model):
    for layers in (model.feature_extractor, model.classifier):
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.Tanh):
                layers[i] = nn.ReLU()


def edit_width(model):
    model.feature_extractor[0], model.feature_extractor[3] = (
        nn.Conv2d(1, 20, 5),
        nn.Conv2d(20, 50, 5),
    )
    model.feature_extractor[6], model.classifier[0] = nn.Conv2d(50, 500, 5), nn.Linear(500, 84)


def edit_layers(model):
    model.feature_extractor[2] = nn.MaxPool2d(2)
    model.classifier[2] = nn.Sequential(
        nn.Dropout(), nn.Linear(84, 60), nn.Tanh(), nn.Linear(60, 10)
    )


@pytest.mark.parametrize(
    "edit, names",
    [
        (None, "C1 S2 C3 S4 C5 F6"),
        (edit_relu, "C1 S2 C3 S4 C5 F6"),
        (edit_width, "C1 S2 C3 S4 C5 F6"),
        (edit_layers, "C1 S2 C3 S4 C5 F6 F7"),
    ],
)
def test_an_edited_network_is_drawn_as_it_is(few, edit, names, tmp_path):
    """Every layer of it, named alike in all figures."""
    model = LeNet5()
    if edit:
        edit(model)
    view = F.interpolate(few[1][0][:1].float(), 28)[0, 0].byte().numpy()
    seen, _, probabilities = readings.watch(model.eval(), view)
    assert list(seen) == ["Input", *names.split()] and probabilities.sum() == pytest.approx(
        1, abs=1e-5
    )
    stages = layers.trace_stages(model)
    assert [name for name, *_ in stages] == [*seen, "Output"]
    assert [output.shape for _, output, *_ in stages[1:-1]] == [
        maps.shape for name, maps in seen.items() if name != "Input"
    ]
    assert sum(count for *_, count in stages) == sum(p.numel() for p in model.parameters())
    digit = Digit(7, 0.5, probabilities, (0.2, 0.2, 0.8, 0.8), 0, view, 1.0)
    reading = Reading([digit], "7", 0.5, True)
    for figure in (
        readings.explain(np.ones((50, 50, 1)), reading, model),
        layers.plot_architecture(model),
    ):
        window.save_figure(figure, tmp_path / "figure.png")


def test_curves_show_a_run_that_goes_on_from_its_first_epoch():
    figure = plots.plot_losses([0.5], [0.4], [90.0], epochs=30, note="a note")
    for ax in figure.axes:
        assert ax.get_xlim() == (0.5, 30.5) and ax.get_yscale() == "log"
        assert all(
            line.get_marker() == "o" for line in ax.lines if line.get_label() != "validation"
        )
    assert plots.plot_losses([0.5, 0.3], [0.4, 0.2], [99.0, 100.0]).axes[1].lines[
        0
    ].get_ydata().tolist() == [1.0, 0.0]


def test_training_accuracy_is_drawn_if_it_is_known():
    curves = [0.5, 0.3], [0.4, 0.2], [99.0, 99.5]
    known, unknown = (
        plots.plot_losses(*curves, train_accuracies=learnt).axes[1].get_legend_handles_labels()[1]
        for learnt in ([98.0, 99.8], [float("nan"), float("nan")])
    )
    assert "training" in known and "training" not in unknown


def test_doubtful_digits_are_marked():
    digits = [
        Digit(
            n,
            p,
            np.full(10, 0.1),
            (0.1 * n, 0.2, 0.1 * n + 0.05, 0.8),
            0,
            np.zeros((28, 28), np.uint8),
            1.0,
        )
        for n, p in ((1, 0.99), (2, 0.7))
    ]
    figure = readings.plot_number(
        np.ones((60, 200, 1)), Reading(digits, "12", 0.69, True), "12? (69.0 %)"
    )
    assert [text.get_color() for text in figure.axes[0].texts] == [plots.INK, plots.DOUBT]
    tall = readings.plot_number(
        np.ones((600, 200, 1)), Reading(digits * 20, "12" * 20, 0.1, True), "?"
    )
    assert tall.get_size_inches()[1] < 10
    full = readings.plot_number(np.ones((600, 400, 1)), Reading(digits * 70, "12" * 70, 0.1, True), "?")
    assert full.get_size_inches()[1] > tall.get_size_inches()[1] + 5  # else labels hide digits


def test_what_is_watched_is_a_run_of_the_default_recipe(few, tmp_path):
    recipe = RECIPES["modern"]
    settings = dict(
        recipe,
        recipe="modern",
        epochs=2,
        seed=3,
        limit=None,
        ingredients=list(recipe["ingredients"]),
    )
    path = tmp_path / "net.pth"
    _, history, _ = runs.run(train.training_process, settings, few, torch.device("cpu"), path)
    headings, probabilities = zip(*make_film.watch(*few[:2], epochs=2, stops=(1, 2, 50), seed=3))
    assert headings == ("untrained", "after 1 of 2 batches", "after epoch 1", "after epoch 2")
    losses = [F.nll_loss(p.log(), few[1][1]).item() for p in probabilities]
    assert losses[2:] == pytest.approx([row["valid_loss"] for row in history], rel=1e-4)


def test_the_second_of_each_digit_came_right_after_most_errors():
    labels = torch.arange(10).repeat_interleave(4)
    read = [labels.clone() for _ in range(3)]
    read[0][1::4] += 1  # wrong once
    for frame in read[:2]:
        frame[2::4] += 1  # wrong twice, and right at last
    for frame in read:
        frame[3::4] += 1  # never right
    shown = make_film.choose([F.one_hot(digits, 11).float() for digits in read], labels)
    assert shown == [*range(0, 40, 4), *range(2, 40, 4)]


def test_a_frame_says_what_was_read_and_marks_errors(few):
    images, labels = few[1]
    probabilities = F.one_hot(labels[:20], 10) * 0.8 + 0.02
    probabilities[7] = probabilities[7].roll(1)
    texts = [
        text
        for text in make_film.plot_frame(images[:20], labels[:20], probabilities, "heading")
        .axes[0]
        .texts
        if "%" in text.get_text()
    ]
    assert [text.get_text() for text in texts] == [
        f"{digit} (82 %)" for digit in probabilities.argmax(1)
    ]
    assert [text.get_color() == plots.WRONG for text in texts] == [i == 7 for i in range(20)]


@pytest.mark.slow
def test_the_film_has_a_frame_for_each_look(few, tmp_path):
    headings = make_film.film(*few[:2], tmp_path / "film.gif", epochs=2, stops=(1,))
    film = Image.open(tmp_path / "film.gif")
    durations = []
    for i in range(film.n_frames):
        film.seek(i)
        durations.append(film.info["duration"])
    assert durations == [1600, 800, 800, 4000] and len(headings) == 4 and film.info["loop"] == 0
    assert (
        film.width == 940
        and (tmp_path / "film.gif").stat().st_size < 2_000_000 * len(headings) / 15
    )
    assert film.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
