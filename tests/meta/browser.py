"""A page in a headless Chromium: what it asks for, and what it complains of.

Speaks the browser's own debugging protocol over its pipe (JSON messages that end in NUL), so
that nothing but a Chromium is needed.
"""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# A page of its own files makes no request; these are the page itself and what is inside it.
_INSIDE = ("file:", "data:", "about:", "blob:")


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def look(executable: str, page: Path, profile: Path, screenshot: Path | None = None) -> dict:
    """Opens a page; returns its requests, complaints, and how many images there are and fail."""
    to_browser, from_browser = os.pipe(), os.pipe()

    # The pipe's ends are file descriptors 3 and 4 there. A shell puts them in their places:
    # a function between fork and exec would run beside JAX's threads.
    ends = to_browser[0], from_browser[1]
    command = ["/bin/sh", "-c", f'exec "$@" 3</dev/fd/{ends[0]} 4>/dev/fd/{ends[1]}', "sh"]
    command += [executable, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, pass_fds=ends, stderr=subprocess.DEVNULL)
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        with os.fdopen(to_browser[1], "wb", 0) as write, os.fdopen(from_browser[0], "rb") as read:
            return _Session(write, read).look(page, screenshot)
    finally:
        process.kill()
        process.wait()


class _Session:
    def __init__(self, write, read):
        self._write, self._read = write, read
        self._number, self._session, self._events = 0, None, []
        self._rest = b""

    def _receive(self) -> dict:
        while b"\0" not in self._rest:
            content = os.read(self._read.fileno(), 1 << 16)
            if not content:
                raise RuntimeError("the browser closed its pipe")
            self._rest += content
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _ask(self, method: str, **params) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._events.append(answer)

    def _wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._receive())

    def look(self, page: Path, screenshot: Path | None) -> dict:
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Network", "Runtime", "Log", "Page"):
            self._ask(f"{domain}.enable")
        self._ask("Page.navigate", url=page.resolve().as_uri())
        self._wait_for("Page.loadEventFired")
        count = "(f => [...document.images].filter(f).length)"
        images, broken, sections = (
            self._ask("Runtime.evaluate", expression=text)["result"]["value"]
            for text in (
                f"{count}(i => true)",
                f"{count}(i => !(i.complete && i.naturalWidth))",
                "document.querySelectorAll('section').length",
            )
        )
        if screenshot is not None:
            data = self._ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            screenshot.write_bytes(base64.b64decode(data))
        return {
            "requests": [url for url in self._requests() if not url.startswith(_INSIDE)],
            "complaints": [e for e in self._events if e.get("method") in _COMPLAINTS],
            "images": images,
            "broken": broken,
            "sections": sections,
        }

    def _requests(self) -> list[str]:
        sent = (e for e in self._events if e.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]


_COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
