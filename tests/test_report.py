"""Scores are what one gets by hand."""

import pytest
import torch

from figures import plots
from training import files, report
from training.augment import make_augment
from training.recipes import make_settings
from utils import LeNetError


def test_expected_calibration_error_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 1, 1])
    # two images at 0.9 of which half are right, two at 0.6 that are right: 2/4 * 0.4 + 2/4 * 0.4
    assert report.expected_calibration_error(probabilities, labels) == pytest.approx(0.4)


def test_pairs_are_counted_in_one_direction_the_most_frequent_first():
    labels, predictions = torch.tensor([[4, 4, 9, 9, 9, 7], [9, 9, 4, 9, 9, 1]])
    assert report.worst_pairs(labels, predictions, "0123456789") == ["4 as 9 (2)", "9 as 4 (1)", "7 as 1 (1)"]
    assert report.worst_pairs(labels, labels, "0123456789") == []


@pytest.mark.parametrize("n_classes, accuracy, learned", [
    (10, 12, False), (10, 60, True), (2, 55, False), (2, 99.5, True), (3, 98, True), (47, 3, False)])
def test_near_chance_depends_on_the_number_of_classes(capsys, n_classes, accuracy, learned):
    best = dict(epoch=1, valid_loss=0.1, valid_accuracy=accuracy)
    report.print_result(best, {"upright": 100 - accuracy}, 100, n_classes, 1)
    assert ("near chance" not in capsys.readouterr().out) == learned


@pytest.mark.parametrize("labels", [[5], [0, 8], [1, 4], [7, 7, 3]])
def test_a_few_images_are_drawn_whatever_they_show(labels):
    images = torch.zeros(len(labels), 1, 32, 32, dtype=torch.uint8)
    images[:, :, 8:24, 14:18] = 255
    settings = make_settings(recipe="modern")
    augment = make_augment(settings["ingredients"])
    report.plot_augmentation((images, torch.tensor(labels)), augment, settings)


def test_a_comparison_shows_each_run_however_short():
    runs = [(name, {"epoch": list(range(1, n + 1)), "train_loss": [0.5] * n,
                    "valid_loss": [0.4] * n, "valid_accuracy": [90.0] * n})
            for name, n in (("a run", 1), ("another", 2), ("a run", 30))]  # in two folders
    figure = plots.plot_comparison(runs)
    figure.canvas.draw()
    assert [len(ax.lines) for ax in figure.axes] == [6, 3]
    for ax in figure.axes:
        assert all(len(line.get_xdata()) > 1 or line.get_marker() == "." for line in ax.lines)
        assert ax.get_xlabel() and ax.get_ylabel() and ax.get_title()


def test_curves_without_an_error_are_drawn(recwarn):
    plots.plot_losses([0.5, 0.3], [0.4, 0.2], [100.0, 100.0]).canvas.draw()
    plots.plot_comparison([("run", {"epoch": [1, 2], "train_loss": [0.5, 0.3], "valid_loss": [0.4, 0.2],
                                    "valid_accuracy": [100.0, 100.0]})]).canvas.draw()
    assert not recwarn.list


HISTORY = "epoch,train_loss,valid_loss,valid_accuracy\n1,0.6,0.5,90\n"


@pytest.mark.parametrize("text", [HISTORY[:30], HISTORY.replace("epoch", "x"), "", "\n", "1,2\n3,4\n"])
def test_a_run_without_its_epochs_is_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text('{"results": {"upright": 1.5}, "best_epoch": 1}')
    (tmp_path / "history.csv").write_text(HISTORY)
    assert files.read_run(tmp_path)[1]["valid_loss"] == [0.5]
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(LeNetError, match="is not the folder of a run"):
        files.read_run(tmp_path)


@pytest.mark.parametrize("low, high", [(0.9, 1.92), (0.01, 0.011), (0.5, 1), (1, 90), (0.002, 3)])
def test_a_logarithmic_axis_is_labelled_whatever_its_range(low, high):
    history = {"epoch": [1, 2], "train_loss": [high, low], "valid_loss": [high, low],
               "valid_accuracy": [100 - high, 100 - low]}
    for ax in plots.plot_comparison([("run", history)]).axes:
        ax.figure.canvas.draw()
        shown, (bottom, top) = [], ax.get_ylim()
        for which in "major", "minor":
            places = ax.yaxis.get_ticklocs(minor=which == "minor")
            labels = [label.get_text() for label in ax.yaxis.get_ticklabels(which=which)]
            shown += [place for place, label in zip(places, labels)
                      if label and bottom <= place <= top]
        assert len(shown) > 2 and max(shown) / bottom > (top / bottom) ** 0.5


@pytest.mark.parametrize("name", ["$^$", "a$b_^$c", "_", "\udcff", "50 %", "\\$"])
def test_a_class_or_a_data_set_may_have_any_name(name):
    settings = dict(data=name, recipe="classic", seed=0, epochs=1, ingredients=[])
    history = [dict(train_loss=0.5, valid_loss=0.4, valid_accuracy=90.0)]
    labels = torch.tensor([0, 1])
    classes = [report.plain(name), "other"]
    drawn = [report.plot_history(history, settings),
             plots.plot_confusion(labels, 1 - labels, classes),
             plots.plot_mistakes(torch.zeros(2, 1, 32, 32, dtype=torch.uint8), labels,
                                 torch.eye(2)[1 - labels], classes),
             plots.plot_comparison([(report.plain(name), {
                 "epoch": [1], "train_loss": [1], "valid_loss": [1], "valid_accuracy": [9]})])]
    for figure in drawn:
        figure.canvas.draw()
    (said,) = drawn[-1].axes[0].get_legend().get_texts()
    assert said.get_text().strip() == report.plain(name)


@pytest.mark.parametrize("text", ["{}", "[]", "1", '{"results": {}}', "",
                                  '{"results": 3, "best_epoch": 1}',
                                  '{"results": {"upright": "a"}, "best_epoch": 1}'])
def test_a_folder_of_no_completed_run_is_one_line(tmp_path, text):
    (tmp_path / "history.csv").write_text(HISTORY)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(LeNetError, match="is not the folder of a run"):
        files.read_run(tmp_path)
