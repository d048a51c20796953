"""Checkpoints: what a file of weights holds, and the network that it belongs to.

    save_checkpoint(path, model.state_dict(), recipe="classic", seed=0, epoch=1)
    model, metadata = load_checkpoint(path)

Nothing in a file is executed, and weights are never read into another network than theirs.
"""

import io
import os
import re
import zipfile
from pathlib import Path

import torch

import utils
from model import LeNet5
from utils import MEAN, STD, LeNetError

FORMAT_VERSION = 1  # raised when an older reader would misunderstand a newer file

DIGITS = list("0123456789")

# The lecture's network, which files that do not say theirs are taken for.
LENET5 = "Conv2d Tanh AvgPool2d Conv2d Tanh AvgPool2d Conv2d Tanh Linear Tanh Linear"


# --------------------------------------------------------------------------------------------------
# The network

def build_network(n_classes=10):
    """Return a new LeNet5 of model.py, in training mode.

    Raises LeNetError if it does not turn images of 32x32 into logits of n_classes: somebody has
    edited model.py.
    """
    try:
        model = LeNet5() if n_classes == 10 else LeNet5(n_classes)
        shape = tuple(_compute_probe(model).shape)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise LeNetError(f"model.py: LeNet5 fails on two images of 32x32: {reason}") from error
    if shape != (2, n_classes):
        raise LeNetError(f"model.py: LeNet5 has to return logits of shape (2, {n_classes}) for two "
                         f"images, one for each of {n_classes} classes, but their shape is "
                         f"{shape}: change its last layer")
    return model.train()


@torch.no_grad()
def _compute_probe(model):
    """Return the logits (2, n_classes) of two made-up images, which show how model computes."""
    return utils.compute_logits(model.eval(), torch.arange(2048.0).cos().view(2, 1, 32, 32))


def describe_network(model):
    """Return what a checkpoint holds of its network: layers, the types of its layers, and probe,
    its logits for made-up images, which a model.py that computes otherwise would not give."""
    return {"layers": name_layers(model), "probe": _compute_probe(model).flatten().tolist()}


def name_layers(model):
    """Return the types of model's layers, in their order, as one string."""
    return " ".join(type(layer).__name__ for layer in model.modules() if not list(layer.children()))


# --------------------------------------------------------------------------------------------------
# Files

def save_file(path, content):
    """Write content, plain types and tensors, to path as torch.save does, but atomically."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    utils.write_atomically(path, buffer.getbuffer())


def read_file(path):
    """Return what save_file wrote. Nothing in it is executed. Raises LeNetError if it is anything
    else."""
    shipped = "; git checkout brings it back" if path == utils.SHIPPED else ""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        advice = shipped or "; python train.py makes one"
        raise LeNetError(f"{path}: no such checkpoint{advice}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LeNetError(f"{path} can't be read: {reason}") from error
    scripted = False
    try:
        # torch.load hands an archive with such members to TorchScript, and old versions of it
        # anything that is no zip archive to a reader that runs code
        if content[:4] != b"PK\3\4":
            raise ValueError("not a zip archive")
        archive = zipfile.ZipFile(io.BytesIO(content))
        scripted = any(re.search(r"/code/|constants\.pkl$", name) for name in archive.namelist())
        if scripted or archive.testzip():  # the checksums, which torch.load passes over
            raise ValueError("TorchScript, or damaged")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets arbitrary bytes here and may raise anything
        if scripted or b"torch.nn.modules" in content:
            raise LeNetError(f"{path} holds a whole pickled or scripted module, which could run "
                             "code when loaded; its owner can convert it: torch.save(torch.load("
                             "file, weights_only=False).state_dict(), file)") from error
        raise LeNetError(f"{path} is not a checkpoint that can be loaded safely: it is damaged, or "
                         f"train.py did not make it{shipped}") from error


def save_checkpoint(path, weights, **metadata):
    """Write a state dict of LeNet5 and metadata (numbers, strings, dicts of them) to path."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with torch.random.fork_rng(devices=[]):  # the new network's random weights are not used
        model = build_network(len(_class_names(metadata)))
    model.load_state_dict(weights)
    save_file(path, dict(format_version=FORMAT_VERSION, torch_version=str(torch.__version__),
                         mean=MEAN, std=STD, network=describe_network(model), **metadata,
                         weights=weights))


def choose_checkpoint():
    """Return (path, note): the network to read with if none is named, and a line to say about it,
    or None for the shipped one.

    It is your last run's, if that is no worse than the shipped one by its validation loss, or was
    trained on pictures of your own. LENET5_CHECKPOINT in the environment names another one: tests
    read with the shipped one, whatever was trained before.
    """
    if named := os.environ.get("LENET5_CHECKPOINT"):
        return Path(named), None
    if not os.path.exists(utils.CHECKPOINT):
        return utils.SHIPPED, None
    try:
        _, shipped = load_checkpoint(utils.SHIPPED)
    except LeNetError:  # of another network than model.py's
        shipped = None
    try:
        _, yours = load_checkpoint(utils.CHECKPOINT)
    except LeNetError as error:
        note = None if shipped is None else f"{error}; reading with the shipped network"
        return utils.SHIPPED, note
    if _class_names(yours) != DIGITS:
        return utils.SHIPPED, None
    loss, bound = (data.get("valid_loss", float("inf")) for data in (yours, shipped or {}))
    if loss <= bound or "mine" in yours.get("settings", {}):
        where = utils.short_path(utils.CHECKPOINT)
        return utils.CHECKPOINT, f"reading with the network of your last run, {where}"
    return utils.SHIPPED, None


