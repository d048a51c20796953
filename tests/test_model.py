"""The network is LeNet-5, layer by layer."""

import copy

import pytest
import torch
from torch import nn

from utils import standardise
from model import LeNet5

LAYERS = [  # name in the paper, part, index, shape of the output, parameters
    ("C1", "feature_extractor", 0, (6, 28, 28), 156),
    ("S2", "feature_extractor", 2, (6, 14, 14), 0),
    ("C3", "feature_extractor", 3, (16, 10, 10), 2_416),
    ("S4", "feature_extractor", 5, (16, 5, 5), 0),
    ("C5", "feature_extractor", 6, (120, 1, 1), 48_120),
    ("F6", "classifier", 0, (84,), 10_164),
    ("output", "classifier", 2, (10,), 850),
]


@pytest.mark.parametrize("name, part, index, shape, parameters", LAYERS)
def test_layer(name, part, index, shape, parameters):
    model, seen = LeNet5(), []
    layer = getattr(model, part)[index]
    layer.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    model(torch.zeros(3, 1, 32, 32))
    assert seen == [(3, *shape)]
    assert sum(p.numel() for p in layer.parameters()) == parameters


def test_there_is_nothing_else():
    model = LeNet5()
    assert sum(p.numel() for p in model.parameters()) == 61_706
    modules = [module for part in (model.feature_extractor, model.classifier) for module in part]
    kinds = [nn.Conv2d, nn.Tanh, nn.AvgPool2d] * 2 + [
        nn.Conv2d,
        nn.Tanh,
        nn.Linear,
        nn.Tanh,
        nn.Linear,
    ]
    assert all(type(module) is kind for module, kind in zip(modules, kinds, strict=True))


def test_state_dict_has_the_keys_of_the_original():
    names = [f"feature_extractor.{i}" for i in (0, 3, 6)] + ["classifier.0", "classifier.2"]
    assert list(LeNet5().state_dict()) == [
        f"{name}.{kind}" for name in names for kind in ("weight", "bias")
    ]


def test_same_output_as_the_layers_written_out():
    model, x = LeNet5(), torch.randn(5, 1, 32, 32)
    w = model.state_dict()
    f = nn.functional
    y = f.avg_pool2d(
        torch.tanh(f.conv2d(x, w["feature_extractor.0.weight"], w["feature_extractor.0.bias"])), 2
    )
    y = f.avg_pool2d(
        torch.tanh(f.conv2d(y, w["feature_extractor.3.weight"], w["feature_extractor.3.bias"])), 2
    )
    y = torch.tanh(
        f.conv2d(y, w["feature_extractor.6.weight"], w["feature_extractor.6.bias"])
    ).flatten(1)
    y = torch.tanh(y @ w["classifier.0.weight"].T + w["classifier.0.bias"])
    y = y @ w["classifier.2.weight"].T + w["classifier.2.bias"]
    logits, probabilities = model(x)
    torch.testing.assert_close(logits, y)
    torch.testing.assert_close(probabilities, y.exp() / y.exp().sum(1, keepdim=True))


def test_other_numbers_of_classes():
    logits, probabilities = LeNet5(n_classes=26)(torch.zeros(2, 1, 32, 32))
    assert logits.shape == probabilities.shape == (2, 26)


@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (1, 3, 32, 32), (1, 32, 32), (32, 32)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(ValueError) as error:
        LeNet5()(torch.zeros(shape))
    assert str(shape) in str(error.value) and "(N, 1, 32, 32)" in str(error.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # it is deprecated, and much used
def test_torchscript_says_the_same_and_refuses_the_same():
    model, x = LeNet5(), torch.randn(3, 1, 32, 32)
    script = torch.jit.script(model)
    assert all(torch.equal(*outputs) for outputs in zip(model(x), script(x)))
    with pytest.raises(torch.jit.Error, match=r"shape \(N, 1, 32, 32\), got \(3, 1, 28, 28\)"):
        script(torch.zeros(3, 1, 28, 28))


@pytest.mark.filterwarnings("ignore")  # torch.ao's, of its own deprecation
def test_static_quantisation_to_8_bits_reads_alike(model, parts):
    quantization = pytest.importorskip("torch.ao.quantization.quantize_fx")
    from torch.ao.quantization import get_default_qconfig_mapping

    images, labels = (tensor[:200] for tensor in parts[1])
    x = standardise(images.float() / 255)
    # forward's check of the shape is no matter of layers
    features = copy.deepcopy(model).feature_extractor
    ready = quantization.prepare_fx(features, get_default_qconfig_mapping(), (x,))
    ready(x)  # to see what range the activations have
    small = quantization.convert_fx(ready)
    assert any("quantized" in type(module).__module__ for module in small.modules())
    with torch.no_grad():
        digits = model.classifier(small(x).flatten(1)).argmax(1)
    assert (digits == labels).float().mean() > 0.97


@pytest.mark.slow
def test_importing_is_quiet_and_leaves_the_heavy_libraries_alone(run):
    code = (
        "import sys\nfor name in ('model', 'utils', 'train', 'predict'):\n    __import__(name)\n"
        "    print(name, *{'matplotlib', 'torchvision'} & set(sys.modules))\n"
        "from training import data\ndata.load_mnist(False)\nprint('data', 'torchvision' in "
        "sys.modules)"
    )
    process = run("-c", code)
    assert (process.stdout.split(), process.stderr) == (
        ["model", "utils", "train", "predict", "data", "False"],
        "",
    )
