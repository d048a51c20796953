"""Train LeNet-5 on MNIST.

  python train.py                   the default recipe: a minute on two cores
  python train.py --epochs 5        a short run for the impatient
  python train.py --recipe classic  the lecture's: Adam, batch 64, 30 epochs
  python train.py --seeds 5         seeds 0..4, mean and standard deviation
  python train.py --live            redraw the loss curves after every epoch
  python train.py --mine            train on the pictures in data/mine, too
  python train.py --resume          continue an interrupted run
  python train.py --evaluate        score the network on the test set
  python train.py --compare A B     draw the curves of two runs together

A completed run writes the weights of the epoch with the lowest validation loss
to Model/LeNet5.pth, its epochs to Model/LeNet5.history.csv, and loss curves,
confusion matrix, mistakes and distorted digits to Assets/. Weights, epochs,
settings and results of every run are kept in runs/.
"""

import importlib.util
import signal
import sys

if __name__ == "__main__":
    if importlib.util.find_spec("torch") is None:
        sys.exit(f"train.py: {sys.executable} has no torch; the environment's Python has it: "
                 ".venv/bin/python train.py (README.md says how to make one)")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a traceback

import os

if __name__ == "__main__" and "--deterministic" in sys.argv:  # what torch reads when imported
    os.environ |= dict(ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE",
                       ONEDNN_MAX_CPU_ISA="SSE41")

import argparse
import contextlib
import copy
import math
import tempfile
import threading
import time
from pathlib import Path

import torch
from tqdm import tqdm

import utils
from training import files, report, runs
from training.checkpoints import choose_checkpoint
from training.data import N_TRAINING
from training.fast_cpu import autograd_gradients, torch_threads, trainable
from training.files import best_epoch
from training.recipes import RECIPES, make_settings
from utils import LeNetError

# --------------------------------------------------------------------------------------------------
# The loop

def train(train_loader, model, loss_func, optimizer, device, *, scheduler=None,
          gradients=autograd_gradients):
    """Train for one epoch; return (model, optimizer, epoch_loss), the mean loss over the images
    seen, in nats.

    loss_func takes (logits, targets) and returns a mean over images. scheduler is stepped after
    every batch. gradients returns (loss, gradients of the trainable weights): autograd's, or the
    same in less time, as fast_cpu.py computes them. Raises FloatingPointError, naming the batch, if
    a loss was not finite.
    """
    model.train()
    weights, losses, sizes = trainable(model), [], []
    for x, y in tqdm(train_loader, leave=False, disable=None):  # a progress bar, on a terminal
        loss, grads = gradients(model, loss_func, x.to(device), y.to(device))
        for weight, grad in zip(weights, grads):
            weight.grad = grad
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss)
        sizes.append(len(y))
    losses = torch.stack(losses).tolist()  # one wait for the device per epoch, not one per batch
    for number, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of batch {number} of {len(losses)} is {loss}")
    return model, optimizer, sum(loss * size for loss, size in zip(losses, sizes)) / sum(sizes)


def validate(valid_loader, model, loss_func, device):
    """Return (model, epoch_loss), the mean loss over all images of valid_loader, in nats."""
    loss, _ = utils.evaluate(model, valid_loader, loss_func, device)
    return model, loss


def training_process(model, loss_func, optimizer, train_loader, valid_loader, epochs, device, *,
                     history=None, best_weights=None, on_epoch=None, train_sample=None, **how):
    """Train and validate until `epochs` epochs are done; return (best_model, optimizer,
    (train_losses, valid_losses)).

    best_model is a copy with the weights of the epoch whose validation loss was lowest. history is
    a list of one dict per epoch, extended in place; a resumed run passes the epochs already done
    and their best_weights. on_epoch(history, best_weights) is called after each epoch. If given,
    train_sample, a loader of undistorted training images, is what training accuracy is measured on.
    how: train()'s scheduler and gradients. Raises LeNetError if a loss is not finite, ValueError if
    epochs is less than 1.
    """
    history = [] if history is None else history
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; a training takes at least one")
    while len(history) < epochs:
        started, epoch = time.perf_counter(), len(history) + 1
        lr = optimizer.param_groups[0]["lr"]  # its peak is in optimizer.defaults
        try:
            _, _, train_loss = train(train_loader, model, loss_func, optimizer, device, **how)
            valid_loss, wrong = utils.evaluate(model, valid_loader, loss_func, device)
            if not math.isfinite(valid_loss):
                raise FloatingPointError(f"the validation loss is {valid_loss}")
        except FloatingPointError as error:
            raise LeNetError(f"epoch {epoch}: {error}; most likely the learning rate of "
                             f"{optimizer.defaults['lr']:g} is too high") from error
        accuracy = 100 - 100 * wrong / len(valid_loader.dataset)
        more = {} if train_sample is None else {
            "train_accuracy": 100 * utils.get_accuracy(model, train_sample, device)}
        history.append(dict(epoch=epoch, train_loss=train_loss, valid_loss=valid_loss,
                            valid_accuracy=accuracy, valid_wrong=wrong, lr=lr,
                            seconds=time.perf_counter() - started, **more))
        if best_epoch(history) is history[-1]:
            best_weights = copy.deepcopy(model.state_dict())
        if on_epoch is not None:
            on_epoch(history, best_weights)
    best_model = copy.deepcopy(model)
    best_model.load_state_dict(best_weights)
    losses = [row["train_loss"] for row in history], [row["valid_loss"] for row in history]
    return best_model, optimizer, losses


