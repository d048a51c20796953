"""Train LeNet-5 on MNIST.

    python train.py                       the default recipe, a minute on two CPU cores
    python train.py --epochs 5            a short run for the impatient
    python train.py --recipe classic      the lecture to the letter: Adam, lr 0.001, batch 64, 30 epochs
    python train.py --seeds 5             seeds 0..4 one after the other, mean and standard deviation
    python train.py --live                the loss curves redrawn after every epoch, in a window if there is a display
    python train.py --mine                the pictures in data/mine/0 to 9 among the training images
    python train.py --resume              go on with a run that was interrupted
    python train.py --evaluate            score the checkpoint on the test set, upright and turned

Writes, at its end, the weights of the epoch with the lowest validation loss to Model/LeNet5.pth, the epochs' figures to
Model/LeNet5.history.csv, and loss curves, confusion matrix, mistakes and distorted digits to Assets/.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: the end, without a traceback

import argparse
import contextlib
import copy
import functools
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from training import fast_cpu
from training import own_pictures
from training import report
from training import runs
import utils
from training.data import N_TRAINING, Batches, load_data
from training.recipes import RECIPES, prepare
from training.runs import best_epoch
from utils import LeNetError

# ---------------------------------------------------------------------------------------------------------------------
# The loop

def train(train_loader, model, loss_func, optimizer, device, *, scheduler=None, bfloat16=False, by_products=False):
    """Train for one epoch; return (model, optimizer, epoch_loss), the mean loss over the images seen, in nats.

    loss_func takes (logits, targets) and returns a mean over images. scheduler is stepped after every batch. With bfloat16,
    activations and their gradients are rounded to 8 significant bits; weights, loss and steps keep their 24 (Micikevicius et
    al. 2018, section 3.1). by_products: compute LeNet5's logits as fast_cpu.py does. On a CPU large batches are cut, a piece for
    each of torch's threads, and their number decides how sums are rounded. Raises FloatingPointError, naming the batch, if a
    loss was not finite.
    """
    def differentiate(x, y, share):
        """Return the loss of a piece of a batch and its gradients, weighted by the piece's share of the batch."""
        loss = loss_func(compute_logits(model, x, bfloat16, by_products), y)
        if share < 1:
            loss = loss * share
        return loss.detach(), *torch.autograd.grad(loss, weights)

    def step(pieces):
        """Make a step along the sum of the pieces' gradients, added up always in the same order; return the batch's loss."""
        loss, *gradients = [functools.reduce(torch.add, parts) for parts in zip(*(piece.result() for piece in pieces))]
        for weight, gradient in zip(weights, gradients):
            weight.grad = gradient
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        return loss

    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    losses, sizes = [], []
    n_pieces = fast_cpu.pieces(train_loader, device)
    with fast_cpu.workers(n_pieces) as executor:
        for x, y in tqdm(train_loader, leave=False, disable=None):  # None: only on a terminal
            xs, ys = x.to(device).chunk(n_pieces), y.to(device).chunk(n_pieces)
            if losses:
                losses[-1].result()  # this batch was made while a worker, if there is one, was at work on the step before
            pieces = fast_cpu.spread(executor, differentiate, xs, ys, [len(piece) / len(y) for piece in ys])
            losses.append(fast_cpu.start(executor, step, pieces))
            sizes.append(len(y))
        losses = [loss.result() for loss in losses]
    losses = torch.stack(losses).tolist()  # one wait for the device per epoch, not one per batch; MPS has no float64
    for number, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of batch {number} of {len(losses)} is {loss}")
    return model, optimizer, sum(loss * size for loss, size in zip(losses, sizes)) / sum(sizes)


def compute_logits(model, x, bfloat16, by_products):
    """Return model's logits, float32 (N, n_classes), for inputs x, computed as train() says."""
    if by_products:
        logits = fast_cpu.compute_logits(model, x, torch.bfloat16 if bfloat16 else torch.float32)
    else:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False):  # threads would share it
            logits, _ = model(x)
    return logits.float()


def validate(valid_loader, model, loss_func, device):
    """Return (model, epoch_loss), the mean loss over all images of valid_loader, in nats."""
    loss, _ = utils.evaluate(model, valid_loader, loss_func, device)
    return model, loss


