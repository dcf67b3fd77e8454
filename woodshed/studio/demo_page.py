"""A page that plays: chords, length, tempo and temperature in; takes to hear, see and download out, best first.

    serve("my-style", port=7860)         until Ctrl-C

It listens on this machine alone unless a name and a password are set, and it loads nothing from elsewhere: no fonts, no
analytics. Takes lie where `woodshed generate` puts them, RUN/takes/NNN.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import get_args, get_type_hints
from urllib.parse import quote

from ..errors import InputError, MissingExtra, WoodshedError
from ..files import free_folder, new_folder
from ..page import counted, percent, tag
from ..symbolic.playing.generate import generate
from ..symbolic.playing.rank import open_critic, rank
from ..symbolic.playing.settings import MOST_BARS, ComposeSettings
from ..symbolic.playing.stage import DEFAULT_BARS
from ..symbolic.playing.takes import Take, save_takes
from ..symbolic.run import Run, open_run

CHORDS = "Cmaj7 Am7 | Dm7 G7"
MOST_TAKES = 16
HARMONY = get_args(get_type_hints(ComposeSettings)["harmony"])
NOTICE = 30  # seconds that it stays
PLAYING, JUDGING = 0.85, 0.05  # shares of the time: writing notes, ranking; the rest is sound and pictures
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


# --- the door --------------------------------------------------------------------------------------------------


def serve(run: Run | str | Path, *, port: int = 7860, host: str = "127.0.0.1", auth: str | None = None) -> None:
    """Serve the page of a run until Ctrl-C.

    `auth` is "user:password", and only with one may `host` be another than this machine's own.

    Raises InputError for a port that is taken or a host without a password, RunError for what is no run, MissingExtra
    without Gradio.
    """
    account = parse_auth(auth)
    if account is None and host not in ("127.0.0.1", "localhost", "::1"):
        raise InputError(f"--host {host} opens the page to others; set a name and a password: --auth user:password")
    run = run if isinstance(run, Run) else open_run(run)
    with listen(host, port) as listening:
        server = make_server(run, account)
        place = f"[{host}]" if ":" in host else host
        address = f"http://{place}:{listening.getsockname()[1]}"
        print(f"{run.folder.name} plays at {address} (Ctrl-C ends it)", flush=True)
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


def make_server(run: Run, account: tuple[str, str] | None = None):
    """The page as a uvicorn Server; only the run's takes can be fetched from it."""
    gradio = import_gradio()
    import uvicorn
    from fastapi import FastAPI

    app = gradio.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        make_page(run),
        path="/",
        auth=account,
        allowed_paths=[str(takes_folder(run))],
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


def takes_folder(run: Run) -> Path:
    return (run.place / "takes").resolve()


# --- the page --------------------------------------------------------------------------------------------------


def make_page(run: Run):
    """The page as Gradio Blocks: a form on the left, or above on a phone, and the takes."""
    gradio = import_gradio()
    with gradio.Blocks(title=f"Woodshed: {run.folder.name}", analytics_enabled=False) as page:
        gradio.Markdown(f"# {run.folder.name}\nWrite down chords and press Play: new music, to hear and for your DAW.")
        with gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                form = _form(gradio, run)
                button = gradio.Button("Play", variant="primary", size="lg")
            with gradio.Column(scale=5, min_width=300):
                takes = gradio.HTML('<p class="empty">Your takes will be here.</p>', elem_id="takes", padding=False)

        def press(values: dict, progress=gradio.Progress()):  # noqa: B008 (so Gradio finds it)
            asked = {name: values[field] for name, field in form.items()}
            try:
                yield from play(run, settings_of(**asked), progress)
            except WoodshedError as error:
                gradio.Warning(escape(str(error).removeprefix("--")), duration=NOTICE)
                yield gradio.skip()

        button.click(press, set(form.values()), takes, concurrency_limit=1, api_visibility="private")
    return page


def _form(gradio, run: Run) -> dict:
    """What can be asked, by the names that settings_of takes."""
    music = run.facts.get("music", {})
    usual = ComposeSettings()
    cold, hot = usual.temperature.split(":")
    knows = music.get("chords", run.tokenizer.knows_chords)
    heat = dict(minimum=0.5, maximum=1.5, step=0.05)
    form = {
        "chords": gradio.Textbox(
            CHORDS if knows else "",
            label="Chords",
            lines=2,
            info="A | ends a bar; without any, one chord a bar. They are repeated to the length. Empty: its own.",
        )
    }
    with gradio.Row():
        form["bars"] = gradio.Number(
            DEFAULT_BARS, label="Bars", precision=0, minimum=1, maximum=MOST_BARS, min_width=120
        )
        form["bpm"] = gradio.Number(music.get("bpm", 120), label="Tempo (bpm)", minimum=10, maximum=500, min_width=120)
    form["ending"] = gradio.Checkbox(usual.ending, label="Ending", info="Come to a close in the last bar.")
    form["harmony"] = gradio.Radio(
        list(HARMONY),
        value=usual.harmony,
        label="Harmony",
        info="How closely the notes keep to your chords.",
        visible=knows,
    )
    form["takes"] = gradio.Slider(1, MOST_TAKES, usual.takes, step=1, label="Takes")
    form["cold"] = gradio.Slider(value=float(cold), label="Temperature of the first take", info="Low is safe.", **heat)
    form["hot"] = gradio.Slider(value=float(hot), label="Temperature of the last take", info="High is wild.", **heat)
    form["seed"] = gradio.Textbox(
        label="Seed", placeholder="a new one each time", info="The same number plays the same again."
    )
    return form


