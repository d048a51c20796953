"""Write the network as one file for other programs: a web page that needs nothing, or ONNX.

    python predict.py --export page.html       draw in any browser and watch LeNet-5 think
    python predict.py --export lenet5.onnx     for ONNX runtimes; any number of images at once
"""

import base64
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import utils
from training import judge
from utils import LeNetError

TEMPLATE = Path(__file__).with_name("page.html")
LAYERS = {"C1": "feature_extractor.0", "C3": "feature_extractor.3", "C5": "feature_extractor.6",
          "F6": "classifier.0", "output": "classifier.2"}
SHAPES = {"C1": (6, 1, 5, 5), "C3": (16, 6, 5, 5), "C5": (120, 16, 5, 5), "F6": (84, 120),
          "output": (10, 84)}


def export(path, model, metadata, read_test_set):
    """Write model to path, .html or .onnx; return one line about it. metadata: of its checkpoint.

    read_test_set() returns MNIST's test images, uint8 (N, 28, 28), and labels, int64 (N,). Raises
    LeNetError if the model is not model.py's LeNet-5, or if path cannot be written.
    """
    if path.suffix == ".onnx":
        content, note = make_onnx(model), "checked against torch"
    else:
        page, note = make_page(model, metadata, *read_test_set())
        content = page.encode()
    utils.write_atomically(path, content)
    return f"{path}: {len(content) / 1000:.0f} KB; {note}"


def round_weights(model):
    """Return {layer: (weight, bias)}, float16, of a LeNet-5: what the page holds.

    Raises LeNetError if the model computes anything but page.html's forward pass.
    """
    state = model.state_dict()
    layers = {name: tuple(state.get(f"{key}.{kind}") for kind in ("weight", "bias"))
              for name, key in LAYERS.items()}
    shapes = {name: None if weight is None else tuple(weight.shape)
              for name, (weight, _) in layers.items()}
    same = shapes == SHAPES and len(state) == 2 * len(SHAPES)
    if same:
        x = torch.linspace(-1, 3, 2 * 32 * 32).sin().view(2, 1, 32, 32) * 2
        with torch.inference_mode():
            same = torch.allclose(utils.compute_logits(model, x), forward(layers, x), rtol=1e-3,
                                  atol=1e-3)
    if not same:
        raise LeNetError("--export to a page takes LeNet-5 alone: tanh, averages, 6, 16, 120, 84 "
                         "and 10 maps and units; this network is another one")
    return {name: tuple(tensor.half() for tensor in pair) for name, pair in layers.items()}


def forward(layers, x):
    """Return the logits, float (N, 10), of x, float (N, 1, 32, 32), as page.html computes them."""
    layers = {name: [tensor.float() for tensor in pair] for name, pair in layers.items()}
    for name in ("C1", "C3"):
        x = F.avg_pool2d(torch.tanh(F.conv2d(x, *layers[name])), 2)
    x = torch.tanh(F.conv2d(x, *layers["C5"])).flatten(1)
    return F.linear(torch.tanh(F.linear(x, *layers["F6"])), *layers["output"])


def make_page(model, metadata, images, labels):
    """Return (HTML, notes): the page of a LeNet-5 and what to tell who exported it.

    images, uint8 (N, 28, 28), and labels, int64 (N,): MNIST's test set; 50 of them go into the
    page. Raises LeNetError if the network is no LeNet-5.
    """
    layers = round_weights(model)
    inputs = utils.to_inputs(images)
    with torch.inference_mode():
        logits = torch.cat([forward(layers, part) for part in inputs.split(1000)])
        answers = torch.cat([utils.compute_logits(model, part).argmax(1)
                             for part in inputs.split(1000)])
    changed = (logits.argmax(1) != answers).sum().item()
    right = (logits.argmax(1) == labels).sum().item()
    chosen = choose_digits(logits, labels)
    data = {
        "mean": utils.MEAN, "std": utils.STD, "turn": judge.TURN,
        "recipe": str(metadata.get("recipe", "")), "accuracy": round(100 * right / len(labels), 2),
        "weights": {name: {"weight": encode(weight), "bias": encode(bias)}
                    for name, (weight, bias) in layers.items()},
        "digits": {"images": encode(images[chosen]), "labels": labels[chosen].tolist(),
                   "numbers": chosen.tolist()},
    }
    text = json.dumps(data).replace("<", "\\u003c")  # nothing in it can end the script element
    page = TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", text)
    return page, (f"half precision changes {changed} of {len(labels)} answers, "
                  f"{100 * right / len(labels):.2f} % are correct")


def choose_digits(logits, labels, n=4, hard=10):
    """Return the numbers of 50 test digits: the first n of each class, and the hardest ones."""
    loss = F.cross_entropy(logits, labels, reduction="none")
    easy = [i for digit in range(10) for i in (labels == digit).nonzero()[:n, 0].tolist()]
    loss[easy] = 0
    return torch.tensor(sorted(easy + loss.topk(hard).indices.tolist()))


def encode(tensor):
    """Return a tensor's bytes, little-endian, as base64."""
    array = tensor.contiguous().numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def make_onnx(model):
    """Return the ONNX file, bytes, of a LeNet-5; raises LeNetError if that takes more packages.

    Input "image", float (N, 1, 32, 32), standardised; outputs "logits" and "probabilities". ONNX's
    own reference implementation has to say what torch says.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401, torch's exporter wants it
        from onnx.reference import ReferenceEvaluator
    except ImportError as error:
        raise LeNetError(f"ONNX takes the package {error.name}: pip install onnx onnxscript"
                         ) from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lenet5.onnx"
        torch.onnx.export(model, (torch.zeros(2, 1, 32, 32),), path, dynamo=True, verbose=False,
                          external_data=False, dynamic_shapes={"x": {0: torch.export.Dim("n")}},
                          input_names=["image"], output_names=["logits", "probabilities"])
        content = path.read_bytes()
    x = torch.linspace(-1, 3, 3 * 32 * 32).sin().view(3, 1, 32, 32)
    with torch.inference_mode():
        expected = model(x)[0].numpy()
    found, _ = ReferenceEvaluator(onnx.load_from_string(content)).run(None, {"image": x.numpy()})
    if not np.allclose(found, expected, atol=1e-3):
        raise LeNetError("the ONNX file computes other numbers than torch; nothing was written")
    return content