def training_process(model, loss_func, optimizer, train_loader, valid_loader, epochs, device, *,
                     history=None, best_weights=None, on_epoch=None, **how):
    """Train and validate until `epochs` epochs are done; return (best_model, optimizer, (train_losses, valid_losses)).

    best_model is a copy with the weights of the epoch whose validation loss was lowest. history is a list of one dict per
    epoch, extended in place; a run that goes on passes the epochs already done and their best_weights.
    on_epoch(history, best_weights) is called after each epoch. how: train()'s scheduler, bfloat16, by_products. Raises
    LeNetError if a loss is not finite.
    """
    history = [] if history is None else history
    while len(history) < epochs:
        started, epoch = time.perf_counter(), len(history) + 1
        lr = optimizer.param_groups[0]["lr"]  # its peak is in optimizer.defaults
        too_high = f"most likely the learning rate of {optimizer.defaults['lr']:g} is too high"
        try:
            _, _, train_loss = train(train_loader, model, loss_func, optimizer, device, **how)
        except FloatingPointError as error:
            raise LeNetError(f"epoch {epoch}: {error}; {too_high}") from error
        valid_loss, wrong = utils.evaluate(model, valid_loader, loss_func, device)
        if not math.isfinite(valid_loss):
            raise LeNetError(f"epoch {epoch}: the validation loss is {valid_loss}; {too_high}")
        history.append(dict(epoch=epoch, train_loss=train_loss, valid_loss=valid_loss,
                            valid_accuracy=100 - 100 * wrong / len(valid_loader.dataset), valid_wrong=wrong,
                            lr=lr, seconds=time.perf_counter() - started))
        if best_epoch(history) is history[-1]:
            best_weights = copy.deepcopy(model.state_dict())
        if on_epoch is not None:
            on_epoch(history, best_weights)
    best_model = copy.deepcopy(model)
    best_model.load_state_dict(best_weights)
    losses = [row["train_loss"] for row in history], [row["valid_loss"] for row in history]
    return best_model, optimizer, losses


# ---------------------------------------------------------------------------------------------------------------------
# A run

def run(settings, data, device, checkpoint, state=None, on_epoch=None, own=None):
    """Train one network as settings say; keep its state, after each epoch, beside checkpoint.

    settings: recipe, epochs, batch_size, lr, seed, limit, ingredients, threads (for the record: torch has been told). data:
    ((images, labels) for training, validation, test), uint8 on device. state: as kept, to go on from there.
    on_epoch(history) is called once the state is safe. own: (images, labels) of the user's own to train on, too. Returns
    (best_model, history, errors on the test set as report.score() gives them): the final figures.
    """
    train_set, valid_set, test_set = data
    model, optimizer, train_loader, extras = prepare(settings, train_set, device, own)
    parts = {"model": model, "optimizer": optimizer, "scheduler": extras["scheduler"]}
    parts = {name: part for name, part in parts.items() if part is not None}
    history, best_weights = [], None
    if state is not None:
        try:
            if not set(settings["ingredients"]) <= set(RECIPES[settings["recipe"]]["ingredients"]):
                raise KeyError("an ingredient of another version")
            for name, part in parts.items():
                part.load_state_dict(state[name])
            train_loader.generator.set_state(state["generator"])
            history, best_weights = state["history"], state["weights"]
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise LeNetError(f"{runs.beside(checkpoint, 'last.pth')} does not fit this version of train.py; start a new "
                             "run") from error
    write_history = report.forgiving(report.write_history)

    def keep(history, best_weights):
        utils.save_checkpoint(
            runs.beside(checkpoint, "last.pth"), best_weights, **runs.describe(settings, history), history=history,
            generator=train_loader.generator.get_state(), **{name: part.state_dict() for name, part in parts.items()})
        if on_epoch is not None:
            on_epoch(history)
        write_history(history, runs.beside(checkpoint, "last.csv"))
        print(report.epoch_line(history[-1], best_epoch(history) is history[-1]), flush=True)

    print(report.HEADER, flush=True)
    best_model, _, _ = training_process(
        model, nn.CrossEntropyLoss(), optimizer, train_loader, Batches(*valid_set, 1000), settings["epochs"], device,
        history=history, best_weights=best_weights, on_epoch=keep, **extras)
    return best_model, history, report.score(best_model, test_set, device)


# ---------------------------------------------------------------------------------------------------------------------
# Command line

