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
from functools import partial
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEADLINE = 120  # seconds: as long as the slowest machine may take
STILL = """(async cell => {
    const frame = () => new Promise(requestAnimationFrame)
    const middle = () => (r => [r.x + r.width / 2, r.y + r.height / 2])(cell.getBoundingClientRect())
    const before = middle()
    await frame(), await frame()
    return `${before}` == `${middle()}` && cell.contains(document.elementFromPoint(...before)) && before
})(%s)"""  # the middle of an element that nothing moves or hides


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
        self._attach(target)

    def _attach(self, target):
        self.tab, self.session = target, self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.ask(f"{domain}.enable")

    def new_tab(self, url):
        """A further tab, which all that follows is about; a function that closes the one before."""
        before, self.events, self.session = self.tab, [], None
        self._attach(self.ask("Target.createTarget", url="about:blank")["targetId"])
        self.ask("Page.navigate", url=url)
        return partial(self.ask, "Target.closeTarget", targetId=before)

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
            if answer.get("sessionId") == self.session:
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

    def settle(self):
        """Wait until the page has an answer to all that it asked the server for."""
        end = time.monotonic() + DEADLINE
        while waiting := self._unanswered():
            assert time.monotonic() < end, f"in {DEADLINE} s no answer to: {waiting}"
            self.run("new Promise(requestAnimationFrame)")

    def _unanswered(self):
        """Events of Gradio and files on their way: what the page hears of an event ends when none is left."""
        self.run("new Promise(requestAnimationFrame)")  # what an action causes begins with the next frame
        waiting = {}
        for event in self.events:
            name, params = event["method"], event["params"]
            if name == "Page.frameNavigated":
                waiting.clear()
            elif name == "Network.requestWillBeSent" and re.search(
                r"/gradio_api/(queue|run|upload)", params["request"]["url"]
            ):
                waiting[params["requestId"]] = params["request"]["url"]
            elif name in ("Network.loadingFinished", "Network.loadingFailed"):
                waiting.pop(params["requestId"], None)
        return list(waiting.values())

    def fill(self, label, text):
        """Type into the field of a label, once the page waits for no answer."""
        self.settle()
        self.type(label, text)

    def type(self, label, text):
        """Type into the field of a label, as a hand does: what was there is selected first."""
        named = f"l => l.innerText.trim().startsWith({json.dumps(label)})"
        fields = "[...document.querySelectorAll('textarea, input:not([type=range])')]"
        field = f"{fields}.find(i => [...i.labels].some({named}) || i.ariaLabel?.endsWith({json.dumps(label)}))"
        self.wait(f"!!{field}")
        self.run(f"(i => {{ i.focus(); i.select() }})({field})")
        self.ask("Input.insertText", text=text)
        self.wait(f"{field}.value == {json.dumps(text)}")
        self.run("document.activeElement.blur()")

    def press(self, text, *, at_once=False):
        """Click on the button that says this; at once also while the page waits for an answer."""
        self._click("button", text, at_once=at_once)

    def hit(self, text):
        """Press Enter on the button that says this."""
        said = "e.innerText.trim().replace(/\\s+/g, ' ')"
        found = f"[...document.querySelectorAll('button')].find(e => {said} == {json.dumps(text)})"
        self.settle()
        self.wait(f"!!{found}")
        self.run(f"{found}.focus()")
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key="Enter", text="\r", windowsVirtualKeyCode=13)

    def choose(self, text):
        """Click on the radio button, the box or the tab of this name."""
        self._click("label", text)

    def pick(self, label, text):
        """Choose one of the names of a dropdown."""
        self.settle()
        field = f"[...document.querySelectorAll('input')].find(i => i.ariaLabel == {json.dumps(label)})"
        self.run(f"{field}.focus()")
        option = f"[...document.querySelectorAll('[role=option]')].find(o => o.ariaLabel == {json.dumps(text)})"
        x, y = self.wait(STILL % option)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.wait(f"{field}.value == {json.dumps(text)}")

    def _click(self, kind, text, *, at_once=False):
        found = f"[...document.querySelectorAll('{kind}')].find(e => e.innerText.trim() == {json.dumps(text)})"
        if not at_once:
            self.settle()
        self.wait(f"!!{found}")
        self.run(f"{found}.click()")

    def click(self, row, column, times=1, *, at_once=False):
        """Click on a cell of a table, both counted from 0, once it stands still."""
        if not at_once:
            self.settle()
        self.wait(f"!!{_cell(row, column)}")
        self.run(f"{_cell(row, column)}.scrollIntoView({{block: 'center', inline: 'center'}})")
        x, y = self.wait(STILL % _cell(row, column))
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def write(self, row, column, text, *, enter=True):
        """Type into a cell of a table as a hand does: a double click, and Enter at the end."""
        cell, field = _cell(row, column), f"{_cell(row, column)}.querySelector('textarea')"
        self.click(row, column, times=2)
        self.wait(f"{field} && {field} == document.activeElement")
        self.run(f"{field}.select()")
        self.ask("Input.insertText", text=text)
        self.wait(f"{field}.value == {json.dumps(text)}")
        if enter:
            for kind in ("keyDown", "keyUp"):
                self.ask("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13)
            self.wait(f"!{field} && {cell}.querySelector('span').innerText.trim() == {json.dumps(text)}")

    def send(self, label, path):
        """Put a file into the field of a label; what lay there is taken out."""
        field = "[...document.querySelectorAll('.block')]"
        field += f".find(b => b.checkVisibility() && b.innerText.trim().startsWith({json.dumps(label)}))"
        self.settle()
        self.wait(f"!!{field}")
        self.run(f"{field}.querySelector('[aria-label*=lear], [aria-label*=emove]')?.click()")
        self.wait(f"!!{field}?.querySelector('input[type=file]')")
        found = self.ask("Runtime.evaluate", expression=f"{field}.querySelector('input[type=file]')")
        self.ask("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def slow_down(self, seconds):
        """Let every answer of the server take longer."""
        free = dict(offline=False, downloadThroughput=-1, uploadThroughput=-1)
        self.ask("Network.emulateNetworkConditions", latency=1000 * seconds, **free)

    def fetched(self):
        """The addresses of all requests so far."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def close(self):
        self.ask("Browser.close")
        self.process.communicate(timeout=DEADLINE)


def _cell(row, column):
    return f'document.querySelector(\'[data-row="{row}"][data-col="{column}"]\')'


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
    with serving("-m", "woodshed", "demo-page", str(run), "--port", "0", *more) as address:
        yield address


@contextmanager
def serving(*python):
    """The address of the page that a program serves, until the block ends."""
    pytest.importorskip("gradio")
    with subprocess.Popen(
        [sys.executable, *python], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            yield re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())[0]
        finally:
            server.send_signal(signal.SIGINT)
            told = server.communicate(timeout=DEADLINE)[1]
        assert "Traceback" not in told and server.returncode in (0, 130), told
