"""The files of a run, named after its network's file, so that two runs into one folder don't meet.

    LeNet5.pth             the network of the last completed run
    LeNet5.history.csv     its epochs
    LeNet5.previous.pth    the best of the networks of one model.py and data set that such runs
                           have replaced
    LeNet5.other.pth       the last one that was replaced by a network of another model.py, or data
                           set, with which it can't be compared
    LeNet5.last.pth        the state of the last run after its last epoch, to resume from; it is
                           also a checkpoint of that run's best epoch
    LeNet5.last.csv        the epochs of that run so far

An interrupted run leaves the network, its history and its pictures alone. A completed run replaces
the network, even by a worse one, but the best of all that were there before, and of runs that were
never completed, is kept, as far as model.py and the data set are the same. Besides, each completed
run leaves a folder in runs/: its network, its epochs, and its settings and results with the
machine's, as JSON.
"""

import contextlib
import csv
import errno
import itertools
import json
import math
import os
import platform
import re
import time
from pathlib import Path

import filelock
import torch
from torch import nn

import utils
from training.checkpoints import load_checkpoint, read_file, save_checkpoint
from utils import LeNetError

FILES = ("last.pth", "last.csv", "previous.pth", "history.csv", "other.pth")
SUFFIXES = {f".{Path(name).stem}" for name in FILES}


def sibling_path(checkpoint, what):
    """Return the path of the file `what`, last.pth say, that belongs to checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name.removesuffix('.pth')}.{what}")


def choose_folders(checkpoint, assets_dir):
    """Return the folders for pictures and for runs: those of another than the default checkpoint
    (None: the default) are beside it, so that they replace none of the default's."""
    if checkpoint in (None, utils.CHECKPOINT):
        return assets_dir or utils.ASSETS, utils.ROOT / "runs"
    return assets_dir or checkpoint.parent, checkpoint.parent / "runs"


def check_name(checkpoint):
    """Raise ValueError if a network can't be written to checkpoint, if that name belongs to another
    run, or if two of the run's files are one, by a link. Only the default's folder is made."""
    if checkpoint == utils.CHECKPOINT:
        utils.check_folder(checkpoint.parent, "--checkpoint", make=True)
    utils.check_file(checkpoint, "--checkpoint")
    if not checkpoint.name.endswith(".pth"):  # x's state would be x.pth's, too
        raise ValueError("argument --checkpoint: a network's file is called NAME.pth, not "
                         f"{checkpoint.name}")
    if Path(checkpoint.stem).suffix in SUFFIXES:
        raise ValueError(f"argument --checkpoint: {checkpoint.name} would be a file of a run to "
                         f"{Path(checkpoint.stem).stem}.pth; choose another name")
    files = [checkpoint, *(sibling_path(checkpoint, what) for what in FILES)]
    for one, other in itertools.combinations(files, 2):
        if os.path.realpath(one) == os.path.realpath(other):
            raise ValueError(f"argument --checkpoint: {one} and {other} are one file, and each "
                             "would be written over the other: replace the link by a copy")


@contextlib.contextmanager
def lock_folder(folder):
    """Hold folder for one training; the lock dies with its process. Raises LeNetError if another
    training holds it. A disk without locks is used without."""
    lock = filelock.FileLock(Path(folder) / ".lock", timeout=0)
    advice = "give this one another --checkpoint folder"
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LeNetError(f"another training is writing into {folder}; wait for it, or {advice}"
                         ) from None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) not in (None, errno.ENOLCK, errno.EOPNOTSUPP):
            raise LeNetError(f"{lock.lock_file} can't be opened ({error.strerror}): if no other "
                             f"training is running, delete it, or {advice}") from error
    try:
        yield
    finally:
        lock.release()


def data_set(metadata):
    """Return what a network was trained on, by its checkpoint's metadata; None is MNIST."""
    return metadata.get("settings", {}).get("data")


def is_other(checkpoint, settings):
    """Say whether checkpoint holds a network of another model.py or data set than settings'.

    Raises LeNetError if it is there but holds no network that could be kept.
    """
    if not os.path.exists(checkpoint):
        return False
    try:
        _, metadata = load_checkpoint(checkpoint)
        return data_set(metadata) != settings.get("data")
    except LeNetError as error:
        with contextlib.suppress(LeNetError):
            content = read_file(checkpoint)
            if isinstance(content, dict) and "network" in content:  # train.py made it
                return True
        raise LeNetError(f"{error}; a training would replace it: move it away, or name another "
                         "--checkpoint") from error


def best_epoch(history):
    """Return the row of history with the lowest validation loss, the earliest of several."""
    return min(history, key=lambda row: row["valid_loss"])


def describe(settings, history):
    """Return what a checkpoint says about its training, plain types only."""
    best = best_epoch(history)
    return dict(recipe=settings["recipe"], settings=settings, seed=settings["seed"],
                epoch=best["epoch"], valid_loss=best["valid_loss"],
                valid_accuracy=best["valid_accuracy"])


# --------------------------------------------------------------------------------------------------
# What is kept

