"""Look for files that end in a traceback, guided by the code that they reach (pip install atheris).

    python tests/fuzz_guided.py pictures FOLDER [SECONDS]       what predict.py reads
    python tests/fuzz_guided.py checkpoints FOLDER [SECONDS]    what load_checkpoint() loads

Starts from valid files, in FOLDER, which is made and keeps what was found from run to run. A file that ends in anything
but a result or one line is kept there as crash-..., and the run ends. 600 seconds by default.
"""

import io
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch  # noqa: E402, F401 (as it is: it is large)

with atheris.instrument_imports(include=["PIL", "reading", "training"]):
    from PIL import Image  # noqa: F401
    from reading import image
    from training import checkpoints

import fuzz  # noqa: E402
import utils  # noqa: E402


def read_picture(content):
    """Decode a picture; what comes after is not Pillow's, and looks alike for all of them."""
    try:
        image.to_array(image.open_picture(io.BytesIO(content)), 256)
    except image.PictureError as error:
        assert "\n" not in str(error), str(error)


def read_checkpoint(content):
    """Load a checkpoint; nothing in it may be executed."""
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        file.write(content)
        file.flush()
        try:
            checkpoints.load_checkpoint(file.name)
        except utils.LeNetError as error:
            assert "\n" not in str(error), str(error)


def main(what, folder, seconds="600"):
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    pictures = what == "pictures"
    for number, content in enumerate(fuzz.seeds() if pictures else [utils.SHIPPED.read_bytes()]):
        (folder / f"seed{number}").write_bytes(content)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", "-max_len=400000", "-rss_limit_mb=4096"]
    warnings.filterwarnings("ignore", module=r"PIL\b")
    atheris.Setup([sys.argv[0], str(folder), *options], read_picture if pictures else read_checkpoint)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
