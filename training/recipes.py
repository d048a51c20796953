"""What a recipe is made of: its settings, the training images, the optimizer, the schedule.

The loop itself, train.py's, is the same for all.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

import utils
from training import fast_cpu
from training.augment import make_augment
from training.checkpoints import build_network
from training.data import DIGITS, Batches, class_names
from training.negatives import make_negatives
from training.soap import SOAP
from training.styles import other_styles

RECIPES = {
    # The lecture's. Nothing but Adam.
    "classic": dict(epochs=30, batch_size=64, lr=0.001, ingredients=()),
    # Ours: what each ingredient contributes is in the model card, Model/README.md. negatives: how
    # many there are in an epoch, against its digits; warm_up: the part of the steps in which the
    # learning rate rises.
    "modern": dict(epochs=40, batch_size=512, lr=0.0045, weight_decay=0.2, warm_up=0.05,
                   negatives=0.05, ingredients=(
        "soap", "weight-decay", "schedule", "affine", "random-rotation", "elastic",
        "stroke-thickness", "styles", "negatives", "bfloat16", "im2col")),
}


DIGITS_ONLY = "styles", "negatives", "random-rotation"


def make_settings(recipe="modern", without=(), set=(), deterministic=False, **given):
    """Return the settings of a run of a recipe: its own, changed as options of train.py say.

    without: names of ingredients; set: texts NAME=NUMBER; deterministic: leave out what depends on
    the processor; data: of another set than MNIST, whose classes need not be digits. Raises
    ValueError, in one line, for what the recipe does not have.
    """
    own = RECIPES[recipe]
    if unknown := sorted(frozenset(without) - frozenset(own["ingredients"])):
        raise ValueError(f"argument --without: the {recipe} recipe has no {', '.join(unknown)}")
    if given.get("data", "mnist") == "mnist":
        given.pop("data", None)
    else:
        given["classes"] = class_names(given["data"])
        if given["classes"] != DIGITS:  # no augmentation that is for digits, or changes a class
            without = [*without, *DIGITS_ONLY]
    if deterministic:
        given, without = given | {"deterministic": True}, [*without, "bfloat16", "im2col"]
    numbers = [name for name, value in own.items() if isinstance(value, float) and name != "lr"]
    for text in set:
        name, _, value = text.partition("=")
        try:
            given[name] = float(value)
        except ValueError:
            given[name] = math.nan
        if name not in numbers or not 0 <= given[name] <= 1:
            raise ValueError(f"argument --set: NAME=NUMBER, from 0 to 1, of the {recipe} recipe's "
                             f"numbers ({', '.join(numbers) or 'none'}), got {text}")
    ingredients = [each for each in own["ingredients"] if each not in without]
    return dict(own, recipe=recipe, seed=0, limit=None, ingredients=ingredients) | given


def prepare(settings, train_set, device, own=None):
    """Return what a training starts with: (model, optimizer, train_loader, extras).

    settings: epochs, batch_size, lr, seed, ingredients. train_set: (images, labels), uint8 and
    int64 on device; own: as many more of the user's own, or None. extras are train()'s keyword
    arguments scheduler and gradients. Raises LeNetError if model.py's network does not fit the
    task.
    """
    ingredients = settings["ingredients"]
    on_cpu = torch.device(device).type == "cpu"
    torch.manual_seed(settings["seed"])
    model = build_network(len(settings.get("classes", DIGITS))).to(device)
    generator = torch.Generator().manual_seed(settings["seed"])
    images, targets, table = add_styles_and_negatives(
        *train_set, ingredients, settings["seed"], settings.get("negatives", 0.05))
    if own is not None:
        images, targets, table = add_own(images, targets, table, *own)
    size = settings["batch_size"]
    train_loader = Batches(images, targets, size, generator, make_augment(ingredients), table)
    gradients, im2col = fast_cpu.autograd_gradients, False
    if on_cpu:
        n_chunks = fast_cpu.count_chunks(torch.get_num_threads(), size)
        n = min(size, 64 * n_chunks)
        few = utils.standardise(images[:n].float() / 255), targets[:n]
        gradients, im2col = fast_cpu.choose(
            model, nn.CrossEntropyLoss(), *few, n_chunks, "im2col" in ingredients,
            "bfloat16" in ingredients and has_bfloat16())
        if n_chunks > 1 and gradients is not fast_cpu.autograd_gradients:
            train_loader = fast_cpu.Prefetch(train_loader)
        if "im2col" in ingredients and not im2col:
            print("model.py's network is not the lecture's LeNet-5, so autograd computes its "
                  "gradients, which takes longer")
    if not im2col:  # the faster layout for layers
        model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, settings["lr"], device, ingredients,
                               settings.get("weight_decay", 0.2))
    steps, warm_up = settings["epochs"] * len(train_loader), settings.get("warm_up", 0.05)
    scheduler = make_schedule(optimizer, steps, warm_up) if "schedule" in ingredients else None
    return model, optimizer, train_loader, dict(scheduler=scheduler, gradients=gradients)


CHOICES = 5  # images in a row of the sampling table: every fifth time, on average, a one or a
             # seven has another style


def add_styles_and_negatives(images, labels, ingredients, seed, share=0.05):
    """Return (images, targets, table): with "styles", ones and sevens in another style added; with
    "negatives", what is no digit, as many of an epoch's images, against its digits, as share says.

    table, the sampling table, int64 (M, CHOICES), says what an epoch's M images are: each is one of
    a row's at random, anew in every epoch. So a negative hardly ever comes twice in a row, and no
    image of MNIST's is lost. The targets are labels, int64 (N,); with negatives they are
    distributions, float (N, 10), a negative's the uniform one. Both are made on the CPU, with a
    generator of their own, so that no other random number changes.
    """
    device, generator = images.device, torch.Generator().manual_seed(seed)
    plain, labels = images.cpu(), labels.cpu()
    images, targets = plain, labels
    choices = CHOICES if {"styles", "negatives"} & set(ingredients) else 1
    table = torch.arange(len(labels))[:, None].repeat(1, choices)
    if "styles" in ingredients:
        index, others = other_styles(plain, labels, generator)
        table[index, 0] = len(plain) + torch.arange(len(index))
        images, targets = torch.cat([plain, others]), torch.cat([labels, labels[index]])
    if "negatives" in ingredients:
        n = round(share * len(labels))
        negatives = make_negatives(plain, labels, n, CHOICES, generator)
        rows = len(targets) + torch.arange(len(negatives)).view(-1, CHOICES)
        table = torch.cat([table, rows])
        uniform = torch.full((len(negatives), 10), 0.1)
        targets = torch.cat([F.one_hot(targets, 10).float(), uniform])
        images = torch.cat([images, negatives])
    return images.to(device), targets.to(device), table


OWN_SHARE = 0.03   # of an epoch's images are the user's own: learnt, and MNIST's accuracy stays;
OWN_AT_MOST = 100  # times that one of them is shown in an epoch


def add_own(images, targets, table, own_images, own_labels):
    """Return (images, targets, table) with the user's own pictures added.

    Each is shown as often as makes them OWN_SHARE of all, at least once. images, own_images: uint8
    (N, 1, 32, 32), (M, 1, 32, 32); targets: labels, int64 (N,), or distributions, float (N, 10);
    table: the sampling table; own_labels: int64 (M,). What is returned has targets' kind and is on
    images' device.
    """
    times = round(OWN_SHARE / (1 - OWN_SHARE) * len(table) / len(own_images))
    times = min(max(times, 1), OWN_AT_MOST)
    as_distributions = targets.is_floating_point()
    own_targets = F.one_hot(own_labels, 10).float() if as_distributions else own_labels
    rows = len(images) + torch.arange(len(own_images))[:, None]
    return (torch.cat([images, own_images.to(images.device)]),
            torch.cat([targets, own_targets.to(targets.device)]),
            torch.cat([table, rows.repeat(times, table.shape[1])]))


def make_optimizer(model, lr, device, ingredients=(), weight_decay=0.2):
    """Return Adam over model's parameters, or SOAP if "soap" is among the ingredients.

    With "weight-decay", weights (not biases) shrink by weight_decay * lr in each step (Loshchilov
    and Hutter 2019).
    """
    decay = weight_decay if "weight-decay" in ingredients else 0.0
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [dict(params=weights, weight_decay=decay), dict(params=biases, weight_decay=0.0)]
    if "soap" in ingredients:
        return SOAP(groups, lr)
    adam = torch.optim.AdamW if decay else torch.optim.Adam
    return adam(groups, lr, fused=torch.device(device).type in ("cpu", "cuda"))


def make_schedule(optimizer, steps, warm_up=0.05):
    """Return the learning rate's schedule, one cycle in straight lines: up to its peak in that part
    of the steps, then down to nearly 0 (Smith and Topin 2018, with constant momentum).

    OneCycleLR can't be had for every number of steps: with 20 it divides by 0 (torch 2.14).
    """
    rise = max(1, round(warm_up * steps))
    fall = max(steps - rise, 1)
    return LambdaLR(optimizer, lambda step: min((step + 1) / rise, max(steps - step, 0.1) / fall))


def has_bfloat16():
    """Say whether the CPU has instructions for bfloat16, AVX512_BF16 or AMX; without them it would
    be slower. (On a GPU this network is too small for it to matter.)"""
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