def load_checkpoint(path=None, device="cpu"):
    """Return (model in evaluation mode on device, metadata dict) from a file that save_checkpoint
    wrote; by default of the network that choose_checkpoint() chooses.

    A bare state dict, such as the lecture's, is taken too, with the wrappings that other programs
    put around it; its metadata is {}. Raises LeNetError, naming the file and the reason, if it is
    anything else, or if model.py builds another network than the file's, ValueError if device can't
    be used.
    """
    path = choose_checkpoint()[0] if path is None else path
    content = read_file(path)
    if isinstance(content, dict) and "format_version" in content:
        metadata = {key: value for key, value in content.items() if key != "weights"}
        weights = content.get("weights")
        _check_metadata(path, metadata)
    else:
        metadata, weights = {}, unwrap(content)
    network = metadata.get("network", {"layers": LENET5})
    with torch.random.fork_rng(devices=[]):
        model = build_network(len(_class_names(metadata)))
    advice = "change model.py back, or train the network that it builds now: python train.py"
    theirs, ours = network["layers"].split(), name_layers(model).split()
    if theirs != ours:
        pairs = [f"{a} where model.py has {b}" for a, b in zip(theirs, ours) if a != b]
        pairs.append(f"{len(theirs)} layers where model.py has {len(ours)}")
        raise LeNetError(f"{path} holds the weights of another network than model.py's: {pairs[0]};"
                         f" {advice}")
    _check_weights(path, weights, model.state_dict())
    model.load_state_dict(weights)
    probe = torch.tensor(describe_network(model)["probe"])
    theirs = torch.tensor(network.get("probe", probe.tolist()))
    if not torch.allclose(theirs, probe, rtol=0.01, atol=0.01):
        raise LeNetError(f"{path} holds the weights of another network than model.py's: the layers "
                         f"are the same, but not what is computed with them; {advice}")
    return model.to(utils.pick_device(device)).eval(), metadata


def _class_names(metadata):
    """Return the names of the classes that a network with this metadata tells apart."""
    return metadata.get("settings", {}).get("classes", DIGITS)


def check_digits(path, metadata):
    """Raise LeNetError if the network in path, with this metadata, reads something else than
    digits."""
    if _class_names(metadata) != DIGITS:
        data = metadata["settings"].get("data")
        raise LeNetError(f"{path} was trained on {data}, and predict.py reads digits; "
                         f"python train.py --evaluate --checkpoint {path} scores it")


def unwrap(content):
    """Return the state dict in content: by itself or one of a dict's entries, of the network or of
    a wrapper with a prefix, as of nn.DataParallel ("module.") or torch.compile ("_orig_mod.")."""
    for key in ("state_dict", "model_state_dict", "weights", "model", "net"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if isinstance(content, dict) and all(isinstance(name, str) for name in content):
        prefix = os.path.commonprefix(list(content))  # LeNet-5's own names have none in common
        content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return content


def _check_metadata(path, metadata):
    version = metadata["format_version"]
    if not isinstance(version, int):
        raise LeNetError(f"{path}: its format_version is {type(version).__name__}, not an int")
    if version > FORMAT_VERSION:
        raise LeNetError(f"{path} has format version {version}, this code reads up to "
                         f"{FORMAT_VERSION}: update the code")
    for key, kind in dict(recipe=str, seed=int, epoch=int, mean=float, std=float).items():
        if not isinstance(metadata.get(key), kind):
            raise LeNetError(f"{path}: its {key!r} is missing or not of type {kind.__name__}")
    if (metadata["mean"], metadata["std"]) != (MEAN, STD):
        raise LeNetError(f"{path} was trained with mean {metadata['mean']} and std "
                         f"{metadata['std']}, this code uses {MEAN} and {STD}")
    for key, kind in dict(settings=dict, valid_loss=float).items():
        if not isinstance(metadata.get(key, kind()), kind):
            raise LeNetError(f"{path}: its {key!r} is not of type {kind.__name__}")
    names = _class_names(metadata)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise LeNetError(f"{path}: its 'classes' are no list of names")
    n = 2 * len(names)
    network = metadata.get("network", {"layers": LENET5, "probe": n * [0.0]})
    probe = network.get("probe") if isinstance(network, dict) else None
    if not isinstance(probe, list) or [type(logit) for logit in probe] != n * [float]:
        raise LeNetError(f"{path}: its 'network' has no probe of {n} logits")
    if not isinstance(network.get("layers"), str):
        raise LeNetError(f"{path}: its 'network' names no layers")


def _check_weights(path, weights, wanted):
    if not isinstance(weights, dict) or set(weights) != set(wanted):
        first, *_, last = wanted
        raise LeNetError(f"{path} does not hold the weights of model.py's network "
                         f"({first} ... {last})")
    for name, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor) or tensor.shape != wanted[name].shape:
            is_tensor = isinstance(tensor, torch.Tensor)
            shape = tuple(tensor.shape) if is_tensor else type(tensor).__name__
            raise LeNetError(f"{path}: {name} has shape {shape}, model.py's has "
                             f"{tuple(wanted[name].shape)}")
        if tensor.dtype != wanted[name].dtype:
            raise LeNetError(f"{path}: {name} is {tensor.dtype}, not {wanted[name].dtype}")
        if not tensor.isfinite().all():
            raise LeNetError(f"{path}: {name} has values that are not finite; the training that "
                             "made it diverged")
