"""A page that plays: a form on the left, or above on a phone, and takes to hear, see and download."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from threading import Event

from ..errors import InputError
from ..page import counted, tag
from ..progress import Progress, Reporter
from .server import Page, import_gradio, link_to, notices

MOST_TAKES = 16
Play = Callable[[dict, Reporter], Iterator[str]]


def takes_page(name: str, takes: Path, intro: str, *, form: Callable[..., dict], play: Play) -> Page:
    """`form(gradio)` makes the fields, by name; `play(asked, report)` yields the HTML of the takes, each time that
    there is one more, from what was filled in; `takes` is the folder they lie in."""
    return Page(name, (takes,), partial(_build, title=f"# {name}\n{intro}", form=form, play=play))


def _build(gradio, blocks, *, title: str, form: Callable[..., dict], play: Play) -> None:
    gradio.Markdown(title)
    with gradio.Row():
        with gradio.Column(scale=2, min_width=300):
            fields = form(gradio)
            button = gradio.Button("Play", variant="primary", size="lg")
            halt = gradio.Button("Stop", size="lg", visible=False)
        with gradio.Column(scale=5, min_width=300):
            takes = gradio.HTML('<p class="empty">Your takes will be here.</p>', elem_id="takes", padding=False)
    wishes: dict[str, Event] = {}  # of the pages that wait or play; what is set is to stop

    def begin(request):
        wishes[request.session_hash] = Event()
        return gradio.update(visible=False), gradio.update(visible=True)

    def press(values: dict, request, progress=gradio.Progress()):  # noqa: B008 (so Gradio finds it)
        asked = {name: values[field] for name, field in fields.items()}
        with notices(), stoppable(wishes[request.session_hash], progress) as report:
            yield from play(asked, report)
            return
        yield gradio.skip()

    def stop(request) -> None:
        wishes.get(request.session_hash, Event()).set()

    def end(request):
        wishes.pop(request.session_hash, None)
        return gradio.update(visible=True), gradio.update(visible=False)

    for handler in (begin, press, stop, end):
        handler.__annotations__["request"] = gradio.Request  # by which Gradio finds it
    quick = dict(queue=False, show_progress="hidden", api_visibility="private")
    begun = button.click(begin, None, [button, halt], **quick)
    played = begun.then(press, set(fields.values()), takes, concurrency_limit=1, api_visibility="private")
    played.then(end, None, [button, halt], **quick)
    halt.click(stop, None, None, **quick)


class Stopped(Exception):
    """A visitor wants no more takes."""


@contextmanager
def stoppable(wish: Event, progress: Callable[..., None]) -> Iterator[Reporter]:
    """Reports to a progress bar of Gradio's, until a wish is set: that ends the block with a notice."""

    def report(now: Progress) -> None:
        if wish.is_set():
            raise Stopped
        progress(now.share, desc=now.text.capitalize())

    try:
        yield report
    except Stopped:
        import_gradio().Info("Stopped. What was finished is kept.")


def seed_of(text: str, what: str = "seed") -> int | None:
    """The number that was written into a field; None where it was left empty."""
    text = text.strip()
    if text and not text.isdecimal():
        raise InputError(f"{what} {text!r}: write a whole number, or nothing for a new one")
    return int(text) if text else None


def show(cards: Sequence[str], folder: Path, *, ranked: bool = False) -> str:
    """Cards one under another, where their files lie, and whether the best comes first."""
    where = f"{counted(len(cards), 'take')} in {folder}{', best first' * ranked}"
    return "\n".join([f'<p class="where" role="status">{escape(where)}</p>', *cards])


def card(number: int, about: str, lines: Sequence[str], paths: Sequence[Path], *, picture: str) -> str:
    """A take as HTML: its player, its picture, what is said of it and its files, the first of which is the one to take
    away."""
    link = {path.suffix: link_to(path) for path in paths}
    picture = f"{picture} of take {number}"
    parts = [
        f'<article aria-label="Take {number}"><h2>Take {number}<small>{escape(about)}</small></h2>',
        *(tag("p", line) for line in lines if line),
        _player(number, link[".wav"]) if ".wav" in link else "",
        f'<div class="roll" tabindex="0" role="group" aria-label="{picture}">',
        f'<img src="{link[".png"]}" alt="{picture}: {escape("; ".join(lines))}"></div>',
        f'<div class="files">{"".join(_downloads(number, paths))}</div></article>',
    ]
    return "\n".join(parts)


def _player(number: int, link: str) -> str:
    return f'<audio controls preload="metadata" src="{link}" aria-label="Listen to take {number}"></audio>'


def _downloads(number: int, paths: Sequence[Path]) -> Iterator[str]:
    """Links to the files of a take. Of several .mid the first is the take, the others parts of it by themselves."""
    music, *alone = [path for path in paths if path.suffix == ".mid"] or [None]
    names = {music: "Download MIDI"} | {
        part: part.stem.removeprefix(f"{music.stem}-").capitalize() + " alone" for part in alone
    }
    words = {".wav": "Sound" if music else "Download sound", ".png": "Picture"}
    names |= {path: word for kind, word in words.items() for path in paths if path.suffix == kind}
    for path in filter(None, names):
        about = f'<span class="sr-only"> of take {number}</span>'
        yield f'<a href="{link_to(path)}" download>{escape(names[path])}{about}</a>'
