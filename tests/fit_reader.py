"""Fit the reader's weights on pictures by many writers, leaving writers out.

    python tests/fit_reader.py FOLDER ...    each with labels.csv: file, label, hand (the writer)
    python tests/fit_reader.py FOLDER ... --save reliability.png
    python tests/fit_reader.py FOLDER ... --checkpoint FILE    with another network

A picture without a label (or a column of labels) shows no digit. Every weight is tried at the
values below, the others as they are, by the log loss of the printed probability; the best value is
printed, and what it would be without each sixth of the writers: read with the weights that the
others choose, the held-out pictures show what fitting is worth. --save draws how many of the
readings said with such a probability are right (a reliability diagram; Niculescu-Mizil and Caruana
2005).
"""

import argparse
import csv
import hashlib
import itertools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import predict  # noqa: E402
from figures import plots, window  # noqa: E402
from reading import candidates, posterior, reader  # noqa: E402
from reading.image import PictureError, open_picture  # noqa: E402
from reading.output import SURE  # noqa: E402
from training import judge  # noqa: E402

FOLDS = 6
BANDS = 0.0, 0.5, 0.8, 0.95, 0.99, 1.0  # of the printed probability
WEIGHTS = {
    (judge, "TURN"): (0, 5, 8, 12),
    (candidates, "EACH"): (0.3, 0.4, 0.5, 0.6),
    (candidates, "SKIP"): (2.0, 2.5, 3.0, 3.5),
    (candidates, "TWO"): (0.75, 1.5, 2.25),
    (posterior, "TEMPERATURE"): (0.03, 0.05, 0.08),
    (posterior, "MANY_DIGITS"): (0.1, 0.15, 0.2),
    (posterior, "ENOUGH"): (0.65, 0.75, 0.85),
    (posterior, "SUSPECT"): (0.5, 0.7, 1.0),
    (reader, "CLEAR"): (0.85, 0.9, 0.95),
    (reader, "BEYOND_DOUBT"): (0.003, 0.01, 0.03),
}


def remember():
    """Make the reader find hypotheses and candidates once for all settings.

    Returns a function that forgets a picture.
    """
    found, judged, arrays = {}, {}, {}
    find_hypotheses, find_candidates = reader.find_hypotheses, reader.find_candidates
    to_array = reader.to_array

    def find_again(array, *options):
        key = hashlib.md5(array.tobytes()).digest(), array.shape, options
        whole = found[key] if key in found else find_hypotheses(array, *options)
        found[key], again = itertools.tee(whole)
        return again

    def judge_again(hypothesis):
        key = id(hypothesis), judge.TURN  # found keeps hypotheses, so no other has this id
        if key not in judged:
            judged[key] = yield from find_candidates(hypothesis)
        return judged[key]

    def to_array_again(image, size):
        if size not in arrays:
            arrays[size] = to_array(image, size)
        return arrays[size]

    reader.find_hypotheses, reader.find_candidates = find_again, judge_again
    reader.to_array = to_array_again
    return lambda: [memo.clear() for memo in (found, judged, arrays)]


def pictures(folders):
    """Yield (path, its digits or "", folder, hand) of all pictures in folders."""
    for folder in map(Path, folders):
        with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                label = "".join(filter(str.isdigit, row.get("label") or ""))
                yield folder / row["file"], label, folder.name, (folder.name, row["hand"])


def put(setting):
    """Give the reader the weights of a setting, {(module, name): value}."""
    for (module, name), value in setting.items():
        setattr(module, name, value)


def read_all(folders, settings, checkpoint=None):
    """Return (rows, p, right): p, right, float and bool (settings, pictures)."""
    model = predict.load_model(None, checkpoint, "cpu")
    forget = remember()
    rows, p, right = list(pictures(folders)), [], []
    for path, label, _, _ in rows:
        image, each = open_picture(path), []
        for setting in settings:
            put(setting)
            try:
                reading = reader.read_picture(image, lambda views: judge.read_views(model, views))
                text = "".join(filter(str.isdigit, reading.text))
                each.append((reading.probability, text == label))
            except PictureError:
                each.append((0.0, False))
        forget()
        p.append([x for x, _ in each])
        right.append([x for _, x in each])
    put(settings[0])
    return rows, np.array(p).T, np.array(right).T


