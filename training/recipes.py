"""What a recipe is made of: its settings, the optimizer, the schedule.

The loop itself, train.py's, is the same for all.
"""

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from model import LeNet5
from training.augment import make_augment
from training.data import Batches
from training.negatives import make_junk
from training.soap import SOAP
from training.styles import other_hands

RECIPES = {
    # The lecture's. Nothing but Adam.
    "classic": dict(epochs=30, batch_size=64, lr=0.001, ingredients=()),
    # Ours: what each ingredient is worth is in the model card, Model/README.md.
    "modern": dict(epochs=40, batch_size=512, lr=0.0045, ingredients=(
        "rotation", "decay", "schedule", "affine", "turns", "elastic", "strokes", "hands", "junk", "bfloat16", "products")),
}


def prepare(settings, train_set, device, own=None):
    """Return what a training starts with: (model, optimizer, train_loader, extras), the extras being the keyword arguments
    scheduler, bfloat16 and by_products of train() and training_process().

    settings: epochs, batch_size, lr, seed, ingredients. train_set: (images, labels), uint8 and int64 on device; own: as many
    more of the user's own, or None.
    """
    ingredients = settings["ingredients"]
    torch.manual_seed(settings["seed"])
    by_products = "products" in ingredients and torch.device(device).type == "cpu"
    layout = torch.contiguous_format if by_products else torch.channels_last  # the faster one for convolutions
    model = LeNet5().to(device, memory_format=layout)
    optimizer = make_optimizer(model, settings["lr"], device, ingredients)
    generator = torch.Generator().manual_seed(settings["seed"])
    train_set = add_strangers(*train_set, ingredients, settings["seed"])
    if own is not None:
        train_set = add_own(*train_set, *own)
    images, targets, slots = train_set
    train_loader = Batches(images, targets, settings["batch_size"], generator, make_augment(ingredients), slots)
    steps = settings["epochs"] * len(train_loader)
    extras = dict(scheduler=make_schedule(optimizer, steps) if "schedule" in ingredients else None,
                  bfloat16=in_bfloat16(ingredients, device), by_products=by_products)
    return model, optimizer, train_loader, extras


JUNK = 0.05   # of an epoch's images, against its digits, are no digit;
CHOICES = 5   # images that a slot of an epoch may show: a one or a seven is in another hand every fifth time, on average


def add_strangers(images, labels, ingredients, seed):
    """Return (images, targets, slots): with "hands", each of the ones and sevens in another hand, too; with "junk", what is no
    digit.

    slots, int64 (M, CHOICES), say what an epoch's M images are: each is one of these at random, anew in every epoch. So junk
    hardly ever comes twice in a row, and no image of MNIST's is lost. The targets are labels, int64 (N,); with junk they are
    distributions, float (N, 10), a junk image's the uniform one. Both are made on the CPU, with a generator of their own, so that
    no other random number changes.
    """
    device, generator = images.device, torch.Generator().manual_seed(seed)
    plain, labels = images.cpu(), labels.cpu()
    images, targets = plain, labels
    slots = torch.arange(len(labels))[:, None].repeat(1, CHOICES if {"hands", "junk"} & set(ingredients) else 1)
    if "hands" in ingredients:
        index, others = other_hands(plain, labels, generator)
        slots[index, 0] = len(plain) + torch.arange(len(index))
        images, targets = torch.cat([plain, others]), torch.cat([labels, labels[index]])
    if "junk" in ingredients:
        junk = make_junk(plain, labels, round(JUNK * len(labels)), CHOICES, generator)
        slots = torch.cat([slots, len(targets) + torch.arange(len(junk)).view(-1, CHOICES)])
        targets = torch.cat([F.one_hot(targets, 10).float(), torch.full((len(junk), 10), 0.1)])
        images = torch.cat([images, junk])
    return images.to(device), targets.to(device), slots


OWN_SHARE = 0.03    # of an epoch's images are the user's own: enough to be learnt, too few to cost MNIST's accuracy;
OWN_AT_MOST = 100   # times that one of them is shown in an epoch


def add_own(images, targets, slots, own_images, own_labels):
    """Return (images, targets, slots) with the user's own added, each as often as makes them OWN_SHARE of all, at least once.

    images, own_images: uint8 (N, 1, 32, 32), (M, 1, 32, 32); targets: labels, int64 (N,), or distributions, float (N, 10);
    slots: add_strangers()'s; own_labels: int64 (M,). What comes out has targets' kind and is on images' device.
    """
    times = round(OWN_SHARE / (1 - OWN_SHARE) * len(slots) / len(own_images))
    times = min(max(times, 1), OWN_AT_MOST)
    own_targets = F.one_hot(own_labels, 10).float() if targets.is_floating_point() else own_labels
    own_slots = len(images) + torch.arange(len(own_images))[:, None]
    return (torch.cat([images, own_images.to(images.device)]), torch.cat([targets, own_targets.to(targets.device)]),
            torch.cat([slots, own_slots.repeat(times, slots.shape[1])]))


def make_optimizer(model, lr, device, ingredients=()):
    """Return Adam over model's parameters, or SOAP if "rotation" is among the ingredients.

    With "decay", weights (not biases) shrink by 0.2 * lr in each step (Loshchilov and Hutter 2019).
    """
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [dict(params=weights, weight_decay=0.2 if "decay" in ingredients else 0.0), dict(params=biases, weight_decay=0.0)]
    if "rotation" in ingredients:
        return SOAP(groups, lr)
    adam = torch.optim.AdamW if "decay" in ingredients else torch.optim.Adam
    return adam(groups, lr, fused=torch.device(device).type in ("cpu", "cuda"))


def make_schedule(optimizer, steps):
    """Return the learning rate's schedule: up to its peak in a twentieth of the steps, then down to nearly 0, in
    straight lines (Smith and Topin 2018, without the cycled momentum)."""
    rise = max(1, round(0.05 * steps))
    return LambdaLR(optimizer, lambda step: min((step + 1) / rise, max(steps - step, 0.1) / max(steps - rise, 1)))


def in_bfloat16(ingredients, device):
    """Say whether to compute in bfloat16: if the recipe has it and the device is a CPU with instructions for it.

    AVX512_BF16 or AMX, that is; without them it would be slower. On a GPU this network is too small for it to matter.
    """
    known = torch.device(device).type == "cpu" and hasattr(torch.cpu, "get_capabilities")  # since torch 2.9
    cpu = torch.cpu.get_capabilities() if known else {}
    return "bfloat16" in ingredients and bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
