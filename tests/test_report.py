"""Scores are what one gets by hand."""

import pytest
import torch

from training import report


def test_expected_calibration_error_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 1, 1])
    # two images at 0.9 of which half are right, two at 0.6 that are right: 2/4 * 0.4 + 2/4 * 0.4
    assert report.expected_calibration_error(probabilities, labels) == pytest.approx(0.4)


def test_pairs_are_counted_in_one_direction_the_most_frequent_first():
    labels, predictions = torch.tensor([[4, 4, 9, 9, 9, 7], [9, 9, 4, 9, 9, 1]])
    assert report.worst_pairs(labels, predictions, "0123456789") == ["4 as 9 (2)", "9 as 4 (1)", "7 as 1 (1)"]
    assert report.worst_pairs(labels, labels, "0123456789") == []
