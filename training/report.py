"""How a run is scored, reported and drawn."""

import math
import statistics
import sys
from collections import Counter

import torch

from figures import plots, window
import utils
from training import files
from training.augment import make_augment, random_rotation
from training.data import DIGITS, Batches
from training.negatives import make_negatives
from training.styles import other_styles
from training.fast_cpu import count_chunks
from utils import LeNetError

HEADER = "epoch  train loss  val loss  val accuracy  wrong        lr  seconds"
BINS = 15  # of the calibration error


def epoch_line(row, is_best):
    """Return one aligned line about an epoch."""
    return (f"{row['epoch']:5d}  {row['train_loss']:10.4f}  {row['valid_loss']:8.4f}  "
            f"{row['valid_accuracy']:10.2f} %  {row['valid_wrong']:5d}  {row['lr']:8.6f}  "
            f"{row['seconds']:7.1f}{' *' if is_best else ''}")


def headline(device, settings, data):
    """Return what a run starts with: the device, its threads, and how many images there are."""
    threads = settings["threads"]
    n_chunks = count_chunks(threads, settings["batch_size"])
    of = f" (gradients in {n_chunks})" if 1 < n_chunks < threads else ""
    on = f", {threads} thread{'s' * (threads > 1)}{of}" if device.type == "cpu" else ""
    n_train, n_valid, n_test = (len(labels) for _, labels in data)
    return (f"LeNet-5 on {device}{on}: {n_train:,} training, {n_valid:,} validation, "
            f"{n_test:,} test images")


def describe_settings(settings):
    """Return settings as one line for people; headline() has said the number of threads."""
    numbers = [f"{key} {value}" for key, value in settings.items()
             if key not in ("ingredients", "threads", "classes") and value is not None]
    ingredients = ", ".join(settings["ingredients"]) or "no augmentation, no schedule"
    return f"{', '.join(numbers)}; {ingredients}"


def print_result(best, errors, n_test, n_classes, seconds):
    """Say how a completed run did; return its row of summarise()'s table."""
    accuracies = {key: 100 - value for key, value in errors.items()}
    n_wrong = round(errors["upright"] * n_test / 100)
    print(f"best epoch {best['epoch']} (validation loss {best['valid_loss']:.4f}) after "
          f"{seconds:.0f} s; test accuracy {accuracies['upright']:.2f} % "
          f"({n_wrong:,} of {n_test:,} wrong)", flush=True)
    if best["valid_accuracy"] < min(200, 50 + 50 * n_classes) / n_classes:
        print("this is near chance: the network has not learned; a lower --lr may help, and "
              "so may more --epochs or a higher --limit", flush=True)
    return {"errors": n_wrong, "valid": best["valid_accuracy"], **accuracies}


def warn_on_error(write):
    """Return write for tables and pictures: a LeNetError is a warning, the first time, and the work
    goes on. A file may be open in a program that lets nobody else write it."""
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


ROTATIONS = (15, 30, 45)  # degrees


def score(model, test_set, device):
    """Return the errors on test_set in percent: {"upright": ..., "+-15": ..., ..., "+-45": ...}.

    For +-d each image is rotated by its own angle, uniform in -d .. d degrees, the same ones in
    every call.
    """
    images, labels = test_set
    rotated = {"upright": images}
    for degrees in ROTATIONS:
        generator = torch.Generator().manual_seed(degrees)
        turned = random_rotation(images.float(), degrees, generator)
        rotated[f"+-{degrees}"] = turned.round().to(torch.uint8)
    return {name: 100 - 100 * utils.get_accuracy(model, Batches(images, labels, 1000), device)
            for name, images in rotated.items()}


def expected_calibration_error(probabilities, labels):
    """Return the mean gap between confidence and accuracy, 0..1 (Guo et al. 2017, equation 3).

    Images are put into BINS equal intervals of the largest probability; gaps are weighted by the
    images in them.
    """
    confidence, predictions = probabilities.max(1)
    right = (predictions == labels).float()
    index = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(BINS).index_add(0, index, right - confidence)
    return (gaps.abs().sum() / len(labels)).item()


def print_scores(name, model, test_set, device, classes):
    """Print what --evaluate promises about model, from the file called name, on the test set."""
    logits, labels = utils.predict_all(model, Batches(*test_set, 1000), device)
    probabilities, right = logits.softmax(1), logits.argmax(1) == labels
    print(f"{name}: test accuracy {percent(right.float().mean().item())} "
          f"({(~right).sum().item():,} of {len(labels):,} wrong)")
    for degrees, errors in score(model, test_set, device).items():
        if degrees != "upright":
            print(f"  rotated within {degrees:>4} degrees: {100 - errors:.2f} %")
    kind = "digit" if classes == DIGITS else "class"
    for label, name in enumerate(classes):
        of_class = right[labels == label]
        if len(of_class):
            print(f"  {kind} {utils.one_line(name)}: {percent(of_class.float().mean().item())} "
                  f"({(~of_class).sum().item():2d} of {len(of_class):,} wrong)")
    print(f"most confused: {', '.join(worst_pairs(labels, logits.argmax(1), classes)) or 'none'}")
    error = expected_calibration_error(probabilities, labels)
    print(f"expected calibration error {percent(error)} ({BINS} bins)")


def worst_pairs(labels, predictions, classes, most=5):
    """Return the pairs that are confused most often as text, "4 as 9 (5)" say, up to `most`."""
    wrong = labels != predictions
    pairs = Counter(zip(labels[wrong].tolist(), predictions[wrong].tolist()))
    return [utils.one_line(f"{classes[label]} as {classes[predicted]} ({count})")
            for (label, predicted), count in pairs.most_common(most)]