def get_parser():
    parser = utils.OneLineParser(prog="train.py", description=__doc__)
    add = parser.add_argument

    def of_recipe(what, key):
        return f"{what} (default: " + ", ".join(f"{r[key]} for {name}" for name, r in RECIPES.items()) + ")"

    unset = argparse.SUPPRESS  # --resume has to know what was asked for and what is but a default
    add("--recipe", choices=RECIPES, default=unset, help="which recipe to follow (default: modern)")
    add("--epochs", type=int, default=unset, help=of_recipe("passes over the training set", "epochs"))
    add("--batch-size", type=int, default=unset, help=of_recipe("images per step", "batch_size"))
    add("--lr", type=float, default=unset, help=of_recipe("learning rate of Adam, its peak", "lr"))
    add("--seed", type=int, default=unset, help="of weights, order and distortions (default: 0)")
    add("--without", action="append", default=unset, metavar="INGREDIENT",
        choices=sorted({name for recipe in RECIPES.values() for name in recipe["ingredients"]}),
        help="leave an ingredient out of the recipe, may be repeated: %(choices)s")
    add("--limit", type=int, default=unset, metavar="N", help="train on the first N training images only")
    add("--mine", action="store_true", help="train on your own pictures, too, those in mine/0 to mine/9 under --data-dir")
    add("--seeds", type=int, default=1, metavar="N", help="train N seeds from --seed on; the files are the first's")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    add("--data-dir", type=Path, default=utils.DATA, help="MNIST is in, or put into, MNIST/raw under it")
    add("--checkpoint", type=Path, default=utils.CHECKPOINT, help="file for the weights, NAME.pth")
    add("--assets-dir", type=Path, default=utils.ASSETS, help="folder for the pictures")
    add("--live", action="store_true", help="redraw the loss curves after each epoch: in a window or, with no display, "
        "in live.png")
    add("--resume", action="store_true", help="go on with the run whose state is in NAME.last.pth beside the checkpoint NAME.pth")
    add("--evaluate", action="store_true", help="score the checkpoint on the test set instead of training")
    add("--dry-run", action="store_true", help="one batch and one epoch, to see that all works; leaves no files")
    return parser


SETTINGS = ("recipe", "epochs", "batch_size", "lr", "seed", "limit", "without")


def check(args):
    """Return (settings, device) of parsed arguments; raises ValueError, in one line, for what can't be done."""
    given = {key: value for key, value in vars(args).items() if key in SETTINGS}
    if args.evaluate or args.resume:
        what = "--evaluate: trains nothing" if args.evaluate else "--resume: goes on with one run"
        useless = ["--" + key.replace("_", "-") for key in given if args.evaluate]
        useless += ["--seeds"] * (args.seeds > 1) + ["--dry-run"] * args.dry_run
        useless += [f"--{name}" for name in ("resume", "live", "mine") if args.evaluate and getattr(args, name)]
        if useless:
            raise ValueError(f"argument {what}, so {', '.join(useless)} has no meaning")
    name = given.get("recipe", "modern")
    recipe, without = RECIPES[name], given.pop("without", [])
    unknown = set(without) - set(recipe["ingredients"])
    if unknown:
        raise ValueError(f"argument --without: the {name} recipe has no {', '.join(sorted(unknown))}")
    ingredients = [ingredient for ingredient in recipe["ingredients"] if ingredient not in without]
    settings = dict(recipe, recipe=name, seed=0, limit=None, ingredients=ingredients, threads=fast_cpu.count()) | given
    n_train = N_TRAINING if settings["limit"] is None else min(settings["limit"], N_TRAINING)
    for option, value in (("--epochs", settings["epochs"]), ("--batch-size", settings["batch_size"]),
                          ("--seeds", args.seeds), ("--limit", n_train)):
        if value < 1:
            raise ValueError(f"argument {option}: must be at least 1, got {value}")
    if not (math.isfinite(settings["lr"]) and settings["lr"] > 0):
        raise ValueError(f"argument --lr: must be a positive finite number, got {settings['lr']}")
    if not 0 <= settings["seed"] < 2**32:
        raise ValueError(f"argument --seed: must be in 0 .. 2**32 - 1, got {settings['seed']}")
    if "batch_size" not in given:
        settings["batch_size"] = min(settings["batch_size"], n_train)
    if settings["batch_size"] > n_train:
        raise ValueError(f"argument --batch-size: {settings['batch_size']} is more than the {n_train} training images")
    if args.dry_run:
        settings["epochs"] = 1
    else:
        if not args.evaluate or args.assets_dir != utils.ASSETS:  # an install that can't be written can still be evaluated
            utils.check_folder(args.assets_dir, "--assets-dir")
        if not args.evaluate:
            runs.check_name(args.checkpoint)
    return settings, utils.pick_device(args.device)


