"""The figures show what they say they show."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import make_figures as figures
import utils
from figures import plots
import train
from model import LeNet5
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


def test_what_is_watched_is_a_run_of_the_default_recipe(few, tmp_path):
    recipe = RECIPES["modern"]
    settings = dict(recipe, recipe="modern", epochs=2, seed=3, limit=None, ingredients=list(recipe["ingredients"]))
    _, history, _ = train.run(settings, few, torch.device("cpu"), tmp_path / "net.pth")
    headings, probabilities = zip(*figures.watch(*few[:2], epochs=2, stops=(1, 2, 50), seed=3))
    assert headings == ("untrained", "after 1 of 2 batches", "after epoch 1", "after epoch 2")
    losses = [F.nll_loss(p.log(), few[1][1]).item() for p in probabilities]
    assert losses[2:] == pytest.approx([row["valid_loss"] for row in history], rel=1e-4)
    assert losses == sorted(losses, reverse=True)


def test_the_second_of_each_digit_came_right_after_most_errors():
    labels = torch.arange(10).repeat_interleave(4)
    read = [labels.clone() for _ in range(3)]
    read[0][1::4] += 1  # wrong once
    for frame in read[:2]:
        frame[2::4] += 1  # wrong twice, and right at last
    for frame in read:
        frame[3::4] += 1  # never right
    shown = figures.choose([F.one_hot(digits, 11).float() for digits in read], labels)
    assert shown == [*range(0, 40, 4), *range(2, 40, 4)]


def test_a_frame_says_what_was_read_and_marks_errors(few):
    images, labels = few[1]
    probabilities = F.one_hot(labels[:20], 10) * 0.8 + 0.02
    probabilities[7] = probabilities[7].roll(1)
    texts = [text for text in figures.plot_frame(images[:20], labels[:20], probabilities, "heading").axes[0].texts
             if "%" in text.get_text()]
    assert [text.get_text() for text in texts] == [f"{digit} (82 %)" for digit in probabilities.argmax(1)]
    assert [text.get_color() == plots.WRONG for text in texts] == [i == 7 for i in range(20)]


def test_the_film_has_a_frame_for_each_look(few, tmp_path):
    headings = figures.film(*few[:2], tmp_path / "film.gif", epochs=2, stops=(1,))
    film = Image.open(tmp_path / "film.gif")
    durations = []
    for i in range(film.n_frames):
        film.seek(i)
        durations.append(film.info["duration"])
    assert durations == [1600, 800, 800, 4000] and len(headings) == 4 and film.info["loop"] == 0
    assert film.width == 940 and (tmp_path / "film.gif").stat().st_size < 2_000_000 * len(headings) / 15
    assert film.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
