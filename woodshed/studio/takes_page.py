"""A page that plays: a form on the left, or above on a phone, and takes to hear, see and download."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path

from ..errors import InputError
from ..page import counted, tag
from ..progress import Progress, Reporter
from .keep_button import IN_THE_BROWSER, TELL, Keeper, keep_button
from .server import Page, import_gradio, link_to, notices
from .turns import Stopped, Turns

MOST_TAKES = 16
MOST_VISITORS = 20  # who wait at once: each of them has a thread, of which Gradio has 40
HELD = "() => { window.held = Boolean(document.activeElement?.closest('#play, #stop')) }"
FOLLOW = """() => {
    const look = (frames) => {
        const next = document.getElementById("%s")
        if (next) next.focus({preventScroll: true})
        else if (frames) requestAnimationFrame(() => look(frames - 1))
    }
    if (window.held && document.activeElement === document.body) look(60)
}"""  # the focus goes to the button that takes the place of the one that had it
Play = Callable[[dict, Reporter], Iterator[str]]


def takes_page(
    name: str,
    takes: Sequence[Path],
    intro: str,
    *,
    form: Callable[..., dict],
    play: Play,
    keeper: Keeper | None = None,
) -> Page:
    """`form(gradio)` makes the fields, by name; `play(asked, report)` yields the HTML of the takes, each time that
    there is one more, from what was filled in; `takes` are the folders they lie in, `keeper` keeps them."""
    turns = Turns()
    build = partial(_build, title=f"# {name}\n{intro}", form=form, play=play, keeper=keeper, turns=turns)
    return Page(name, tuple(takes), build, close=turns.close)


def _build(
    gradio, blocks, *, title: str, form: Callable[..., dict], play: Play, keeper: Keeper | None, turns: Turns
) -> None:
    gradio.Markdown(title)
    with gradio.Row():
        with gradio.Column(scale=2, min_width=300):
            fields = form(gradio)
            button = gradio.Button("Play", variant="primary", size="lg", elem_id="play")
            halt = gradio.Button("Stop", size="lg", visible=False, elem_id="stop")
        with gradio.Column(scale=5, min_width=300):
            how = dict(elem_id="takes", padding=False, js_on_load=IN_THE_BROWSER)
            takes = gradio.HTML('<p class="empty">Your takes will be here.</p>', **how)
            if keeper:
                _keeping(gradio, blocks, takes, keeper)

    def begin(request):
        turns.begin(request.session_hash)
        return gradio.update(visible=False), gradio.update(value="Stop", visible=True)

    def press(values: dict, request, progress=gradio.Progress()):  # noqa: B008 (so Gradio finds it)
        asked = {name: values[field] for name, field in fields.items()}
        with notices(fields), stoppable(), turns.turn(request.session_hash, _shown(progress)) as report:
            yield from play(asked, report)
            return
        yield gradio.skip()

    def stop(request):
        turns.stop(request.session_hash)
        return "Stopping..."

    def leave(request) -> None:
        turns.stop(request.session_hash)

    def end():
        return gradio.update(visible=True), gradio.update(visible=False)

    for handler in (begin, press, stop, leave):
        handler.__annotations__["request"] = gradio.Request  # by which Gradio finds it
    quick = dict(queue=False, show_progress="hidden", api_visibility="private")
    begun = button.click(begin, None, [button, halt], js=HELD, **quick)
    played = begun.then(press, set(fields.values()), takes, concurrency_limit=MOST_VISITORS, api_visibility="private")
    ended = played.then(end, None, [button, halt], js=HELD, **quick)
    begun.then(None, None, None, js=FOLLOW % "stop")
    ended.then(None, None, None, js=FOLLOW % "play")
    halt.click(stop, None, halt, **quick)
    blocks.unload(leave)


def _shown(progress: Callable[..., None]) -> Reporter:
    """Reports to a progress bar of Gradio's."""

    def report(now: Progress) -> None:
        progress(now.share, desc=now.text.capitalize())

    return report


def _keeping(gradio, blocks, takes, keeper: Keeper) -> None:
    """What is told of kept takes, below the takes, and what their buttons do."""
    told, last = gradio.HTML(elem_id="kept", padding=False), gradio.Textbox(visible=False)

    def press(event) -> tuple:
        take = str(event._data.get("take", ""))
        with notices():
            return keeper.keep(take), take
        return gradio.skip(), ""

    def load() -> str:
        with notices():
            return keeper.told()
        return ""

    press.__annotations__["event"] = gradio.EventData  # by which Gradio finds it
    quiet = dict(show_progress="hidden", api_visibility="private")
    pressed = takes.click(press, None, [told, last], trigger_mode="multiple", **quiet)
    pressed.then(None, last, None, js=TELL, **quiet)
    blocks.load(load, None, told, **quiet)


@contextmanager
def stoppable() -> Iterator[None]:
    """Who has stopped sees a notice."""
    try:
        yield
    except Stopped:
        import_gradio().Info("Stopped. What was finished is kept.")


def whole_number(name: str, text: str) -> int | None:
    """The number that was written into a field of text (Gradio's own of numbers cannot be empty: it begins with 0);
    None where it was left empty."""
    text = text.strip()
    if text and not text.isdecimal():
        raise InputError(f"--{name} {text!r}: write a whole number, or nothing")
    return int(text) if text else None


def show(cards: Sequence[str], folder: Path, above: Sequence[str] = (), *, ranked: bool = False) -> str:
    """Cards one under another; above them where their files lie, whether the best comes first, and lines on all."""
    where = f"{counted(len(cards), 'take')} in {folder}{', best first' * ranked}"
    lines = [f'<p class="where" role="status">{escape(where)}</p>', *(tag("p", line, "where") for line in above)]
    return "\n".join([*lines, *cards])


def card(
    number: int, about: str, lines: Sequence[str], paths: Sequence[Path], *, picture: str, can_be_kept: bool = False
) -> str:
    """A take as HTML: its player, its picture, what is said of it and its files, the first of which is the one to take
    away, and to keep."""
    link = {path.suffix: link_to(path) for path in paths}
    picture = f"{picture} of take {number}"
    parts = [
        f'<article aria-label="Take {number}"><h2>Take {number} <small>{escape(about)}</small></h2>',
        *(tag("p", line) for line in lines if line),
        _player(number, link[".wav"]) if ".wav" in link else "",
        f'<div class="roll" tabindex="0" role="group" aria-label="{picture}">',
        f'<img src="{link[".png"]}" alt="{picture}: {escape("; ".join(lines))}"></div>',
        f'<div class="files">{"".join(_downloads(number, paths))}{keep_button(number, paths[0]) * can_be_kept}</div>',
        "</article>",
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