def load_if_there(path, settings, valid_loader, device):
    """Return (weights, validation loss) of the network in path, the loss measured if the file does
    not say it; (None, infinity) if there is none, or one of another data set than settings'."""
    try:
        model, metadata = load_checkpoint(path, device)
    except LeNetError:
        return None, float("inf")
    if data_set(metadata) != settings.get("data"):
        return None, float("inf")
    loss = metadata.get("valid_loss")
    if not isinstance(loss, float):
        loss, _ = utils.evaluate(model, valid_loader, nn.CrossEntropyLoss(), device)
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}, loss


def keep_unfinished(checkpoint, settings, valid_loader, device):
    """Keep the best network of an older run as previous.pth, if that run was never completed and
    did better than what is there, all on settings' data set: its state is about to be replaced."""
    last, previous = (sibling_path(checkpoint, what) for what in ("last.pth", "previous.pth"))
    loss, *others = (load_if_there(path, settings, valid_loader, device)[1]
                     for path in (last, checkpoint, previous))
    if loss < min(others):
        state = read_file(last)
        save_checkpoint(previous, state["weights"], **describe(state["settings"], state["history"]))


def install_checkpoint(checkpoint, weights, metadata, valid_loader, device):
    """Write the network of a completed run to checkpoint; keep the best of those that it and others
    replaced as NAME.previous.pth. Return a line about the one that was there, or None."""
    settings = metadata.get("settings", {})
    if is_other(checkpoint, settings):
        other = sibling_path(checkpoint, "other.pth")
        utils.write_atomically(other, checkpoint.read_bytes())
        save_checkpoint(checkpoint, weights, **metadata)
        return f"the network that was there before, a different one, is {utils.short_path(other)}"
    previous, sentence = sibling_path(checkpoint, "previous.pth"), None
    old_weights, old = load_if_there(checkpoint, settings, valid_loader, device)
    if old_weights and any(not torch.equal(old_weights[name], tensor.cpu())
                           for name, tensor in weights.items()):
        _, kept = load_if_there(previous, settings, valid_loader, device)
        if old <= kept:
            utils.write_atomically(previous, checkpoint.read_bytes())
        better = "the new one" if metadata["valid_loss"] <= old else "the old one"
        where = utils.short_path(previous)
        where = f"kept in {where}" if old <= kept else (
            f"not kept, for a better one is, in {where} (validation loss {kept:.4f})")
        sentence = (f"the network that was there before is {where}; validation loss "
                    f"{metadata['valid_loss']:.4f} now, {old:.4f} then: {better} is better")
    save_checkpoint(checkpoint, weights, **metadata)
    return sentence


# --------------------------------------------------------------------------------------------------
# The folders of runs

def write_history(history, path):
    """Write one line per epoch to a CSV file."""
    columns = list(history[-1])
    rows = [[row.get(key, math.nan) for key in columns] for row in history]
    utils.write_csv(path, [columns, *([f"{value:.6g}" if isinstance(value, float) else value
                                       for value in row] for row in rows)])


def keep_run(folder, model, history, settings, results, device):
    """Keep a completed run in a new folder of its own in folder: LeNet5.pth, history.csv and
    run.json. Raises LeNetError if it can't be written."""
    name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{settings['recipe']}_seed{settings['seed']}"
    taken = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    place = next(place for place in (Path(folder) / f"{name}{end}" for end in taken)
                 if not os.path.lexists(place))
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise LeNetError(f"{place} could not be made ({error.strerror})") from error
    report = dict(settings=settings, best_epoch=best_epoch(history)["epoch"], results=results,
                  machine=describe_machine(device))
    text = json.dumps(report, indent=1, default=str)
    save_checkpoint(place / "LeNet5.pth", model.state_dict(), **describe(settings, history))
    write_history(history, place / "history.csv")
    utils.write_atomically(place / "run.json", text.encode())


def describe_machine(device):
    """Return what results may depend on: processor, instruction set, threads, versions."""
    try:
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:  # not Linux
        names = []
    return dict(device=str(device), processor=names[0] if names else platform.processor(),
                instructions=torch.backends.cpu.get_cpu_capability(),
                threads=torch.get_num_threads(), system=platform.platform(),
                python=platform.python_version(), torch=str(torch.__version__))


def read_run(place):
    """Return (report, history) of a run's folder; raise LeNetError if it is none."""
    try:
        report = json.loads((place / "run.json").read_text())
        with open(place / "history.csv") as file:
            rows = [{key: float(value) for key, value in row.items()}
                    for row in csv.DictReader(file)]
        history = {key: [row[key] for row in rows] for key in rows[0]}
        # what is compared
        [history[key] for key in ("epoch", "train_loss", "valid_loss", "valid_accuracy")]
        [f"{value:g}" for value in report["results"].values()], report["best_epoch"]
        return report, history
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or error
        reason = f"it has no {error}" if isinstance(error, KeyError) else reason
        raise LeNetError(f"{place} is not the folder of a run: {reason}") from error
