"""A headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from served import until_true

CHROMIUM = shutil.which("chromium")
_COMMAND = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
_COMMAND += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
_COMMAND += ["--hide-scrollbars", "--disable-quic", "--disable-dev-shm-usage"]


def check_page(path: Path, width: int) -> None:
    """A page that stands alone opens, fits the window, and shows all of its pictures."""
    assert not re.search(r"(src|href)=\"(?!data:|#)", path.read_text()), "it must stand alone"
    with closing(Browser(path.parent / "profile")) as browser:
        browser.go(path.as_uri(), width=width)
        browser.wait("document.body.children.length && document.readyState === 'complete'")
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("[...document.images].every(one => one.naturalWidth)")


class Browser:
    """One page of a browser of its own, with its profile in ``folder``."""

    def __init__(self, folder: Path) -> None:
        websocket = pytest.importorskip("websocket", reason="needs websocket-client")
        command = [*_COMMAND, "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port_file = folder / "DevToolsActivePort"
        until_true(lambda: port_file.is_file() and "\n" in port_file.read_text())
        port = port_file.read_text().split()[0]
        pages = json.load(urlopen(f"http://127.0.0.1:{port}/json/list"))
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self._socket = websocket.create_connection(
            address, timeout=60, suppress_origin=True, max_size=None
        )
        self._last = 0
        self.messages: list[str] = []
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; errors that the page logs meanwhile are kept."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv())).get("id") != self._last:
            if answer.get("method") == "Runtime.exceptionThrown":
                self.messages.append(json.dumps(answer["params"]["exceptionDetails"]))
            if answer.get("method") == "Log.entryAdded":
                self.messages.append(answer["params"]["entry"]["text"])
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a script in the page; a promise's, when it has one."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of a script as soon as it is true."""
        # What it looks at may not be there yet.
        tried = f"(() => {{ try {{ return {script} }} catch {{ return false }} }})()"
        return until_true(lambda: self.run(tried))

    def go(self, url: str, *, width: int = 1280, dark: bool = False) -> None:
        """Open a page in a window of that width."""
        window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **window)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)

    def upload(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=list(map(str, files)))

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        typed = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)