def settings_of(cold: float, hot: float, seed: str, **asked) -> ComposeSettings:
    """What was filled in, as settings; what was left empty is left to the run."""
    seed = seed.strip()
    if seed and not seed.isdecimal():
        raise InputError(f"seed {seed!r}: write a whole number, or nothing for a new one")
    asked |= {"seed": int(seed) if seed else None, "temperature": f"{cold:g}:{hot:g}"}
    asked |= {"chords": asked["chords"].strip() or None}
    return ComposeSettings(**{name: value for name, value in asked.items() if value is not None})


# --- playing ---------------------------------------------------------------------------------------------------


def play(run: Run, settings: ComposeSettings, progress: Callable[..., None]) -> Iterator[str]:
    """Play, store and show: the HTML of the takes each time that there is one more of them.

    `progress` is called with the share that is done and `desc`, what is being done.
    """
    parent = takes_folder(run)
    with new_folder(parent):
        progress(0, desc="Getting ready")
        takes = generate(run, settings, progress=lambda share: progress(PLAYING * share, desc="Playing"))
        progress(PLAYING, desc="Listening to them")
        ranked = in_order(run, takes)
        folder = free_folder(parent)
        done = PLAYING + JUDGING
        cards = []
        for number, (take, paths) in enumerate(save_takes([take for take, _ in ranked], folder), 1):
            progress(done + (1 - done) * number / len(takes), desc="Sound and pictures")
            cards.append(card(number, take, ranked[number - 1][1], paths))
            yield show(cards, folder)


def in_order(run: Run, takes: Sequence[Take]) -> list[tuple[Take, str]]:
    """Takes with a line of reasons each, best first; as they were drawn, with none, where the run has no critic."""
    if open_critic(run) is None:
        return [(take, "") for take in takes]
    return [(ranked.take, ranked.reasons) for ranked in rank(run, takes)]


def show(cards: Sequence[str], folder: Path) -> str:
    """Cards one under another, and where their files lie."""
    where = f"{counted(len(cards), 'take')} in {folder}"
    return "\n".join([f'<p class="where" role="status">{escape(where)}</p>', *cards])


def card(number: int, take: Take, reasons: str, paths: Sequence[Path]) -> str:
    """A take as HTML: its player, piano roll, figures in words and files."""
    link = {path.suffix: f"gradio_api/file={quote(str(path))}" for path in paths}
    about = f"seed {take.seed}, temperature {take.temperature:g}"
    files = [
        f'<a href="{link[kind]}" download>{name}<span class="sr-only"> of take {number}</span></a>'
        for kind, name in ((".mid", "Download MIDI"), (".wav", "Sound"), (".png", "Picture"))
    ]
    lines = [
        f'<article aria-label="Take {number}"><h2>Take {number}<small>{about}</small></h2>',
        *(tag("p", line) for line in (reasons, "; ".join(figures(take)), *take.remarks) if line),
        f'<audio controls preload="metadata" src="{link[".wav"]}" aria-label="Listen to take {number}"></audio>',
        f'<div class="roll" tabindex="0" role="group" aria-label="Piano roll of take {number}">',
        f'<img src="{link[".png"]}" alt="Piano roll of take {number}: {escape("; ".join(figures(take)))}"></div>',
        f'<div class="files">{"".join(files)}</div></article>',
    ]
    return "\n".join(lines)


def figures(take: Take) -> list[str]:
    """The measures of a take in words."""
    found = take.measures
    words = [f"{counted(take.notes, 'note')} in {take.score.seconds(take.score.end):.0f} seconds"]
    inside, chance, again = (found[name] for name in ("chord_adherence", "rotated_adherence", "recurrence"))
    if not math.isnan(inside):
        words.append(f"{percent(inside)} of the sound is in its chords ({percent(chance)} would be chance)")
    if not math.isnan(again):
        words.append(f"on average a bar is {percent(again)} like an earlier one")
    if take.originality:
        words.append(str(take.originality))
    return words
