"""A page in the browser: what is on it is told by a module of its own (demo_page.py, gan_page.py, dataset_page.py);
here is what they share.

    serve(lambda: Page("my-style", files, build), port=7860)         until Ctrl-C

It listens on this machine alone unless a name and a password are set, and it loads nothing from elsewhere: no fonts, no
analytics. Only what the page names can be fetched from it, by itself alone (gate.py), and what visitors sent is gone
after a day, or when it ends.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..errors import InputError, MissingExtra, WoodshedError, first_line
from .gate import OURS, Gate

NOTICE = 30  # seconds that it stays
SWEEP, KEPT = 3600, 86400  # seconds between looks for what visitors sent, and that it is kept
LARGEST = "512mb"  # of a file that Gradio takes from a visitor: more than any song, less than what fills a disk
READABLE = {  # contrasts of 4.5 and more, which Gradio's own greys and buttons do not reach
    f"{name}{dark}": shade
    for names, shades in (
        (("body_text_color_subdued", "block_info_text_color"), ("*neutral_600", "*neutral_300")),
        (("input_placeholder_color",), ("*neutral_500", "*neutral_400")),
        (("button_primary_background_fill",), ("*primary_700", "*primary_700")),
        (("button_primary_background_fill_hover",), ("*primary_800", "*primary_800")),
    )
    for name in names
    for dark, shade in zip(("", "_dark"), shades, strict=True)
}
CSS = """
.gradio-container { width: 100%; max-width: 76rem !important; margin: auto; }
.gradio-container main, .gradio-container .wrap { min-width: 0; width: 100%; }
#takes { min-height: 12rem; min-width: 0; }
#takes .html-container { padding: 0; }
#takes .empty, #takes .where { color: var(--body-text-color-subdued); }
#takes .empty { padding: 4rem 1rem; text-align: center; border: 1px dashed var(--border-color-primary);
  border-radius: var(--radius-lg); }
#takes .where { margin: 0 0 .75rem; overflow-wrap: anywhere; }
#takes article { padding: 1rem; margin-bottom: 1rem; border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-lg); background: var(--block-background-fill); }
#takes h2 { margin: 0 0 .25rem; font-size: 1.15rem; }
#takes h2 small { font-weight: normal; color: var(--body-text-color-subdued); margin-left: .5rem; }
#takes p { margin: .25rem 0 .5rem; }
#takes audio { width: 100%; height: 2.75rem; margin: .25rem 0; color-scheme: light; }
.dark #takes audio { color-scheme: dark; }
#takes .roll { overflow-x: auto; background: white; border-radius: var(--radius-md); margin: .5rem 0; }
#takes .roll img { display: block; width: 100%; min-width: 40rem; margin: 0; }
#takes .files a, #takes .keep { display: inline-block; padding: .5rem .9rem; margin: .25rem .4rem 0 0;
  text-decoration: none; border-radius: var(--radius-md); color: var(--button-secondary-text-color);
  background: var(--button-secondary-background-fill); }
#takes .files a:first-child { color: var(--button-primary-text-color);
  background: var(--button-primary-background-fill); }
#takes .keep { cursor: pointer; font: inherit; }
#takes .keep[aria-pressed] { cursor: default; outline: 2px solid var(--color-accent); }
#kept pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .5rem .75rem; border-radius: var(--radius-md);
  background: var(--background-fill-secondary); }