def log_loss(p, right, written):
    """Return minus the log probability of what is the case, float (settings, pictures).

    What was not said gets a tenth of the rest: if digits are written, that is, else all of it.
    """
    return -np.log(np.where(right, p, np.where(written, 0.1, 1) * (1 - p)).clip(0.001))


def report(name, rows, p, right):
    """Print how many of each folder's pictures are right, wrong and sure, right and sure."""
    for folder in dict.fromkeys(row[2] for row in rows):
        ours = np.array([row[2] == folder for row in rows])
        good, sure = right[ours], p[ours] >= SURE
        print(f"{name:28s} {folder:10s} {ours.sum():4d}  right {100 * good.mean():6.2f} %  wrong and "
              f"sure {(sure & ~good).sum():3d}  right and sure {100 * (sure & good).mean():5.1f} %")


def bands_of(p, right):
    """Yield (mean probability, readings, of these right) of each of BANDS that holds any."""
    band = np.digitize(p, BANDS[1:-1])
    for k in np.unique(band):
        ours = band == k
        yield p[ours].mean(), int(ours.sum()), int(right[ours].sum())


def plot_reliability(rows, p, right):
    """Return a Figure of how many of the readings said with such a probability are right.

    A line for each folder with labels; bars are 95 % intervals (Wilson 1927). What was not read is
    left out.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.4), layout="constrained")
    ax = figure.subplots()
    ax.plot((0, 100), (0, 100), "--", color=plots.PALE, label="as many as said")
    for i, folder in enumerate(dict.fromkeys(row[2] for row in rows if row[1])):
        ours = np.array([row[2] == folder and row[1] != "" for row in rows]) & (p > 0)
        if not ours.any():
            continue
        said, n, good = map(np.array, zip(*bands_of(p[ours], right[ours])))
        share, wide = good / n, 1.96 ** 2 / n
        middle = (share + wide / 2) / (1 + wide)
        half = np.sqrt(wide * share * (1 - share) + wide ** 2 / 4) / (1 + wide)
        bars = np.stack([share - middle + half, middle + half - share]).clip(0)
        ax.errorbar(100 * said, 100 * share, 100 * bars, fmt="-o", capsize=3, markersize=4,
                    color=(plots.INK, plots.DOUBT, plots.GREY)[i % 3], label=f"{folder}: {ours.sum()}")
    ax.set(title="How often the reader is right, by how sure it is", xlim=(0, 101), ylim=(0, 101),
           xlabel="probability that was said (%), mean of a band", ylabel="read correctly (%)")
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right", title="folder: pictures")
    return figure


def main(folders, save=None, checkpoint=None):
    """Print what each weight's values are worth on the pictures in folders; draw save, if given."""
    today = {key: getattr(*key) for key in WEIGHTS}
    settings = [today] + [today | {key: value} for key, values in WEIGHTS.items()
                          for value in values if value != today[key]]
    rows, p, right = read_all(folders, settings, checkpoint)
    writers = sorted({row[3] for row in rows})
    fold = np.array([writers.index(row[3]) % FOLDS for row in rows])
    report("as they are", rows, p[0], right[0])
    if save:
        window.save_figure(plot_reliability(rows, p[0], right[0]), save)
    loss = log_loss(p, right, np.array([row[1] != "" for row in rows]))
    for (module, name), values in WEIGHTS.items():
        at = {value: 0 if value == today[module, name]
              else settings.index(today | {(module, name): value}) for value in values}
        best = min(at, key=lambda value: loss[at[value]].mean())
        chosen = [min(at, key=lambda value: loss[at[value], fold != k].mean())
                  for k in range(FOLDS)]
        tried = "  ".join(f"{value:g}: {loss[i].mean():.4f}" for value, i in at.items())
        held_out = loss[[at[chosen[k]] for k in fold], np.arange(len(rows))].mean()
        print(f"{name:12s} {tried}  best {best:g}; without a sixth of the writers "
              f"{', '.join(f'{value:g}' for value in chosen)}: {held_out:.4f} on it")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="pictures and labels.csv")
    parser.add_argument("--save", metavar="FILE", help="a figure: how sure is right how often")
    parser.add_argument("--checkpoint", metavar="FILE", help="the network (predict.py's)")
    main(**vars(parser.parse_args()))
