"""Run the whole test suite as other machines would run it.

    python tests/machines.py [PYTEST ARGUMENTS]     ten minutes; --list names the machines; -m slow: an hour

Each machine is a set of environment variables: which vector instructions torch may use, whether the
processor has instructions for bfloat16, how many threads compute. The last one has another network in
Model/. Every run works in a clone of its own, so the checkout stays as it is. Run it after every change
of numerics; commit first, since a clone holds what is committed. Exit status: 1 if a machine failed.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MACHINES = {
    "no vector instructions, one thread": dict(ATEN_CPU_CAPABILITY="default", OMP_NUM_THREADS="1"),
    "AVX2, two threads": dict(ATEN_CPU_CAPABILITY="avx2", OMP_NUM_THREADS="2"),
    "no bfloat16, one thread": dict(EMULATED_BFLOAT16="0", OMP_NUM_THREADS="1"),
    "bfloat16, two threads": dict(EMULATED_BFLOAT16="1", OMP_NUM_THREADS="2"),
    "another network in Model/": dict(OMP_NUM_THREADS="1"),
}

# Python imports a module of this name at its start. This one answers torch.cpu.get_capabilities(), which
# training asks whether the processor has instructions for bfloat16, without importing torch itself.
SITECUSTOMIZE = """
import importlib.abc, importlib.machinery, os, sys

class Emulation(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torch.cpu":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            has = os.environ["EMULATED_BFLOAT16"] == "1"
            module.get_capabilities = lambda: {"avx512_bf16": has, "amx_bf16": has}

        spec.loader.exec_module = exec_module
        return spec

if "EMULATED_BFLOAT16" in os.environ:
    sys.meta_path.insert(0, Emulation())
"""


def run_suite(name, variables, folder, arguments):
    """Clone the project into folder and run its tests there; return (exit status, last line, seconds)."""
    clone, hook = folder / "clone", folder / "hook"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(SITECUSTOMIZE)
    environment = os.environ | variables | {"PYTHONPATH": str(hook)}
    if name.startswith("another network"):
        train = [sys.executable, "train.py", "--seed", "1"]
        subprocess.run(train, cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
    started = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    process = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    print(process.stdout if process.returncode else "", end="", flush=True)
    last = (process.stdout.strip() or process.stderr.strip()).splitlines()[-1]
    return process.returncode, last, time.perf_counter() - started


def main(arguments):
    if arguments == ["--list"]:
        print(*MACHINES, sep="\n")
        return 0
    worst = 0
    for name, variables in MACHINES.items():
        with tempfile.TemporaryDirectory() as folder:
            status, last, seconds = run_suite(name, variables, Path(folder), arguments)
        print(f"{name:36s} {'passed' if status == 0 else 'FAILED'} in {seconds:4.0f} s: {last}", flush=True)
        worst = max(worst, status)
    return min(worst, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
