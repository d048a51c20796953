"""Draw what was read in pictures, and the way of one digit through the network."""

from itertools import zip_longest
from textwrap import wrap

import numpy as np
import torch

import utils
from figures import layers, plots
from reading.account import account
from reading.image import NoDigit, PictureError, to_array
from reading.output import say, told
from reading.reader import ask, find_best, most_prominent
from training.judge import read_views

MOST = 60  # pictures in a figure


def plot(pairs, model=None, invert=None, every_layer=False, names=()):
    """Return a Figure of pairs, each (PIL image or None, its Reading or PictureError).

    Of several, each is called by its name, if names are given. One picture is looked at again, if
    there is a model, and the figure shows what the looks took for ink; with every_layer, its way
    through the model instead.
    """
    arrays = [None if image is None else to_array(image, 512) for image, _ in pairs]
    if every_layer:
        return explain(*arrays, pairs[0][1], model)
    readings, titles = zip(*(told(reading) for _, reading in pairs))
    again = len(pairs) == 1 and model is not None
    looks = find_looks(*pairs[0], model, invert) if again else []
    if len(pairs) == 1 and readings[0] is not None and len(readings[0].digits) > 1:
        return plots.plot_number(*arrays, *readings, *titles, looks)
    mains = [None if reading is None else most_prominent(reading.digits) for reading in readings]
    names = names[:len(pairs)] if len(pairs) > 1 else ()
    titles = [caption(*each) for each in zip_longest(readings, titles, names)]
    return plots.plot_readings(arrays, readings, titles, mains, looks)


def caption(reading, said, name=None):
    """Return what a figure says of one picture in some lines: its name, if any, and what was
    read, or, if reading is None, why nothing was."""
    lines = ["no reading:", *wrap(said, 40)] if reading is None else [plots.shorten(said, 25)]
    return "\n".join([plots.shorten(utils.one_line(name), 25), *lines] if name else lines)


def find_looks(image, reading, model, invert):
    """Return account() of each look at a picture that is read, or holds no digit."""
    if image is None or isinstance(reading, PictureError) and not isinstance(reading, NoDigit):
        return []
    best = ask(find_best(image, invert), lambda views: read_views(model, views))
    return [account(look, best.looks[0]) for look in best.looks] if best is not None else []


def plot_random(images, labels, probabilities):
    """Return (Figure, number misread) of MNIST's digits with what the network said of each.

    images: uint8 (N, 1, 32, 32); labels: int64 (N,); probabilities: float (N, 10).
    """
    confidence, digits = probabilities.max(1)
    wrong = digits != labels
    blank = "\n" if wrong.any() else ""  # keeps the titles of a row at one height
    titles = [f"{digit} ({100 * p:.0f} %)" + (f"\nis a {label}" if digit != label else blank)
              for digit, p, label in zip(digits.tolist(), confidence.tolist(), labels.tolist())]
    n_wrong = wrong.sum().item()
    heading = f"{len(labels)} random test digits: reading and probability; {n_wrong} wrong, in red"
    return plots.plot_digits(images, titles, wrong.tolist(), heading), n_wrong


def explain(array, reading, model):
    """Return a Figure of a picture, float (H, W, C), on its way through every layer of model."""
    main = most_prominent(reading.digits)
    activations, steps, probabilities = watch(model, main.view)
    heading = f"{say(reading)}: from the picture to the reading, through every layer"
    if len(reading.digits) > 1:
        heading = f"The most prominent digit of {say(reading)} on its way through every layer"
    elif np.abs(probabilities - main.probabilities).max() > 0.001:
        heading = f"One of several views of the picture; their mean is read as {say(reading)}"
    return layers.plot_layers(array, main.box, activations, probabilities, heading, steps)


def watch(model, view):
    """Return ({stage: activations}, {stage: its kind}, probabilities (10,)) of a digit, uint8
    (28, 28).

    The stages are layers.trace_stages()'s, float arrays without a batch's dimension, but for Input:
    uint8 (32, 32).
    """
    view = torch.from_numpy(view[None])
    x = utils.to_inputs(view).to(next(model.parameters()).device)
    stages = layers.trace_stages(model, x)
    found = {name: output.cpu().numpy() for name, output, _, _ in stages[:-1]}
    found["Input"] = utils.resize(view)[0, 0].numpy()
    probabilities = stages[-1][1].softmax(0).cpu().numpy()
    return found, {name: kind for name, _, kind, _ in stages}, probabilities