#recording audio { width: 100%; height: 2.75rem; margin: .25rem 0; color-scheme: light; }
.dark #recording audio { color-scheme: dark; }
#takes :focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
"""


@dataclass(frozen=True)
class Page:
    """`build(gradio, blocks)` fills Gradio's Blocks; only `files`, or what lies in a folder of them, can be fetched.
    `close` ends what is still being done for visitors."""

    name: str
    files: tuple[Path, ...]
    build: Callable[..., None]
    close: Callable[[], None] = lambda: None


# --- the door --------------------------------------------------------------------------------------------------


def serve(open_page: Callable[[], Page], *, port: int = 7860, host: str = "127.0.0.1", auth: str | None = None) -> None:
    """Serve a page until Ctrl-C; it is opened when nothing speaks against that.

    `auth` is "user:password", and only with one may `host` be another than this machine's own.

    Raises InputError for a port that is taken or a host without a password, MissingExtra without Gradio.
    """
    account = parse_auth(auth)
    if account is None and host not in OURS:
        raise InputError(f"--host {host} opens the page to others; set a name and a password: --auth user:password")
    page = open_page()
    with listen(host, port) as listening:
        server = make_server(page, account)
        place = f"[{host}]" if ":" in host else host
        address = f"http://{place}:{listening.getsockname()[1]}"
        print(f"{page.name} is at {address} (Ctrl-C ends it)", flush=True)
        try:
            server.run(sockets=[listening])
        finally:
            page.close()


def parse_auth(text: str | None) -> tuple[str, str] | None:
    """ "user:password" as a pair."""
    if text is None:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise InputError("--auth: write a name and a password with a colon between them, such as anna:a-long-password")
    return user, password


def listen(host: str, port: int) -> socket.socket:
    """A socket on a host's port, or an InputError where that is taken, or one of them is none."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: choose 1024 to 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise InputError(f"--port {port} on {host}: {reason}; end what uses it, or choose another --port") from None
        raise InputError(f"--host {host}: {reason}; give an address of this machine") from None


def make_server(page: Page, account: tuple[str, str] | None = None):
    """The page as a uvicorn Server."""
    gradio = import_gradio()
    import uvicorn
    from fastapi import FastAPI

    app = gradio.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        make_blocks(page),
        path="/",
        auth=account,
        allowed_paths=[str(path) for path in page.files],
        max_file_size=LARGEST,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        theme=gradio.themes.Default(primary_hue="teal").set(**READABLE),
        css=CSS,
    )
    app.add_middleware(Gate, local=account is None)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return server


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's tells more than that a page was still open somewhere at Ctrl-C."""
    cut_off = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and "graceful shutdown exceeded" not in record.getMessage()


def import_gradio():
    """Gradio, with its analytics off; a MissingExtra where it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise MissingExtra("gradio", "studio") from None
    return gradio


# --- the page --------------------------------------------------------------------------------------------------


def make_blocks(page: Page):
    """The page as Gradio Blocks."""
    gradio = import_gradio()
    title = f"Woodshed: {page.name}"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(SWEEP, KEPT)) as blocks:
        page.build(gradio, blocks)
    return blocks


@contextmanager
def notices(fields: Mapping[str, object] | None = None) -> Iterator[None]:
    """Whatever goes wrong is a notice on the page, of one line, in which the flags that are `fields` have their labels.
    What is no error of the visitor's has its traceback in the terminal."""
    try:
        yield
    except WoodshedError as error:
        _warn(labelled(str(error), fields or {}))
    except OSError as error:  # a path that the system refuses: no permission, a disk that is full
        _warn(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        traceback.print_exc()
        _warn(f"A mistake in Woodshed, not of yours: {first_line(error)} (more of it is in the terminal)")


def _warn(text: str) -> None:
    gradio = import_gradio()
    uploads = rf"{re.escape(gradio.utils.get_upload_folder())}[/\\]\w+[/\\]"  # nobody knows a file by this folder
    gradio.Warning(escape(re.sub(uploads, "", text)), duration=NOTICE)


def labelled(text: str, fields: Mapping[str, object]) -> str:
    """A message for the command line as it is for a page: `--bpm` is the label of the field bpm."""
    for name, field in fields.items():
        flag = re.escape(name.replace("_", "-"))
        text = re.sub(rf"--{flag}(?![\w-])", lambda _, label=field.label: label, text)
    return text.removeprefix("--")


def link_to(path: Path) -> str:
    """Where the page has a file."""
    return f"gradio_api/file={quote(str(path))}"
