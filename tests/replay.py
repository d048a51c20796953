"""Draw a number in the window of predict.py --draw as a hand does, by strokes that were recorded.

    python tests/replay.py 0.2      draw 9021 at 0.2 s a digit; print what the window reads, and
    what is
                                    read when the same points are given to it directly

It needs a display (Xvfb will do) and xdotool. MPLBACKEND chooses the toolkit: TkAgg or QtAgg.
"""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from figures import draw, window  # noqa: E402
from strokes import as_drawn  # noqa: E402


def arc(x, y, width, height, start, end):
    """Return 50 points of an ellipse round (x, y), from one angle in degrees to the other."""
    angles = np.radians(np.linspace(start, end, 50))
    return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1)


def line(*corners):
    """Return 16 points on each straight part of a line through corners."""
    return np.concatenate([np.linspace(*ends, 16) for ends in zip(corners, corners[1:])])


STROKES = {  # in pixels of the canvas
    "9": np.concatenate([arc(55, 150, 32, 36, -20, -380), line((86, 140), (84, 200), (70, 262))]),
    "0": arc(150, 200, 34, 62, -90, -450),
    "2": np.concatenate(
        [arc(240, 165, 34, 34, 190, 400), line((266, 187), (205, 262), (285, 262))]
    ),
    "1": line((335, 130), (330, 198), (325, 265)),
}


def xdotool(figure, seconds):
    """Return the xdotool command that draws STROKES on figure's canvas, each in that many
    seconds."""
    height = figure.bbox.height
    words = ["xdotool"]
    for points in STROKES.values():
        at = figure.axes[0].transData.transform(points)
        for i, (x, y) in enumerate(at):
            words += ["mousemove", "--window", "WINDOW", str(round(x)), str(round(height - y))]
            words += ["mousedown", "1"] if i == 0 else []
            words += ["sleep", f"{seconds / len(points):.4f}"]
        words += ["mouseup", "1", "sleep", "0.05"]
    return words


def play(figure, seconds):
    """Draw STROKES, once the window is there, then press q."""
    def run(words):
        return subprocess.run(words, capture_output=True, text=True).stdout.split()

    name = figure.get_label()
    *_, number = run(["xdotool", "search", "--sync", "--onlyvisible", "--name", name])
    run(["xdotool", "sleep", "1"])
    words = [number if word == "WINDOW" else word for word in xdotool(figure, seconds)]
    run(words)
    run(["xdotool", "sleep", "0.5", "key", "--window", number, "q"])


def main(seconds):
    import predict
    from training import checkpoints

    model, _ = checkpoints.load_checkpoint()

    def read(image):
        return predict.told(*predict.predict_images([image], model))

    figure = draw.draw(read)
    thread = threading.Thread(target=play, args=(figure, seconds))
    thread.start()
    window.open_window(figure, own_keys=True)
    thread.join()
    figure.catch_up()
    drawn = figure.axes[0].images[0].get_array()[..., 0].astype(int)
    direct = as_drawn([points.tolist() for points in STROKES.values()])
    print("window:", figure.texts[0].get_text())
    print("direct:", read(direct)[1])
    print(f"different: {(abs(drawn - np.asarray(direct)) > 64).mean():.4f} of the pixels")


if __name__ == "__main__":
    main(float(sys.argv[1]))
