"""torch.hub finds the network, from a folder that is no working directory."""

import subprocess
import sys

import pytest

import utils


@pytest.mark.slow
def test_torch_hub_loads_the_shipped_network(tmp_path):
    code = (
        "import sys, torch; model = torch.hub.load(sys.argv[1], 'lenet5', source='local');"
        "logits, p = model(torch.zeros(2, 1, 32, 32));"
        "print(*logits.shape, round(p.sum().item(), 3), model.training)"
    )
    command = [sys.executable, "-c", code, str(utils.ROOT)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "2 10 2.0 False\n"), process.stderr