def check_resume(args, settings, saved):
    """Raise ValueError, naming them, if settings that were asked for contradict the saved ones."""
    asked = {key for key in SETTINGS if key in args}
    if "without" in asked:
        asked = asked - {"without"} | {"ingredients"}
    other = [f"{key} {saved.get(key)}, not {settings[key]}" for key in sorted(asked) if settings[key] != saved.get(key)]
    if args.mine and "mine" not in saved:
        other.append("no pictures of your own")
    if other:
        raise ValueError(f"argument --resume: the interrupted run has {'; '.join(other)}")


def load_own(args, settings):
    """Return the own_pictures.Pictures to train on, if --mine or the run to go on with asks for them; add them to settings, which a run
    without them leaves as they were. Raises ValueError if there are none, LeNetError if they have changed since."""
    if not (args.mine or "mine" in settings):
        return []
    folder = args.data_dir / "mine"
    pictures, problems = own_pictures.load(folder)
    for path, why in problems:
        print(f"train.py: {utils.one_line(path)}: {why}; the training goes on", file=sys.stderr)
    begun, now = settings.get("mine"), own_pictures.fingerprint(pictures)
    if begun not in (None, now):
        raise LeNetError(f"the pictures in {folder} are not those that the run began with ({begun}, now {now}): put them back, "
                         "or start a new run with --mine")
    if not pictures:
        raise ValueError(f"argument --mine: no pictures in {folder}/0 to 9; python predict.py photo.jpg --label 7 puts one "
                         "there, and so do the digit keys of python predict.py --draw")
    settings["mine"] = now
    return pictures


def main(argv=None):
    """Run the command line argv; return the exit status."""
    parser = get_parser()
    args = parser.parse_args(argv)
    try:
        settings, device = check(args)
        state = runs.load_state(args.checkpoint) if args.resume else None
        if state is not None:
            check_resume(args, settings, state["settings"])
            settings = {"threads": settings["threads"]} | state["settings"]  # older states don't say how many
        pictures = load_own(args, settings)
    except ValueError as error:
        parser.error(str(error))
    except LeNetError as error:
        return fail(error)
    args.stopped = how_to_resume(args) if args.resume else "stopped"  # what to say if Ctrl-C comes now
    in_main_thread = threading.current_thread() is threading.main_thread()  # others may not touch signals
    terminate = signal.signal(signal.SIGTERM, raise_interrupt) if in_main_thread else None
    try:
        needed = args.dry_run or args.seeds > 1  # else not asked for: there may be no disk that can be written
        with (tempfile.TemporaryDirectory() if needed else contextlib.nullcontext("")) as scratch, \
                fast_cpu.torch_threads(settings["threads"]):
            if args.dry_run:
                args.checkpoint, args.assets_dir = Path(scratch) / "LeNet5.pth", Path(scratch)
            if args.evaluate:
                evaluate(args, device)
            else:
                with utils.lock_folder(args.checkpoint.parent):
                    train_seeds(args, settings, device, Path(scratch), state, pictures)
    except LeNetError as error:
        return fail(error)
    except (KeyboardInterrupt, BrokenPipeError) as stop:  # a pipe breaks if nobody wants to read on: | head
        fail(args.stopped)
        return 141 if isinstance(stop, BrokenPipeError) else 143 if stop.args == (signal.SIGTERM,) else 130
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, terminate)
    return 0


def raise_interrupt(signum, frame):
    raise KeyboardInterrupt(signum)


def fail(error):
    print(f"train.py: {utils.one_line(error)}", file=sys.stderr)
    return 1


