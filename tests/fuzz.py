"""Feed damaged pictures to predict.py's reader.

    python tests/fuzz.py [N [SEED]]        10,000 and 0 by default

Starts from valid files of ten formats and flips bytes, cuts, splices and overwrites the headers. Each picture has to end
in a digit or in one line, within 2 seconds; what Pillow warns of is hidden, as predict.py hides it.
"""

import collections
import io
import random
import resource
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pictures  # noqa: E402
import predict  # noqa: E402
from training import checkpoints  # noqa: E402

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "JPEG2000")


def seeds():
    """Return valid files of all formats, as bytes."""
    images, _ = pictures.uci()
    files = []
    for format, image in zip(FORMATS, images):
        file = io.BytesIO()
        image.resize((64, 64)).convert("RGB").save(file, format)
        files.append(file.getvalue())
    return files


def mutate(files, rng):
    """Return one of files, damaged in one of five ways."""
    data = bytearray(rng.choice(files))
    way = rng.randrange(5)
    if way == 0:  # flip some bytes
        for _ in range(rng.choice((1, 3, 30))):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    elif way == 1:  # cut
        del data[rng.randrange(len(data)):]
    elif way == 2:  # splice two files
        other = rng.choice(files)
        data[rng.randrange(len(data)):] = other[rng.randrange(len(other)):]
    elif way == 3:  # other numbers in the header: sizes, offsets, depths
        at = rng.randrange(min(len(data) - 4, 64))
        data[at:at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\xff\xff", rng.randbytes(4)))
    else:  # repeat a part
        at = rng.randrange(len(data))
        data[at:at] = data[at:at + rng.randrange(1, 200)] * rng.randrange(1, 20)
    return bytes(data)


def run(model, n, seed=0):
    """Read n damaged pictures; return how many were read and refused, and the slowest one's seconds."""
    files, rng = seeds(), random.Random(seed)
    count = collections.Counter()
    for _ in range(n):
        started = time.perf_counter()
        (reading,) = predict.predict_images([io.BytesIO(mutate(files, rng))], model)
        count["slowest"] = max(count["slowest"], time.perf_counter() - started)
        if not isinstance(reading, Exception):
            count["read"] += 1
        else:
            assert "\n" not in str(reading), str(reading)
            count["refused"] += 1
            count[str(reading)[:60]] += 1
    return count


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module=r"PIL\b")  # as predict.py's command line does
    count = run(checkpoints.load_checkpoint()[0], *(map(int, sys.argv[1:]) if len(sys.argv) > 1 else [10_000]))
    print(f"read {count.pop('read')}, refused {count.pop('refused')}, slowest {count.pop('slowest'):.2f} s, "
          f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    for message, n in count.most_common(25):
        print(f"{n:6d}  {message}")
