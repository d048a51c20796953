"""The network leaves PyTorch as it is (python -m pip install onnx onnxscript, to run this)."""

import numpy as np
import pytest
import torch

import predict

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


def test_onnx_says_what_the_network_says(parts, tmp_path, capsys):
    path = tmp_path / "lenet5.onnx"
    assert predict.main(["--export", str(path)]) == 0
    assert str(path) in capsys.readouterr().out and list(tmp_path.iterdir()) == [path]
    model = predict.load_model(None, predict.utils.SHIPPED, "cpu")
    onnx.checker.check_model(str(path))
    session = onnx.reference.ReferenceEvaluator(str(path))
    for n in (1, 7):  # any number of images, not only the example's
        inputs = (parts[1][0][:n].float() / 255 - 0.1307) / 0.3081
        logits, probabilities = session.run(None, {"image": inputs.numpy()})
        with torch.inference_mode():
            expected = [output.numpy() for output in model(inputs)]
        assert logits.shape == (n, 10)
        assert np.allclose(logits, expected[0], atol=1e-4)
        assert np.allclose(probabilities, expected[1], atol=1e-5)
