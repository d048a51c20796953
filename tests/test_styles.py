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


def test_each_one_and_seven_is_written_in_another_style(some):
    images, labels = some
    index, others = styles.other_styles(images, labels, generator())
    assert sorted(index.tolist()) == ((labels == 1) | (labels == 7)).nonzero().flatten().tolist()
    assert others.dtype == torch.uint8 and others.shape == images[index].shape
    assert (others != images[index]).flatten(1).any(1).float().mean() > 0.99


def test_a_flag_makes_a_one_wider_and_it_stays_normalized(some):
    images, labels = some
    ones = images[labels == 1].float() / 255
    flagged = styles.flagged(ones, generator())
    width = [
        (edges[1] - edges[0]).mean()
        for edges in map(styles.extent, (styles.normalize_digits(ones), flagged))
    ]
    assert flagged.shape == ones.shape and width[1] > width[0]
    left, top, right, bottom = styles.extent(flagged)
    assert (
        torch.maximum(right - left, bottom - top).max() < 1.7
        and styles.centre(flagged).abs().max() < 0.15
    )


@pytest.mark.parametrize("n", [0, 3, 64, 300])
def test_there_are_as_many_negatives_as_were_asked_for_and_the_same_for_the_same_seed(some, n):
    few = [part[:max(n, 3)] for part in some]  # as --limit allows
    made, again = (negatives.make_negatives(*few, n, 4, generator()) for _ in range(2))
    assert (
        made.dtype == torch.uint8
        and made.shape[1:] == (1, 32, 32)
        and abs(len(made) - 4 * n) <= 10
        and len(made) % 4 == 0
    )
    assert torch.equal(made, again) and (
        len(made) == 0 or made.flatten(1).amax(1).float().mean() > 150
    )


def test_targets_of_negatives_are_uniform_and_labels_stay(some):
    images, labels = some
    inputs, targets, table = recipes.add_styles_and_negatives(
        images, labels, ("styles", "negatives"), 0
    )
    assert len(table) == 2100 and len(inputs) == len(targets) and table.max() == len(inputs) - 1
    # in whatever style
    assert torch.equal(targets[table[:2000]].argmax(2), labels[:, None].expand(-1, recipes.CHOICES))
    assert (targets[table[2000:]] == 0.1).all() and len(
        table[2000:].unique()
    ) == recipes.CHOICES * 100
    own = (table[:2000] == torch.arange(2000)[:, None]).float().mean(1)
    assert (
        (own == 1) == ((labels != 1) & (labels != 7))
    ).all() and own.min() == 1 - 1 / recipes.CHOICES
    inputs, targets, table = recipes.add_styles_and_negatives(images, labels, (), 0)
    assert inputs is images and targets is labels and torch.equal(table[:, 0], torch.arange(2000))