# --------------------------------------------------------------------------------------------------
# Command line

STATUS = "exit status: 0 done, 1 it failed, 2 a wrong call, 130 Ctrl-C, 143 terminated"


def get_parser():
    parser = utils.OneLineParser(prog="train.py", description=__doc__, epilog=STATUS)
    add, unset, count = parser.add_argument, argparse.SUPPRESS, utils.number(int, 1)

    def of_recipe(what, key):
        values = ", ".join(f"{recipe[key]} for {name}" for name, recipe in RECIPES.items())
        return f"{what} (default: {values})"

    # unset: --resume has to know what was asked for and what is only a default
    add("--recipe", choices=RECIPES, default=unset, help="the recipe (default: modern)")
    add("--epochs", type=count, default=unset, help=of_recipe("passes over the images", "epochs"))
    add("--batch-size", type=count, default=unset, help=of_recipe("images per step", "batch_size"))
    add("--lr", type=utils.number(float, 1e-30), default=unset,
        help=of_recipe("learning rate, its peak", "lr"))
    add("--seed", type=utils.number(int, 0, 2**32 - 1), default=unset,
        help="of weights, order and distortions (default: 0)")
    add("--without", action="append", default=unset, metavar="INGREDIENT",
        choices=sorted({name for recipe in RECIPES.values() for name in recipe["ingredients"]}),
        help="leave an ingredient out of the recipe, may be repeated: %(choices)s")
    add("--set", action="append", default=unset, metavar="NAME=NUMBER",
        help="set another number of the recipe: weight_decay, warm_up, negatives; may be repeated")
    add("--limit", type=count, default=unset, metavar="N",
        help="train on the first N training images only")
    add("--deterministic", action="store_true", default=unset,
        help="the same weights on every x86 processor: plain layers in float32, one thread; slow")
    add("--mine", action="store_true",
        help="train on your own pictures, too, those in mine/0 to mine/9 under --data-dir")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: auto)")
    add("--data", default=unset, metavar="SET", help="train on fashion, kmnist, qmnist, "
        "emnist-letters or a folder with train/CLASS and test/CLASS of pictures (default: mnist)")
    add("--data-dir", type=Path, default=utils.DATA,
        help="MNIST is in, or put into, MNIST/raw under it")
    add("--checkpoint", type=Path, metavar="FILE", help="file for the weights, NAME.pth (default: "
        "Model/LeNet5.pth; to evaluate, what predict.py reads with)")
    add("--assets-dir", type=Path,
        help="folder for the pictures (default: Assets, or the folder of another --checkpoint)")
    add("--live", action="store_true",
        help="redraw the loss curves after each epoch: in a window or, without one, in live.png")
    one_of = parser.add_mutually_exclusive_group().add_argument
    one_of("--seeds", type=count, default=1, metavar="N",
           help="train N seeds from --seed on; the files are the first's")
    one_of("--resume", action="store_true",
           help="continue the run whose state is in NAME.last.pth beside the checkpoint NAME.pth")
    one_of("--evaluate", action="store_true",
           help="score the checkpoint on the test set instead of training")
    one_of("--compare", nargs="+", type=Path, metavar="RUN",
           help="draw the curves of these runs, folders in runs/, into comparison.png")
    one_of("--dry-run", action="store_true",
           help="one batch and one epoch, to see that all works; no files, no window")
    return parser


SETTINGS = ("recipe", "epochs", "batch_size", "lr", "seed", "limit", "without", "set",
            "deterministic", "data")


