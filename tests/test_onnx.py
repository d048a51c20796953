"""The network leaves PyTorch as it is (python -m pip install onnx onnxscript, to run this)."""

import re

import numpy as np
import pytest
import torch

import utils

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


def test_onnx_says_what_the_network_says(model, parts, tmp_path):
    images = parts[1][0][:7].float() / 255
    inputs = (images - 0.1307) / 0.3081
    example = torch.zeros(2, 1, 32, 32)
    path = tmp_path / "lenet5.onnx"
    torch.onnx.export(model, (example,), str(path), input_names=["image"], output_names=["logits", "probabilities"],
                      dynamo=True, dynamic_shapes={"x": {0: torch.export.Dim("n")}})
    onnx.checker.check_model(str(path))
    session = onnx.reference.ReferenceEvaluator(str(path))
    logits, probabilities = session.run(None, {"image": inputs.numpy()})  # any number of images, not only the example's
    with torch.no_grad():
        expected = [output.numpy() for output in model(inputs)]
    assert logits.shape == (7, 10)
    assert np.allclose(logits, expected[0], atol=1e-4) and np.allclose(probabilities, expected[1], atol=1e-5)


def test_what_the_readme_shows_works(tmp_path, monkeypatch):
    (line,) = re.findall(r"`(torch\.onnx\.export\(.*?\))`", (utils.ROOT / "README.md").read_text())
    monkeypatch.chdir(tmp_path)
    eval(line, {"torch": torch, "utils": utils})
    onnx.checker.check_model("lenet5.onnx")
