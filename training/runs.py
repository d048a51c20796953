"""A run from its settings to its files: one seed or several, new or resumed."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

import utils
from figures import window
from training import files, own_pictures, report
from training.checkpoints import (choose_checkpoint, load_checkpoint, read_file,
                                  save_checkpoint)
from training.data import DIGITS, Batches, load_data, load_set
from training.files import best_epoch, sibling_path
from training.recipes import RECIPES, prepare
from utils import LeNetError

def run(training_process, settings, data, device, checkpoint, state=None, on_epoch=None, own=None):
    """Train one network as settings say; keep its state, after each epoch, beside checkpoint.

    training_process: train.py's. settings: recipe, epochs, batch_size, lr, seed, limit,
    ingredients, threads (for the record: torch has been told). data: ((images, labels) for
    training, validation, test), uint8 on device.
    state: as kept, to resume from. on_epoch(history) is called once the state is safe. own:
    (images, labels) of the user's own to train on, too. Returns (best_model, history, errors on the
    test set as report.score() gives them).
    """
    train_set, valid_set, test_set = data
    model, optimizer, train_loader, how = prepare(settings, train_set, device, own)
    parts = {"model": model, "optimizer": optimizer, "scheduler": how["scheduler"]}
    parts = {name: part for name, part in parts.items() if part is not None}
    generator = train_loader.generator
    history, best_weights = restore(state, settings, parts, generator, checkpoint)
    write_history = report.warn_on_error(files.write_history)

    def keep(history, best_weights):
        states = {name: part.state_dict() for name, part in parts.items()}
        save_checkpoint(sibling_path(checkpoint, "last.pth"), best_weights, history=history,
                        generator=generator.get_state(), rng=torch.get_rng_state(), **states,
                        **files.describe(settings, history))
        if on_epoch is not None:
            on_epoch(history)
        write_history(history, sibling_path(checkpoint, "last.csv"))
        is_best = best_epoch(history) is history[-1]
        print(report.epoch_line(history[-1], is_best), flush=True)

    if len(history) >= settings["epochs"]:
        print("that run is complete: nothing is left to train, and its files are written once more")
    print(report.HEADER, flush=True)
    few = Batches(*(part[:2000] for part in train_set), 1000)  # all would take a third of an epoch
    best_model, _, _ = training_process(
        model, nn.CrossEntropyLoss(), optimizer, train_loader, Batches(*valid_set, 1000),
        settings["epochs"], device, history=history, best_weights=best_weights, on_epoch=keep,
        train_sample=few, **how)
    return best_model, history, report.score(best_model, test_set, device)


def train_seeds(training_process, args, settings, device, scratch, state, pictures):
    """Train args.seeds networks and say how each did on the test set."""
    data = load_data(args.data_dir, device, settings["limit"], settings.get("data", "mnist"))
    settings["batch_size"] = min(settings["batch_size"], len(data[0][1]))
    utils.keep_freed_memory()
    if args.dry_run:  # one batch of everything
        data = [tuple(tensor[:settings["batch_size"]] for tensor in part) for part in data]
    print(report.headline(device, settings, data))
    own = own_pictures.as_tensors(pictures) if pictures else None
    if state is None:
        files.keep_unfinished(args.checkpoint, settings, Batches(*data[1], 1000), device)
    results, first, comparison = [], settings["seed"], None
    for seed in range(first, first + args.seeds):
        settings = dict(settings, seed=seed)
        print(report.describe_settings(settings))
        live = report.make_watch(settings, args.pictures / "live.png") if args.live else None
        if seed > first:
            args.stopped = f"stopped; the files are those of seed {first}, which was completed"

        def on_epoch(history):
            if seed == first and not args.dry_run:
                args.stopped = how_to_resume(args)
            if live is not None:
                live(history)

        started = time.perf_counter()
        path = args.checkpoint if seed == first else scratch / f"seed{seed}.pth"
        model, history, errors = run(training_process, settings, data, device, path, state,
                                     on_epoch, own)
        seconds = time.perf_counter() - started
        results.append(report.print_result(best_epoch(history), errors, len(data[2][1]),
                                           len(settings.get("classes", DIGITS)), seconds))
        if not args.dry_run:
            outcome = dict(results[-1], seconds=round(seconds, 1))
            report.warn_on_error(files.keep_run)(args.runs, model, history, settings, outcome,
                                                 device)
        if pictures:
            n = own_pictures.count_correct(pictures, model)
            print(f"your pictures: {n} of {len(pictures)} read correctly", flush=True)
        if seed == first:
            comparison = finish(args, settings, model, history, errors, data, device)
    if args.seeds > 1:
        report.summarise(results, first)
    if comparison:
        print(utils.one_line(comparison))
    tell_what_is_read_with(args, settings)
    if args.live:
        sys.stdout.flush()
        window.wait_for_windows()


def tell_what_is_read_with(args, settings):
    """Say so if predict.py goes on reading with the shipped network."""
    if args.checkpoint != utils.CHECKPOINT or choose_checkpoint()[0] != utils.SHIPPED:
        return
    if settings.get("classes", DIGITS) != DIGITS:
        print("predict.py reads digits, with the shipped network; train.py --evaluate "
              f"--checkpoint {utils.one_line(utils.short_path(args.checkpoint))} scores this one")
    else:
        print("predict.py reads with the shipped network, which is better on validation; "
              f"--checkpoint {utils.one_line(utils.short_path(args.checkpoint))} reads with this")


def finish(args, settings, model, history, errors, data, device):
    """Write the files of a completed run; return what there is to say of the replaced network."""
    metadata = dict(files.describe(settings, history), test_accuracy=100 - errors["upright"])
    comparison = files.install_checkpoint(args.checkpoint, model.state_dict(), metadata,
                                         Batches(*data[1], 1000), device)
    written, table = [args.checkpoint], sibling_path(args.checkpoint, "history.csv")
    if report.warn_on_error(files.write_history)(history, table):
        written.append(table)
    written += report.write_figures(model, history, data[0], data[2], device, args.pictures,
                                    settings)
    if not args.dry_run:
        tell_written(written)
    return comparison


def tell_written(paths):
    if paths:
        print(utils.one_line("written: " + " ".join(map(utils.short_path, paths))))


def evaluate(args, device):
    """Do what --evaluate asks for."""
    model, metadata = load_checkpoint(args.checkpoint, device)
    settings = metadata.get("settings", {})
    test_set = load_set(settings.get("data", "mnist"), False, args.data_dir)
    test_set = [tensor.to(device) for tensor in test_set]
    name = utils.one_line(utils.short_path(args.checkpoint))
    report.print_scores(name, model, test_set, device, settings.get("classes", DIGITS))
    tell_written(report.write_figures(model, None, None, test_set, device, args.pictures, settings))


# --------------------------------------------------------------------------------------------------
# To resume

def load_state(checkpoint):
    """Return the state of the interrupted run; raise LeNetError if there is none to resume."""
    path = sibling_path(checkpoint, "last.pth")
    if not os.path.lexists(path):
        raise LeNetError(f"{path}: there is no run to resume; start one without --resume")
    state = read_file(path)
    needed = {"recipe", "epochs", "batch_size", "lr", "seed", "limit", "ingredients", "threads"}
    wanted = {"settings": dict, "history": list, "weights": dict, "model": dict, "optimizer": dict}
    is_state = isinstance(state, dict) and all(isinstance(state.get(key), kind)
                                               for key, kind in wanted.items())
    if not is_state or not needed <= state["settings"].keys():
        raise LeNetError(f"{path} is not the state of a run; delete it and start a new run")
    load_checkpoint(path)  # of model.py's network?
    return state


def check_resume(args, options, settings, saved):
    """Raise ValueError, naming them, if settings that were asked for, by the named options,
    contradict the saved ones; but more epochs extend a run whose learning rate is constant."""
    asked = [key for key in options if key in args]
    if "epochs" in asked and settings["epochs"] > saved["epochs"]:
        if "schedule" in saved["ingredients"]:
            raise ValueError("argument --resume: the run can't be extended, since its learning "
                             f"rate is scheduled for --epochs {saved['epochs']}; start a new run "
                             f"with --epochs {settings['epochs']}")
        saved["epochs"] = settings["epochs"]
    settings, saved = {"data": "mnist"} | settings, {"data": "mnist"} | saved
    wanted = [key for key in settings if key in asked or "without" in asked and key == "ingredients"
              or any(each.startswith(f"{key}=") for each in getattr(args, "set", []))]
    other = [f"{key} {saved.get(key)}, not {settings[key]}" for key in sorted(wanted)
             if settings[key] != saved.get(key)]
    if "deterministic" in saved and "deterministic" not in asked:
        other.append("--deterministic")
    if args.mine and "mine" not in saved:
        other.append("no pictures of your own")
    if other:
        raise ValueError(f"argument --resume: the interrupted run has {'; '.join(other)}")


def how_to_resume(args):
    """Return what to say when a run is stopped that can be resumed: where it is, and the command as
    it has to be typed here."""
    options = [f"--{name}={value}" for name, value, default in (
        ("checkpoint", args.checkpoint, utils.CHECKPOINT), ("assets-dir", args.assets_dir, None),
        ("data-dir", args.data_dir, utils.DATA), ("device", args.device, "auto"))
        if value != default]
    python = Path(sys.executable or "python")
    found = shutil.which(python.name)  # not the one of a virtual environment that is not active
    is_found = found and Path(found).parent == python.parent
    words = [python.stem if is_found else utils.short_path(python),
             utils.short_path(utils.ROOT / "train.py"), "--resume", *options,
             *["--live"] * args.live, *["--deterministic"] * ("deterministic" in args)]
    command = subprocess.list2cmdline(words) if os.name == "nt" else " ".join(map(_quote, words))
    return (f"stopped; every finished epoch is in {sibling_path(args.checkpoint, 'last.pth')}: "
            f"{command} continues from there")


def _quote(word):
    """Return word as it is typed in a shell, on one line: with a line break in it as $'a\\x0ab',
    which bash and zsh know."""
    if utils.one_line(word) == word:
        return shlex.quote(word)
    letters = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}"
               for byte in os.fsencode(word))
    return f"$'{''.join(letters)}'"


def restore(state, settings, parts, generator, checkpoint):
    """Return (history, weights of its best epoch) of the run in state, and set parts, a dict of
    model, optimizer and scheduler, and generator as they were; ([], None) of a new run."""
    if state is None:
        return [], None
    try:
        if not set(settings["ingredients"]) <= set(RECIPES[settings["recipe"]]["ingredients"]):
            raise KeyError("an ingredient of another version")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["rng"])
        return state["history"], state["weights"]
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise LeNetError(f"{sibling_path(checkpoint, 'last.pth')} does not fit this version of "
                         "train.py; start a new run") from error


def load_own_pictures(folder, settings):
    """Return the own_pictures.Pictures in folder, and note them in settings. Raises ValueError if
    there are none, LeNetError if they have changed since the run in settings began."""
    pictures, problems = own_pictures.load(folder)
    for path, why in problems:
        print(f"train.py: {utils.one_line(path)}: {why}; the training goes on", file=sys.stderr)
    begun, now = settings.get("mine"), own_pictures.fingerprint(pictures)
    if begun not in (None, now):
        raise LeNetError(f"the pictures in {folder} are not those that the run began with "
                         f"({begun}, now {now}): put them back, or start a new run with --mine")
    if not pictures:
        raise ValueError(f"argument --mine: no pictures in {folder}/0 to 9; "
                         "python predict.py photo.jpg --label 7 puts one there, and so do the "
                         "digit keys of python predict.py --draw")
    settings["mine"] = now
    return pictures
