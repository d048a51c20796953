"""How a run is scored, told and drawn."""

import csv
import io
import statistics
import sys

import torch

from figures import plots, window
import utils
from training.augment import make_augment, turn
from training.data import Batches
from utils import LeNetError

HEADER = "epoch  train loss  val loss  val accuracy  wrong        lr  seconds"


def epoch_line(row, is_best):
    return (f"{row['epoch']:5d}  {row['train_loss']:10.4f}  {row['valid_loss']:8.4f}  {row['valid_accuracy']:10.2f} %  "
            f"{row['valid_wrong']:5d}  {row['lr']:8.6f}  {row['seconds']:7.1f}{' *' if is_best else ''}")


def describe(settings):
    """Return settings as one line for people, to whom the number of threads has been told."""
    plain = [f"{key} {value}" for key, value in settings.items() if key not in ("ingredients", "threads") and value is not None]
    return ", ".join(plain) + f"; {', '.join(settings['ingredients']) or 'no augmentation, no schedule'}"


def write_history(history, path):
    """Write one line per epoch to a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    utils.write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def forgiving(write):
    """Return write for tables and pictures: where it raises LeNetError, that is told in one line, the first time, and the
    work goes on. A file may be open in a program that lets nobody else write it."""
    told = set()

    def attempt(*args):
        try:
            write(*args)
            return True
        except LeNetError as error:
            if str(error) not in told:
                print(f"train.py: {error}; the work goes on", file=sys.stderr)
            told.add(str(error))
            return False

    return attempt


TURNS = (15, 30, 45)  # degrees


def score(model, test_set, device):
    """Return the errors on test_set in percent: {"upright": ..., "+-15": ..., "+-30": ..., "+-45": ...}.

    For +-d each image is turned by its own angle, uniform in -d .. d degrees, the same ones in every call.
    """
    images, labels = test_set
    errors = {"upright": 100 - 100 * utils.get_accuracy(model, Batches(images, labels, 1000), device)}
    for degrees in TURNS:
        generator = torch.Generator().manual_seed(degrees)
        turned = turn(images.float(), degrees, generator).round().to(torch.uint8)
        errors[f"+-{degrees}"] = 100 - 100 * utils.get_accuracy(model, Batches(turned, labels, 1000), device)
    return errors


def expected_calibration_error(probabilities, labels, bins=15):
    """Return the mean gap between confidence and accuracy, 0..1 (Guo et al. 2017, equation 3).

    Images are put into `bins` equal intervals of the largest probability; gaps are weighted by the images in them.
    """
    confidence, predictions = probabilities.max(1)
    right = (predictions == labels).float()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins).index_add(0, index, right - confidence)
    return (gaps.abs().sum() / len(labels)).item()


def print_scores(model, test_set, device):
    """Print everything that --evaluate promises about model on the test set."""
    logits, labels = utils.predict_all(model, Batches(*test_set, 1000), device)
    probabilities, right = logits.softmax(1), logits.argmax(1) == labels
    print(f"test accuracy {percent(right.float().mean().item())} ({(~right).sum().item()} of {len(labels):,} wrong)")
    for degrees, errors in score(model, test_set, device).items():
        if degrees != "upright":
            print(f"  turned within {degrees:>4} degrees: {100 - errors:.2f} %")
    for digit in range(10):
        of_digit = right[labels == digit]
        if len(of_digit):
            print(f"  digit {digit}: {percent(of_digit.float().mean().item())} "
                  f"({(~of_digit).sum().item():2d} of {len(of_digit):,} wrong)")
    print(f"expected calibration error {percent(expected_calibration_error(probabilities, labels))} (15 bins)")


def percent(fraction):
    return f"{100 * fraction:.2f} %"


def summarise(results, first):
    """Print each seed's errors on the test set and accuracies, their mean and standard deviation."""
    print("accuracy in %    " + "".join(f"{key:>9}" for key in results[0]))
    for seed, result in enumerate(results, first):
        print(f"  seed {seed:<9} " + "".join(f"{value:9.2f}" for value in result.values()))
    columns = list(zip(*(result.values() for result in results)))
    print("  mean           " + "".join(f"{statistics.mean(column):9.3f}" for column in columns))
    print("  std            " + "".join(f"{statistics.stdev(column):9.3f}" for column in columns))


def plot_history(history, settings, figure=None):
    columns = [[row[key] for row in history] for key in ("train_loss", "valid_loss", "valid_accuracy")]
    return plots.plot_losses(*columns, f"LeNet-5 on MNIST, {settings['recipe']} recipe, seed {settings['seed']}", figure)


def make_watch(settings, path):
    """Return the function watch(history) of --live: it redraws the loss curves in a window or, without one, in path.

    Not in loss_curves.png, which shows how the network beside it was trained: this run may never end, or be of another seed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained", label="LeNet-5 learns")
    try:
        window.open_window(figure, wait=False)
    except LeNetError:
        where = utils.one_line(utils.short_path(path))
        print(f"train.py: no window can be opened here, so the loss curves are in {where}", file=sys.stderr)
        save = forgiving(window.save_figure)
        return lambda history: save(plot_history(history, settings), path)
    open_here = [True]
    figure.canvas.mpl_connect("close_event", lambda event: open_here.clear())  # the training goes on without it

    def watch(history):
        if open_here:
            plot_history(history, settings, figure)
            figure.canvas.draw()
            figure.canvas.flush_events()

    return watch


def write_figures(model, history, train_set, test_set, device, assets, settings):
    """Write the pictures of a run (of an evaluation, if history is None) into the folder assets; return their paths.

    One that can't be written is a warning.
    """
    logits, labels = utils.predict_all(model, Batches(*test_set, 1000), device)
    images = test_set[0].cpu()
    figures = {
        "confusion_matrix.png": plots.plot_confusion(labels, logits.argmax(1)),
        "mistakes.png": plots.plot_mistakes(images, labels, logits.softmax(1)),
    }
    if history is not None:
        figures["loss_curves.png"] = plot_history(history, settings)
        if augment := make_augment(settings["ingredients"]):
            images, labels = train_set
            digits = torch.stack([images[labels == digit][0] for digit in labels.unique()]).cpu()
            batch = digits.repeat(24, 1, 1, 1).float() / 255  # strokes: first quarter thicker, second thinner, rest as is
            distorted = augment(batch, torch.Generator().manual_seed(0)).view(24, *digits.shape)
            names = ["thicker", "thinner", "as is", "as is"] if "strokes" in settings["ingredients"] else [""] * 4
            figures["augmentation.png"] = plots.plot_rows([digits, *distorted[[0, 6, 12, 18]]], ["MNIST", *names],
                                                          "Training digits, and what the network sees of them in four epochs")
    save = forgiving(window.save_figure)
    return [assets / name for name, figure in figures.items() if save(figure, assets / name)]
