"""The files of a run, by the name of its network's file, so that two runs into one folder don't meet.

    LeNet5.pth             the network of the last run that came to its end
    LeNet5.history.csv     its epochs
    LeNet5.previous.pth    the best of the networks that such runs have replaced
    LeNet5.last.pth        the state of the last run after its last epoch, to go on from; a checkpoint, too, of its best epoch
    LeNet5.last.csv        the epochs of that run so far

A run that is interrupted leaves the network, its history and its pictures alone. One that ends puts its network there, even a
worse one, but of all that were there before, and of runs that never ended, the best is kept.
"""

import itertools
import os
from pathlib import Path

import torch
from torch import nn

import utils
from utils import LeNetError

OURS = (".last", ".previous", ".history")


def beside(checkpoint, what):
    """Return the path of the file `what`, last.pth say, that belongs to checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name.removesuffix('.pth')}.{what}")


def check_name(checkpoint):
    """Raise ValueError if a network can't be written to checkpoint, if the file of another run has that name, or if two of the
    run's files are one, by a link: what is written to the one would be lost from the other."""
    utils.check_file(checkpoint, "--checkpoint")
    if not checkpoint.name.endswith(".pth"):  # x's state would be x.pth's, too
        raise ValueError(f"argument --checkpoint: a network's file is called NAME.pth, not {checkpoint.name}")
    if Path(checkpoint.stem).suffix in OURS:
        raise ValueError(f"argument --checkpoint: {checkpoint.name} would be a file of a run to "
                         f"{Path(checkpoint.stem).stem}.pth; choose another name")
    files = [checkpoint, *(beside(checkpoint, what) for what in ("last.pth", "last.csv", "previous.pth", "history.csv"))]
    for one, other in itertools.combinations(files, 2):
        if os.path.realpath(one) == os.path.realpath(other):
            raise ValueError(f"argument --checkpoint: {one} and {other} are one file, and each would be written over the other: "
                             "replace the link by a copy")


def check_replaceable(checkpoint):
    """Raise LeNetError if checkpoint is there but not a network that could be kept, and so compared, when it is replaced."""
    if os.path.exists(checkpoint):
        try:
            utils.load_checkpoint(checkpoint)
        except LeNetError as error:
            raise LeNetError(f"{error}; a training would replace it: move it away, or name another --checkpoint") from error


def load_state(checkpoint):
    """Return the state of the run that was interrupted; raises LeNetError if there is none that can be used."""
    path = beside(checkpoint, "last.pth")
    if not os.path.lexists(path):
        raise LeNetError(f"{path}: there is no run to resume; start one without --resume")
    state = utils.read_file(path)
    wanted = {"settings": dict, "history": list, "weights": dict, "model": dict, "optimizer": dict}
    if not isinstance(state, dict) or not all(isinstance(state.get(key), kind) for key, kind in wanted.items()):
        raise LeNetError(f"{path} is not the state of a run; delete it and start a new run")
    return state


def best_epoch(history):
    """Return the row of history with the lowest validation loss, the earliest if several have it."""
    return min(history, key=lambda row: row["valid_loss"])


def describe(settings, history):
    """Return what a checkpoint says about its network, plain types only."""
    best = best_epoch(history)
    return dict(recipe=settings["recipe"], settings=settings, seed=settings["seed"], epoch=best["epoch"],
                valid_loss=best["valid_loss"], valid_accuracy=best["valid_accuracy"])


def load_if_there(path, valid_loader, device):
    """Return (weights, validation loss) of the network in path, measured if the file does not say it; (None, infinity) if
    there is none."""
    try:
        model, metadata = utils.load_checkpoint(path, device)
    except LeNetError:
        return None, float("inf")
    loss = metadata.get("valid_loss")
    if not isinstance(loss, float):
        loss, _ = utils.evaluate(model, valid_loader, nn.CrossEntropyLoss(), device)
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}, loss


def rescue(checkpoint, valid_loader, device):
    """Before a new run's state takes the place of an older one's: keep the older run's best network, if it never came to its
    end and did better than what is there."""
    last, previous = beside(checkpoint, "last.pth"), beside(checkpoint, "previous.pth")
    _, loss = load_if_there(last, valid_loader, device)
    if loss < min(load_if_there(path, valid_loader, device)[1] for path in (checkpoint, previous)):
        state = utils.read_file(last)
        utils.save_checkpoint(previous, state["weights"], **describe(state["settings"], state["history"]))


def put_in_place(checkpoint, weights, metadata, valid_loader, device):
    """Write the network of a run that has come to its end to checkpoint; see to it that the best one that it replaces, or
    that others replaced before, is in NAME.previous.pth. Return a line about the one that was there, or None."""
    previous, sentence = beside(checkpoint, "previous.pth"), None
    old_weights, old = load_if_there(checkpoint, valid_loader, device)
    if old_weights and not all(torch.equal(old_weights[name], tensor.cpu()) for name, tensor in weights.items()):
        _, kept = load_if_there(previous, valid_loader, device)
        if old <= kept:
            content = checkpoint.read_bytes()
            utils.write_atomically(previous, lambda file: file.write(content))
        better = "the new one is better" if metadata["valid_loss"] <= old else "the old one is better"
        where = f"kept in {utils.short_path(previous)}" if old <= kept else (
            f"not kept, for a better one is, in {utils.short_path(previous)} (validation loss {kept:.4f})")
        sentence = (f"the network that was there before is {where}; validation loss {metadata['valid_loss']:.4f} now, "
                    f"{old:.4f} then: {better}")
    utils.save_checkpoint(checkpoint, weights, **metadata)
    return sentence