def percent(fraction):
    return f"{100 * fraction:.2f} %"


def summarise(results, first):
    """Print each seed's number of errors on the test set and its accuracies, their mean and
    standard deviation."""
    print("errors on the test set, accuracy in %: validation set, test set upright and rotated")
    print("                 " + "".join(f"{key:>9}" for key in results[0]))
    for seed, result in enumerate(results, first):
        print(f"  seed {seed:<9} " + "".join(f"{value:9.2f}" for value in result.values()))
    columns = list(zip(*(result.values() for result in results)))
    print("  mean           " + "".join(f"{statistics.mean(column):9.3f}" for column in columns))
    print("  std            " + "".join(f"{statistics.stdev(column):9.3f}" for column in columns))


def plain(text):
    """Return text, a name, as a figure draws it letter by letter: a "$" begins no formula."""
    return utils.one_line(text).replace("$", r"\$")


def plot_history(history, settings, figure=None):
    """Return the loss curves of a run, in figure if one is given."""
    keys = "train_loss", "valid_loss", "valid_accuracy", "train_accuracy"
    *columns, learnt = [[row.get(key, math.nan) for row in history] for key in keys]
    title = (f"LeNet-5 on {plain(settings.get('data', 'MNIST'))}, {settings['recipe']} recipe, "
             f"seed {settings['seed']}")
    where = " on distorted images and negatives," if make_augment(settings["ingredients"]) else ""
    note = f"Training loss is measured{where} while training"
    if any(map(math.isfinite, learnt)):
        note += "; training error after each epoch, on 2,000 of its images as they are"
    return plots.plot_losses(*columns, title, figure, settings["epochs"], note, learnt)


def make_watch(settings, path):
    """Return the function watch(history) of --live: it redraws the loss curves in a window or,
    without one, in path.

    Not in loss_curves.png, which shows how the network beside it was trained: this run may never be
    completed, or be of another seed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained", label="LeNet-5 learns")
    try:
        window.open_window(figure, wait=False)
    except LeNetError:
        where = utils.one_line(utils.short_path(path))
        print(f"train.py: no window can be opened here, so the loss curves are in {where}",
              file=sys.stderr)
        save = warn_on_error(window.save_figure)
        return lambda history: save(plot_history(history, settings), path)
    open_here = [True]
    figure.canvas.mpl_connect("close_event", lambda event: open_here.clear())

    def watch(history):
        if open_here:
            plot_history(history, settings, figure)
            figure.canvas.draw()
            figure.canvas.flush_events()

    return watch


def write_figures(model, history, train_set, test_set, device, assets, settings):
    """Write the pictures of a run (of an evaluation, if history is None) into the folder assets;
    return their paths. One that can't be written is a warning."""
    logits, labels = utils.predict_all(model, Batches(*test_set, 1000), device)
    images, classes = test_set[0].cpu(), [plain(each) for each in settings.get("classes", DIGITS)]
    figures = {
        "confusion_matrix.png": plots.plot_confusion(labels, logits.argmax(1), classes),
        "mistakes.png": plots.plot_mistakes(images, labels, logits.softmax(1), classes),
    }
    if history is not None:
        figures["loss_curves.png"] = plot_history(history, settings)
        if augment := make_augment(settings["ingredients"]):
            figures["augmentation.png"] = plot_augmentation(train_set, augment, settings)
    save = warn_on_error(window.save_figure)
    return [assets / name for name, figure in figures.items() if save(figure, assets / name)]


def plot_augmentation(train_set, augment, settings):
    """Return a figure of a digit of each class, of what the network sees of it, of ones and sevens
    in another style, and of negatives."""
    (images, labels), ingredients = (part.cpu() for part in train_set), settings["ingredients"]
    digits = torch.stack([images[labels == digit][0] for digit in labels.unique()])
    batch = digits.repeat(24, 1, 1, 1).float() / 255  # a quarter of them thicker, one thinner
    generator, n = torch.Generator().manual_seed(0), len(digits)
    distorted = augment(batch, generator).view(24, *digits.shape)
    is_changed = "stroke-thickness" in ingredients
    names = ["MNIST"] + (["thicker", "thinner", "same pen", "same pen"] if is_changed else [""] * 4)
    rows = [digits, *distorted[[0, 6, 12, 18]]]
    few = images[:1000], labels[:1000]
    if "styles" in ingredients:
        index, others = other_styles(*few, generator)
        order = few[1][index].argsort(stable=True)  # the ones, then the sevens
        if len(order):  # of a few images none may be either
            rows.append(others[order[torch.linspace(0, len(order) - 1, n).long()]])
            names.append("styles")
    if "negatives" in ingredients:
        negatives = make_negatives(*few, 1000, 1, generator)
        rows.append(negatives[torch.linspace(0, len(negatives) - 1, n).long()])
        names.append("negatives")
    return plots.plot_rows(rows, names, "Training digits and what the network sees of them in four "
                           "epochs; other styles; what is no digit")


def compare(places, path):
    """Print the results of the runs in these folders and draw their curves into path."""
    curves = []
    for place in places:
        run, history = files.read_run(place)
        told = ", ".join(f"{key} {value:g}" for key, value in run["results"].items())
        print(utils.one_line(f"{place.name}: best epoch {run['best_epoch']}; {told}"))
        curves.append((plain(place.name), history))
    window.save_figure(plots.plot_comparison(curves), path)
    print(f"the curves are in {utils.one_line(utils.short_path(path))}")
