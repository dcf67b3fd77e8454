"""A real browser, and a page of ours served as a user serves it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEADLINE = 60


class Browser:
    """Chromium without a window, spoken to in the DevTools protocol over a pipe: JSON messages that end with a 0."""

    def __init__(self, profile: Path):
        flags = (
            "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-pipe"
        )
        line = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
        self.process = subprocess.Popen(
            ["sh", "-c", line, CHROMIUM, *flags.split(), f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.count = 0
        self.events, self.session, self.rest = [], None, b""
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        """Send a command and wait for its answer; events that come first are kept."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            while b"\0" not in self.rest:
                block = self.process.stdout.read1(1 << 16)
                assert block, "the browser has gone"
                self.rest += block
            text, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def run(self, script):
        """The value of a JavaScript expression, of a promise what comes of it."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script):
        """The first value of an expression that is true."""
        end = time.monotonic() + DEADLINE
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"in {DEADLINE} s never: {script}\n{self.run('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def fill(self, label, text):
        """Type into the field of a label, as a hand does: what was there is selected first."""
        named = f"l => l.innerText.trim().startsWith({json.dumps(label)})"
        fields = "[...document.querySelectorAll('textarea, input:not([type=range])')]"
        field = f"{fields}.find(i => [...i.labels].some({named}) || i.ariaLabel?.endsWith({json.dumps(label)}))"
        self.wait(f"!!{field}")
        self.run(f"(i => {{ i.focus(); i.select() }})({field})")
        self.ask("Input.insertText", text=text)
        self.run("document.activeElement.blur()")

    def press(self, text):
        """Click on the button that says this."""
        button = f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() == {json.dumps(text)})"
        self.wait(f"!!{button}")
        self.run(f"{button}.click()")

    def choose(self, text):
        """Click on the radio button, the box or the tab of this name."""
        label = f"[...document.querySelectorAll('label')].find(l => l.innerText.trim() == {json.dumps(text)})"
        self.wait(f"!!{label}")
        self.run(f"{label}.click()")

    def write(self, row, column, text):
        """Type into a cell of a table, both counted from 0, as a hand does: a double click, and Enter at the end."""
        cell = f'document.querySelector(\'[data-row="{row}"][data-col="{column}"]\')'
        self.wait(f"!!{cell}")
        self.run(f"{cell}.scrollIntoView({{block: 'center', inline: 'center'}})")
        x, y = self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({cell}.getBoundingClientRect())")
        for count in (1, 2) if text else (1,):
            for kind in ("mousePressed", "mouseReleased"):
                self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)
        if text:
            self.wait(f"{cell}.contains(document.activeElement) && !document.activeElement.select?.()")
            self.ask("Input.insertText", text=text)
            for kind in ("keyDown", "keyUp"):
                self.ask("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13)

    def send(self, label, path):
        """Put a file into the field of a label; what lay there is taken out."""
        field = "[...document.querySelectorAll('.block')]"
        field += f".find(b => b.checkVisibility() && b.innerText.trim().startsWith({json.dumps(label)}))"
        self.wait(f"!!{field}")
        self.run(f"{field}.querySelector('[aria-label*=lear], [aria-label*=emove]')?.click()")
        self.wait(f"!!{field}?.querySelector('input[type=file]')")
        found = self.ask("Runtime.evaluate", expression=f"{field}.querySelector('input[type=file]')")
        self.ask("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def fetched(self):
        """The addresses of all requests so far."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def close(self):
        self.ask("Browser.close")
        self.process.communicate(timeout=DEADLINE)


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None or os.name == "nt":
        pytest.skip("needs chromium, and a system with pipes as files")
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


@contextmanager
def served(run, *more):
    """The address of the page of a run, until the block ends: Ctrl-C, and no traceback."""
    pytest.importorskip("gradio")
    command = [sys.executable, "-m", "woodshed", "demo-page", str(run), "--port", "0", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())[0]
        finally:
            server.send_signal(signal.SIGINT)
            told = server.communicate(timeout=DEADLINE)[1]
        assert "Traceback" not in told and server.returncode in (0, 130)
