"""styles.py writes ones and sevens as others do; negatives.py makes what is no digit."""

import pytest
import torch

from training import negatives, styles
from training import recipes


@pytest.fixture(scope="module")
def some(training_set):
    images, labels = training_set
    return images[:2000], labels[:2000]


def generator():
    return torch.Generator().manual_seed(0)


def test_every_style_changes_its_digits_and_keeps_them_normalized(some):
    images, labels = some
    parts = styles.other_styles(images, labels, generator())
    assert [labels[index].unique().tolist() for index, _, _ in parts] == [[1], [7], [4, 6, 7, 9]]
    for index, _, others in parts:
        assert others.dtype == torch.uint8 and others.shape == images[index].shape
        assert (others != images[index]).flatten(1).any(1).float().mean() > 0.99
        left, top, right, bottom = styles.extent(others.float() / 255)
        assert torch.maximum(right - left, bottom - top).max() < 1.7


@pytest.mark.parametrize("is_top", [False, True])
def test_a_tail_makes_a_digit_narrower_and_leaves_its_mass_at_the_other_end(some, is_top):
    images, labels = some
    digits = images[labels == (6 if is_top else 9)].float() / 255
    tailed = styles.tailed(digits, torch.full((len(digits),), is_top), generator())
    left, top, right, bottom = styles.extent(tailed)
    before = styles.extent(digits)
    assert ((right - left) / (bottom - top)).mean() < 0.8 * ((before[2] - before[0]) / (before[3] - before[1])).mean()
    longer = -top - bottom if is_top else top + bottom  # the mass is in the middle
    assert longer.mean() > 0 and styles.centre(tailed).abs().max() < 0.15


def test_a_flag_makes_a_one_wider_and_it_stays_normalized(some):
    images, labels = some
    ones = images[labels == 1].float() / 255
    flagged = styles.flagged(ones, generator())
    width = [(edges[1] - edges[0]).mean() for edges in map(styles.extent, (styles.normalize_digits(ones), flagged))]
    assert flagged.shape == ones.shape and width[1] > width[0]
    left, top, right, bottom = styles.extent(flagged)
    assert torch.maximum(right - left, bottom - top).max() < 1.7 and styles.centre(flagged).abs().max() < 0.15


@pytest.mark.parametrize("n", [0, 3, 64, 300])
def test_there_are_as_many_negatives_as_were_asked_for_and_the_same_for_the_same_seed(some, n):
    few = [part[:max(n, 3)] for part in some]  # as --limit allows
    made, again = (negatives.make_negatives(*few, n, 4, generator()) for _ in range(2))
    assert made.dtype == torch.uint8 and made.shape[1:] == (1, 32, 32) and abs(len(made) - 4 * n) <= 10 and len(made) % 4 == 0
    assert torch.equal(made, again) and (len(made) == 0 or made.flatten(1).amax(1).float().mean() > 150)


def test_targets_of_negatives_are_uniform_and_labels_stay(some):
    images, labels = some
    inputs, targets, table = recipes.add_styles_and_negatives(images, labels, ("styles", "negatives"), 0)
    assert len(table) == 2100 and len(inputs) == len(targets) and table.max() == len(inputs) - 1
    assert torch.equal(targets[table[:2000]].argmax(2), labels[:, None].expand(-1, recipes.CHOICES))  # in whatever style
    assert (targets[table[2000:]] == 0.1).all() and len(table[2000:].unique()) == recipes.CHOICES * 100
    own = recipes.CHOICES * (table[:2000] == torch.arange(2000)[:, None]).float().mean(1)
    assert (own[labels == 1] == 2).all() and own.min() >= 2
    assert (own[torch.isin(labels, torch.tensor((0, 2, 3, 5, 8)))] == recipes.CHOICES).all()
    inputs, targets, table = recipes.add_styles_and_negatives(images, labels, (), 0)
    assert inputs is images and targets is labels and torch.equal(table[:, 0], torch.arange(2000))
