"""A real Chromium, headless and of the tests' own, over its DevTools protocol: what a page loads, says, and looks like."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import pytest

__all__ = ["Chromium", "Visit", "needs_chromium"]

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed: apt-get install chromium")
START_S = 120.0
"""Machines of CI are busy."""


class Visit:
    """One page that is shown, and what happened to it."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session
        self.requests: list[str] = []
        """Addresses of what was asked for, the page itself among them."""
        self.complaints: list[str] = []
        """What the console was told, and what the browser refused."""
        self._is_loaded = asyncio.Event()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command of the DevTools protocol."""
        return await self._browser.call(method, parameters, self._session)

    async def open(self, path: Path) -> None:
        """Load a file, and wait until it is there."""
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=path.as_uri())
        await asyncio.wait_for(self._is_loaded.wait(), START_S)

    async def screen(self, width: int, height: int = 900, *, scheme: str = "light") -> None:
        """Show the page on a screen of so many pixels; the scheme is `light` or `dark`."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def value(self, expression: str) -> Any:
        """Return what a JavaScript expression is, by the page's own objects."""
        done = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def press(self, key: str) -> None:
        """Press a key and let it go."""
        codes = {"Tab": 9, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text
            )

    async def picture(self) -> bytes:
        """Return the whole page as PNG."""
        done = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(done["data"])

    async def paper(self) -> bytes:
        """Return the page as PDF."""
        return base64.b64decode((await self.call("Page.printToPDF", printBackground=True))["data"])

    def hear(self, method: str, parameters: dict[str, Any]) -> None:
        """Take in an event of the protocol."""
        match method:
            case "Page.loadEventFired":
                self._is_loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(str(parameters))


class Chromium:
    """One browser. An async context manager; `visit` opens a page."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._visits: dict[str, Visit] = {}
        self._process: asyncio.subprocess.Process
        self._http: aiohttp.ClientSession
        self._socket: aiohttp.ClientWebSocketResponse
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        assert PROGRAM is not None
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM,
            "--headless",
            "--no-sandbox",  # root gets none, containers have none, and it shows our own files alone
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._folder}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port, path = await asyncio.wait_for(self._address(), START_S)
            self._http = aiohttp.ClientSession()
            self._socket = await self._http.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0)
        except BaseException:
            await self._end()
            raise
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await self._socket.close()
        await self._http.close()
        await self._end()

    async def visit(self, path: Path) -> Visit:
        """Open a file in a page of its own."""
        target = await self.call("Target.createTarget", {"url": "about:blank"})
        attached = await self.call("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        visit = self._visits[attached["sessionId"]] = Visit(self, attached["sessionId"])
        await visit.open(path)
        return visit

    async def call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Return the result of a command."""
        number = next(self._numbers)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message if session is None else {**message, "sessionId": session})
        return await asyncio.wait_for(answered, START_S)

    async def _address(self) -> tuple[str, str]:
        """Return port and path of the browser's end of the protocol, once it wrote them."""
        file = self._folder / "DevToolsActivePort"
        while True:
            assert self._process.returncode is None, "chromium ended"
            lines = (await asyncio.to_thread(_text_of, file)).split("\n")
            if len(lines) == 2:
                return lines[0], lines[1]
            await asyncio.sleep(0.05)

    async def _read(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                answered = self._waiting.pop(said["id"])
                if answered.done():
                    continue
                if "error" in said:
                    answered.set_exception(AssertionError(said["error"]))
                else:
                    answered.set_result(said["result"])
            elif (visit := self._visits.get(said.get("sessionId", ""))) is not None:
                visit.hear(said["method"], said["params"])

    async def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its children too: the group is its own
        await self._process.wait()


def _text_of(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""
