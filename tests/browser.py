"""A page in headless Chromium, driven over its DevTools protocol, with the standard library alone.

    with Browser("page.html", folder) as browser:
        browser.evaluate("document.title")
        browser.draw([[(100, 100), (120, 180)]])
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
OPTIONS = ("--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
           "--disable-component-update --disable-sync --remote-debugging-pipe about:blank").split()


class Browser:
    """One tab. requests: the URLs that the page asked for; errors: the console's complaints."""

    def __init__(self, page, folder, width=1440, height=900):
        command, theirs = os.pipe()
        answer, ours = os.pipe()
        fds = f"exec 3<&{command} 4>&{ours}; exec \"$@\""
        self.process = subprocess.Popen(
            ["bash", "-c", fds, "bash", CHROMIUM, *OPTIONS, f"--user-data-dir={folder}"],
            pass_fds=(command, ours), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(command)
        os.close(ours)
        self.input, self.output, self.buffer = theirs, answer, b""
        self.last, self.session, self.events, self.requests, self.errors = 0, None, [], [], []
        (tab,) = (target["targetId"] for target in self.send("Target.getTargets")["targetInfos"]
                  if target["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.send(f"{domain}.enable")
        self.resize(width, height)
        self.send("Page.navigate", url=Path(page).resolve().as_uri())
        self.wait("document.readyState === 'complete' && document.title")

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        with contextlib.suppress(OSError, AssertionError):
            self.session = None
            self.send("Browser.close")
        os.close(self.input)
        os.close(self.output)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def send(self, method, **params):
        """Return the result of one command; collect events on the way."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.input, json.dumps(message).encode() + b"\0")
        while (reply := self.receive()).get("id") != self.last:
            self.note(reply)
        assert "error" not in reply, reply
        return reply["result"]

    def receive(self, patience=60):
        while b"\0" not in self.buffer:
            assert select.select([self.output], [], [], patience)[0], "the browser does not answer"
            part = os.read(self.output, 1 << 20)
            assert part, "the browser has gone"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def note(self, event):
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["exception"].get("description"))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(str(params["args"]))

    def evaluate(self, code):
        """Return the value of a JavaScript expression, awaited; it sees the page's const and let."""
        result = self.send("Runtime.evaluate", expression=code, returnByValue=True,
                           awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, code, seconds=20):
        """Wait until a JavaScript expression is true; return its value."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(code)):
            assert time.monotonic() < end, f"still not: {code}"
            time.sleep(0.05)
        return value

    def resize(self, width, height, scale=1, mobile=False):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=mobile)

    def dark(self, on):
        scheme = "dark" if on else "light"
        self.send("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])

    def mouse(self, kind, x, y):
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1,
                  buttons=0 if kind == "mouseReleased" else 1)

    def draw(self, strokes):
        """Draw strokes, lists of (x, y) in the window's pixels, with the mouse."""
        for stroke in strokes:
            self.mouse("mousePressed", *stroke[0])
            for point in stroke[1:]:
                self.mouse("mouseMoved", *point)
            self.mouse("mouseReleased", *stroke[-1])

    def press(self, key):
        text = key if len(key) == 1 else ""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, text=text)

    def drop(self, path, x, y):
        """Drop a file on the page."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, path, whole=False):
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"clip": {**size, "scale": 1}} if whole else {}
        image = self.send("Page.captureScreenshot", captureBeyondViewport=whole, **clip)
        Path(path).write_bytes(base64.b64decode(image["data"]))