def check(args):
    """Return (settings, device) of parsed arguments; raise ValueError, in one line, for what can't
    be done."""
    given = {key: value for key, value in vars(args).items() if key in SETTINGS}
    trains = [*given, *["live"] * args.live, *["mine"] * args.mine]
    if (args.evaluate or args.compare) and trains:
        options = ", ".join("--" + key.replace("_", "-") for key in trains)
        raise ValueError(f"{'--evaluate' if args.evaluate else '--compare'} cannot be combined "
                         f"with {options}")
    threads = 1 if "deterministic" in given else torch.get_num_threads()
    settings = dict(make_settings(**given), threads=threads)
    most = math.inf if "data" in settings else N_TRAINING
    n_train = min(settings["limit"] or most, most)
    if given.get("batch_size", 0) > n_train:
        raise ValueError(f"argument --batch-size: {given['batch_size']} is more than the {n_train} "
                         "training images")
    settings["batch_size"] = min(settings["batch_size"], n_train)
    if args.mine and "data" in settings:
        raise ValueError("--mine cannot be combined with --data")
    if args.dry_run:
        settings["epochs"] = 1
    if args.checkpoint and os.path.realpath(args.checkpoint) == os.path.realpath(utils.CHECKPOINT):
        args.checkpoint = utils.CHECKPOINT  # however it was written
    args.pictures, args.runs = files.choose_folders(args.checkpoint, args.assets_dir)
    if args.checkpoint is None:
        args.checkpoint = choose_checkpoint()[0] if args.evaluate else utils.CHECKPOINT
    if not args.evaluate and not args.compare:
        files.check_name(args.checkpoint)
    if not args.evaluate or args.assets_dir:  # a read-only install can still be evaluated
        utils.check_folder(args.pictures, "--assets-dir", make=True)
    device = "cpu" if "deterministic" in given and args.device == "auto" else args.device
    return settings, utils.pick_device(device)


def main(argv=None):
    """Run the command line argv; return the exit status."""
    parser = get_parser()
    args = parser.parse_args(argv)
    try:
        settings, device = check(args)
        state = runs.load_state(args.checkpoint) if args.resume else None
        if state is not None:
            runs.check_resume(args, SETTINGS, settings, state["settings"])
            settings = state["settings"]
        is_mine = args.mine or "mine" in settings
        pictures = runs.load_own_pictures(args.data_dir / "mine", settings) if is_mine else []
    except ValueError as error:
        parser.error(str(error))
    except LeNetError as error:
        return fail(error)
    args.stopped = runs.how_to_resume(args) if args.resume else (  # to say at Ctrl-C
        "stopped" if args.evaluate or args.compare or args.dry_run else
        "stopped before an epoch was done: start it again; --resume knows nothing of it")
    in_main_thread = threading.current_thread() is threading.main_thread()  # only it has signals
    terminate = signal.signal(signal.SIGTERM, raise_interrupt) if in_main_thread else None
    try:
        work(args, settings, device, state, pictures)
    except LeNetError as error:
        return fail(error)
    except BrokenPipeError:  # nobody wants to read on: | head
        if args.evaluate:  # and nothing is lost
            raise
        fail(args.stopped)
        return 141
    except KeyboardInterrupt as stop:
        fail(args.stopped)
        return 143 if stop.args == (signal.SIGTERM,) else 130
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, terminate)
    return 0


def work(args, settings, device, state, pictures):
    """Do what the checked arguments ask for."""
    needed = args.dry_run or args.seeds > 1  # else not asked for: the disk may be read-only
    temporary = tempfile.TemporaryDirectory() if needed else contextlib.nullcontext("")
    with temporary as scratch, torch_threads(settings["threads"]):
        if args.compare:
            report.compare(args.compare, args.pictures / "comparison.png")
        elif args.evaluate:
            runs.evaluate(args, device)
        else:
            files.is_other(args.checkpoint, settings)  # or can't be replaced at all
            if args.dry_run:
                args.checkpoint, args.pictures = Path(scratch) / "LeNet5.pth", Path(scratch)
                args.live = False  # its picture would be gone at the end
            with files.lock_folder(args.checkpoint.parent):
                runs.train_seeds(training_process, args, settings, device, Path(scratch), state,
                                 pictures)


def raise_interrupt(signum, frame):
    raise KeyboardInterrupt(signum)


def fail(error):
    print(f"train.py: {utils.one_line(error)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(utils.run_script(main, "train.py"))
