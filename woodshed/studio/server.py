"""A page in the browser that plays: what any model is asked and gives is told by a module of its own (demo_page.py,
gan_page.py); here is what they share.

    serve(Page("my-style", takes, intro, form, play), port=7860)         until Ctrl-C

It listens on this machine alone unless a name and a password are set, and it loads nothing from elsewhere: no fonts, no
analytics. Only takes can be fetched from it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..errors import InputError, MissingExtra, WoodshedError
from ..page import counted, tag

MOST_TAKES = 16
NOTICE = 30  # seconds that it stays
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
#takes .files a { display: inline-block; padding: .5rem .9rem; margin: .25rem .4rem 0 0; text-decoration: none;
  border-radius: var(--radius-md); color: var(--button-secondary-text-color);
  background: var(--button-secondary-background-fill); }
#takes .files a:first-child { color: var(--button-primary-text-color);
  background: var(--button-primary-background-fill); }
#takes :focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
"""


@dataclass(frozen=True)
class Page:
    """What is shown of a run. `form(gradio)` makes the fields, by name; `play(asked, progress)` yields the HTML of the
    takes, each time that there is one more, from what was filled in; `takes` is the folder they lie in."""

    name: str
    takes: Path
    intro: str
    form: Callable[..., dict]
    play: Callable[[dict, Callable[..., None]], Iterator[str]]


# --- the door --------------------------------------------------------------------------------------------------


def serve(open_page: Callable[[], Page], *, port: int = 7860, host: str = "127.0.0.1", auth: str | None = None) -> None:
    """Serve a page until Ctrl-C; it is opened when nothing speaks against that.

    `auth` is "user:password", and only with one may `host` be another than this machine's own.

    Raises InputError for a port that is taken or a host without a password, MissingExtra without Gradio.
    """
    account = parse_auth(auth)
    if account is None and host not in ("127.0.0.1", "localhost", "::1"):
        raise InputError(f"--host {host} opens the page to others; set a name and a password: --auth user:password")
    page = open_page()
    with listen(host, port) as listening:
        server = make_server(page, account)
        place = f"[{host}]" if ":" in host else host
        address = f"http://{place}:{listening.getsockname()[1]}"
        print(f"{page.name} plays at {address} (Ctrl-C ends it)", flush=True)
        server.run(sockets=[listening])


def parse_auth(text: str | None) -> tuple[str, str] | None:
    """ "user:password" as a pair."""
    if text is None:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise InputError("--auth: write a name and a password with a colon between them, such as anna:a-long-password")
    return user, password


def listen(host: str, port: int) -> socket.socket:
    """A socket on a host's port, or an InputError where that is taken or is none."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: choose 1024 to 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise InputError(f"--port {port} on {host}: {reason}; end what uses it, or choose another --port") from None


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
        allowed_paths=[str(page.takes)],
        max_file_size=LARGEST,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        theme=gradio.themes.Default(primary_hue="teal").set(**READABLE),
        css=CSS,
    )
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))


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
    """The page as Gradio Blocks: a form on the left, or above on a phone, and the takes."""
    gradio = import_gradio()
    with gradio.Blocks(title=f"Woodshed: {page.name}", analytics_enabled=False) as blocks:
        gradio.Markdown(f"# {page.name}\n{page.intro}")
        with gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                form = page.form(gradio)
                button = gradio.Button("Play", variant="primary", size="lg")
            with gradio.Column(scale=5, min_width=300):
                takes = gradio.HTML('<p class="empty">Your takes will be here.</p>', elem_id="takes", padding=False)

        def press(values: dict, progress=gradio.Progress()):  # noqa: B008 (so Gradio finds it)
            asked = {name: values[field] for name, field in form.items()}
            try:
                yield from page.play(asked, progress)
            except WoodshedError as error:
                gradio.Warning(escape(str(error).removeprefix("--")), duration=NOTICE)
                yield gradio.skip()

        button.click(press, set(form.values()), takes, concurrency_limit=1, api_visibility="private")
    return blocks


def seed_of(text: str, what: str = "seed") -> int | None:
    """The number that was written into a field; None where it was left empty."""
    text = text.strip()
    if text and not text.isdecimal():
        raise InputError(f"{what} {text!r}: write a whole number, or nothing for a new one")
    return int(text) if text else None


def show(cards: Sequence[str], folder: Path) -> str:
    """Cards one under another, and where their files lie."""
    where = f"{counted(len(cards), 'take')} in {folder}"
    return "\n".join([f'<p class="where" role="status">{escape(where)}</p>', *cards])


def card(number: int, about: str, lines: Sequence[str], paths: Sequence[Path], *, picture: str) -> str:
    """A take as HTML: its player, its picture, what is said of it and its files, the first of which is the one to take
    away."""
    link = {path.suffix: f"gradio_api/file={quote(str(path))}" for path in paths}
    names = {".mid": "Download MIDI", ".wav": "Sound" if ".mid" in link else "Download sound", ".png": "Picture"}
    files = [
        f'<a href="{link[kind]}" download>{name}<span class="sr-only"> of take {number}</span></a>'
        for kind, name in names.items()
        if kind in link
    ]
    picture = f"{picture} of take {number}"
    parts = [
        f'<article aria-label="Take {number}"><h2>Take {number}<small>{escape(about)}</small></h2>',
        *(tag("p", line) for line in lines if line),
        f'<audio controls preload="metadata" src="{link[".wav"]}" aria-label="Listen to take {number}"></audio>',
        f'<div class="roll" tabindex="0" role="group" aria-label="{picture}">',
        f'<img src="{link[".png"]}" alt="{picture}: {escape("; ".join(lines))}"></div>',
        f'<div class="files">{"".join(files)}</div></article>',
    ]
    return "\n".join(parts)
