"""A view is judged as it stands and turned either way: a digit stays one, what is none often not."""

import numpy as np
import pytest
import torch

import utils
from training import judge


@pytest.fixture(scope="module")
def digits(parts):
    """1,000 validation digits: uint8 (N, 1, 32, 32), and their labels."""
    images, labels = parts[1]
    return images[:1000], labels[:1000]


def mean_of_three(model, images):
    turned = (judge.turn(images, degrees) for degrees in (0, -judge.TURN, judge.TURN))
    return torch.stack([judge.read_inputs(model, each) for each in turned]).mean(0)


def test_turning_is_clockwise_about_the_middle_by_the_angle_asked_for(digits):
    images = digits[0][:50]
    assert torch.equal(judge.turn(images, 0), images)
    for quarters in 1, 2, 3:
        expected = images.rot90(-quarters, dims=(2, 3)).int()
        assert (judge.turn(images, 90 * quarters).int() - expected).abs().max() <= 1
    dot = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    dot[0, 0, 3:5, 15:17] = 200  # 12 pixels above the middle
    for degrees in -30, -judge.TURN, judge.TURN, 30:
        y, x = (values.float().mean() - 15.5 for values in (judge.turn(dot, degrees)[0, 0] > 60).nonzero().T)
        assert torch.atan2(x, -y).rad2deg() == pytest.approx(degrees, abs=3)


def test_a_view_is_judged_as_it_stands_and_turned_either_way(model, digits):
    views = list(np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8))
    views += list(digits[0][:40, 0, 2:-2, 2:-2].numpy())
    expected = mean_of_three(model, utils.resize(torch.from_numpy(np.stack(views))))
    found = judge.read_views(model, views)
    assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-5)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    alone = np.concatenate([judge.read_views(model, [view]) for view in views])
    assert np.allclose(found, alone, atol=2e-3)  # a pixel may be rounded otherwise


def test_what_is_no_digit_is_doubted_more_than_a_digit(model, digits):
    """Halves of digits, side by side: the share that is said for sure, as it stands and turned."""
    images, labels = digits
    halves = torch.cat([images[:500, ..., :16], images[500:, ..., 16:]], dim=3)
    sure = [[(p.max(1).values >= 0.8).float().mean().item() for p in (
        judge.read_inputs(model, each), mean_of_three(model, each))] for each in (images, halves)]
    right = (mean_of_three(model, images).argmax(1) == labels).float().mean()
    assert right >= 0.99
    (digits_before, digits_now), (halves_before, halves_now) = sure
    assert digits_before - digits_now < 0.01 < 0.02 < halves_before - halves_now
