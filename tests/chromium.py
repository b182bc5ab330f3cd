# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium for tests, spoken to over the W3C WebDriver protocol that chromedriver serves.

Nothing but the standard library and Debian's packages ``chromium`` and ``chromium-driver``. Everything lives in one
folder and is gone with it; both programs are ended by their own process ids::

    with Chromium(folder) as browser:
        browser.open(path)
        browser.script("return document.title")

Source: W3C WebDriver 2; Chrome DevTools Protocol, domains Emulation, Page, Accessibility, Network.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from types import TracebackType
from typing import Any

import pytest

START_LIMIT_S = 60.0
ANSWER_LIMIT_S = 120.0

OPTIONS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-domain-reliability",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
"""What keeps a browser to itself: it resolves no name, updates nothing, reports nothing."""

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""WebDriver, 11: the key of an element reference."""


def missing_tools() -> str:
    """Return what is not installed, in words; empty when all is there."""
    tools = [tool for tool in ("chromium", "chromedriver") if shutil.which(tool) is None]
    return f"not installed: {', '.join(tools)} (Debian: chromium, chromium-driver)" if tools else ""


def need_chromium() -> None:
    """Skip where there is no Chromium, fail where CI says there must be one."""
    if not (missing := missing_tools()):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


class Chromium:
    """One browser with one page; ``folder`` is its profile and its log.

    Args:
        folder: An empty folder of its own.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder.resolve()
        self._driver: subprocess.Popen[bytes] | None = None
        self._base = ""
        self._session = ""

    def __enter__(self) -> Chromium:
        log = self.folder / "chromedriver.log"
        with log.open("wb") as out:
            self._driver = subprocess.Popen(
                ["chromedriver", "--port=0"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
            )
        try:
            self._base = f"http://127.0.0.1:{self._port(log)}"
            root = ["--no-sandbox"] if os.geteuid() == 0 else []
            options = [*OPTIONS, *root, f"--user-data-dir={self.folder / 'profile'}"]
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": options, "binary": shutil.which("chromium")},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{answer['sessionId']}"
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._session:
                self._ask("DELETE", self._session)
        finally:
            self._stop()

    def open(self, path: pathlib.Path) -> None:
        """Load a file and wait until it is there."""
        self._ask("POST", f"{self._session}/url", {"url": path.resolve().as_uri()})

    def script(self, body: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; return what it returns."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": body, "args": list(arguments)})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Run a command of the DevTools protocol; return its result."""
        asked = {"cmd": command, "params": parameters}
        return self._ask("POST", f"{self._session}/goog/cdp/execute", asked)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since it was last asked: ``browser`` or ``performance``."""
        lines: list[dict[str, Any]] = self._ask("POST", f"{self._session}/se/log", {"type": kind})
        return lines

    def press(self, *keys: str) -> None:
        """Press and release keys, one after another."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        steps = [{"type": "key", "id": "keyboard", "actions": actions}]
        self._ask("POST", f"{self._session}/actions", {"actions": steps})

    def look(self, *, width: int, height: int = 900, dark: bool = False, media: str = "", scale: int = 1) -> None:
        """Set the size of the screen, the colours its reader likes, and the medium."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 700,
        )

    def picture(self, path: pathlib.Path, *, limit_px: int = 6000) -> None:
        """Write a picture of the whole page, or of so many pixels from its top."""
        size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], limit_px), "scale": 1}
        answer = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _port(self, log: pathlib.Path) -> int:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            assert self._driver is not None
            if found := re.search(rb"started successfully on port (\d+)", log.read_bytes()):
                return int(found[1])
            if self._driver.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"chromedriver did not start: {log.read_bytes()[-500:]!r}")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._base + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        # The driver is on this machine; a proxy of the environment knows nothing of it.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=ANSWER_LIMIT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            told = json.load(error)["value"]
            raise RuntimeError(f"{path}: {told['error']}: {told['message'][:500]}") from None

    def _stop(self) -> None:
        if self._driver is None:
            return
        self._driver.terminate()
        try:
            self._driver.wait(10)
        except subprocess.TimeoutExpired:
            self._driver.kill()
            self._driver.wait()
        self._driver = None