def how_to_resume(args):
    """Return what to say when a run is stopped that can go on: where it is, and the command as it has to be typed here."""
    python = Path(sys.executable or "python")
    on_path = shutil.which(python.name)  # else a virtual environment that is not active
    words = [python.stem if on_path and Path(on_path).parent == python.parent else utils.short_path(python),
             utils.short_path(__file__), "--resume"]
    for option, default in (("checkpoint", utils.CHECKPOINT), ("assets-dir", utils.ASSETS), ("data-dir", utils.DATA),
                            ("device", "auto")):
        value = getattr(args, option.replace("-", "_"))
        words += [f"--{option}={value}"] if value != default else []
    words += ["--live"] if args.live else []
    command = subprocess.list2cmdline(words) if os.name == "nt" else " ".join(map(quote, words))
    return f"stopped; every finished epoch is in {runs.beside(args.checkpoint, 'last.pth')}: {command} goes on from there"


def quote(word):
    """Return word as it is typed in a shell, on one line: with a line break in it, say, as $'a\\x0ab', which bash and zsh know."""
    if utils.one_line(word) == word:
        return shlex.quote(word)
    letters = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(letters)}'"


def evaluate(args, device):
    """Do what --evaluate asks for."""
    model, _ = utils.load_checkpoint(args.checkpoint, device)
    *_, test_set = load_data(args.data_dir, device)
    report.print_scores(model, test_set, device)
    report.write_figures(model, None, None, test_set, device, args.assets_dir, None)


def train_seeds(args, settings, device, scratch, state, pictures):
    """Train args.seeds networks and say how each did on the test set."""
    runs.check_replaceable(args.checkpoint)
    data = load_data(args.data_dir, device, settings["limit"])
    utils.keep_freed_memory()
    if args.dry_run:  # one batch of everything
        data = [tuple(tensor[:settings["batch_size"]] for tensor in part) for part in data]
    threads = f", {settings['threads']} thread{'s' * (settings['threads'] > 1)}" if device.type == "cpu" else ""
    n_train, n_valid, n_test = (len(labels) for _, labels in data)
    print(f"LeNet-5 on {device}{threads}: {n_train:,} training, {n_valid:,} validation, {n_test:,} test images")
    own = own_pictures.as_tensors(pictures) if pictures else None
    valid_loader = Batches(*data[1], 1000)
    if state is None:
        runs.rescue(args.checkpoint, valid_loader, device)
    results, first, comparison = [], settings["seed"], None
    for seed in range(first, first + args.seeds):
        settings = dict(settings, seed=seed)
        print(report.describe(settings))
        watch = report.make_watch(settings, args.assets_dir / "live.png") if args.live else None
        if seed > first:
            args.stopped = f"stopped; the files are seed {first}'s, which came to its end"

        def on_epoch(history):
            if seed == first and not args.dry_run:
                args.stopped = how_to_resume(args)
            if watch is not None:
                watch(history)

        started = time.perf_counter()
        checkpoint = args.checkpoint if seed == first else scratch / f"seed{seed}.pth"
        model, history, errors = run(settings, data, device, checkpoint, state, on_epoch, own)
        best, n_wrong = best_epoch(history), round(errors["upright"] * n_test / 100)
        print(f"best epoch {best['epoch']} (validation loss {best['valid_loss']:.4f}) after "
              f"{time.perf_counter() - started:.0f} s; test accuracy {100 - errors['upright']:.2f} % "
              f"({n_wrong} of {n_test:,} wrong)", flush=True)
        accuracies = {key: 100 - value for key, value in errors.items()}
        results.append({"errors": n_wrong, "valid": best["valid_accuracy"], **accuracies})
        if pictures:
            print(f"of your {len(pictures)} pictures it now reads {own_pictures.count_correct(pictures, model, device)}", flush=True)
        if seed == first:
            metadata = dict(runs.describe(settings, history), test_accuracy=accuracies["upright"])
            comparison = runs.put_in_place(args.checkpoint, model.state_dict(), metadata, valid_loader, device)
            written = [args.checkpoint]
            if report.forgiving(report.write_history)(history, runs.beside(args.checkpoint, "history.csv")):
                written.append(runs.beside(args.checkpoint, "history.csv"))
            written += report.write_figures(model, history, data[0], data[2], device, args.assets_dir, settings)
            if not args.dry_run:
                print(utils.one_line("written: " + " ".join(map(utils.short_path, written))))
    if args.seeds > 1:
        report.summarise(results, first)
    if comparison:
        print(utils.one_line(comparison))


if __name__ == "__main__":
    sys.exit(utils.run_script(main, "train.py"))
