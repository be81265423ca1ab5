"""A headless Chromium driven as a person would: real wheel and keys, by its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
# the browser listens on descriptor 3 and speaks on 4
START = """import os, sys
from fcntl import F_DUPFD, fcntl
for wanted, given in enumerate([fcntl(int(number), F_DUPFD, 10) for number in sys.argv[1:3]], start=3):
    os.dup2(given, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
PATIENCE = 240.0  # seconds for anything that has to come
KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


class Page:
    """An open page. complaints: what it wrote to the console as warning or error, and exceptions."""

    def __init__(self, said: asyncio.StreamReader, asked: Any) -> None:
        self.complaints: list[str] = []
        self.session: dict[str, str] = {}
        self._asked = asked
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read(said))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        buffer = b""
        while part := await stream.read(2**16):
            *messages, buffer = (buffer + part).split(b"\0")
            for message in messages:
                self._take(json.loads(message))
        for answer in self._answers.values():
            answer.set_exception(RuntimeError("the browser has ended"))

    def _take(self, said: Mapping[str, Any]) -> None:
        if "id" in said:
            self._answers.pop(said["id"]).set_result(said)
        elif said["method"] == "Page.loadEventFired":
            self._loaded.set()
        elif said["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["params"]["exceptionDetails"]))
        elif said["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(said["params"]))

    async def ask(self, method: str, **parameters: Any) -> Any:
        """The result of a command of the protocol."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters, **self.session}
        self._asked.write(json.dumps(message).encode() + b"\0")
        said = await asyncio.wait_for(answer, PATIENCE)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']['message']}")
        return said["result"]

    async def open(self, path: Path) -> None:
        """Go to a file on disk and wait until it is loaded."""
        self._loaded.clear()
        await self.ask("Page.navigate", url=path.resolve().as_uri())
        await asyncio.wait_for(self._loaded.wait(), PATIENCE)

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        found = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression holds, and what follows from it is drawn."""
        for _ in range(int(PATIENCE / 0.05)):
            if await self.run(condition):
                await self.run(DRAWN)
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"it never came to {condition}")

    async def press(self, key: str, *, shift: bool = False) -> None:
        """One key, down and up."""
        about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": {"Enter": "\r", " ": " "}[key]} if key in ("Enter", " ") else {}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", modifiers=8 * shift, **about, **text)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", modifiers=8 * shift, **about)

    async def write(self, text: str) -> None:
        """Text into what has the focus, a character at a time."""
        for character in text:
            await self.ask("Input.dispatchKeyEvent", type="char", text=character)

    async def wheel(self, x: float, y: float, down: float) -> None:
        """One turn of the wheel over a place of the view."""
        await self.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=down)

    async def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The view, in CSS pixels."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        await self.until(f"matchMedia('(width: {width}px)').matches")

    async def media(self, kind: str = "", **features: str) -> None:
        """`print` or nothing, and features such as prefers_color_scheme="dark"."""
        found = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.ask("Emulation.setEmulatedMedia", media=kind, features=found)

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """A screenshot of the view, or of the whole page."""
        found = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    async def paper(self, path: Path) -> None:
        """The page as it is printed, as PDF."""
        found = await self.ask("Page.printToPDF", printBackground=False)
        path.write_bytes(base64.b64decode(found["data"]))


@asynccontextmanager
async def opened(path: Path, *, flags: Sequence[str] = (), **size: Any) -> AsyncIterator[Page]:
    """The file at `path` in a browser of its own."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        start = [sys.executable, "-c", START, str(theirs_in), str(theirs_out)]
        command = [*start, str(BROWSER), *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(theirs_in, theirs_out)
        )
        os.close(theirs_in)
        os.close(theirs_out)
        said = asyncio.StreamReader()
        listening, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(said), os.fdopen(ours_in, "rb")
        )
        asked, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(ours_out, "wb"))
        try:
            page = Page(said, asked)
            targets = (await page.ask("Target.getTargets"))["targetInfos"]
            target = next(one["targetId"] for one in targets if one["type"] == "page")
            attached = await page.ask("Target.attachToTarget", targetId=target, flatten=True)
            page.session = {"sessionId": attached["sessionId"]}
            for domain in ("Page", "Runtime", "Log"):
                await page.ask(f"{domain}.enable")
            await page.size(**{"width": 1200, "height": 900, **size})
            await page.open(path)
            yield page
        finally:
            asked.close()
            listening.close()
            process.terminate()
            await asyncio.to_thread(process.wait)
