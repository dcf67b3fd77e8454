"""The page of a dataset of recordings: what holds for all, a table to look through and edit, and of the row that is
chosen its recording to hear and its lyrics to read through.

What a visitor changed goes into the file as it is by then, and all else stays: an annotation may be at work beside.
What they were shown is kept in their own browser, where it lasts as long as the page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from textwrap import shorten
from typing import Any

from ..audio.labels.dataset import INSTRUMENTAL, Dataset, Sample, load_dataset
from ..audio.labels.lyrics import clean
from ..audio.wave import BY_FFMPEG, READ
from ..errors import InputError
from ..page import clock, counted, spaced, tag
from .server import Page, link_to, notices

INTRO = (
    "Click into a cell to change it, or on a row to hear it and to read its lyrics; then press Save. "
    "What holds for all stands above the table. "
    "What you write stays when you annotate or scan again."
)
ABOUT_LYRICS = "With [Verse 1], [Chorus] and so on where you like. Empty: nobody sings, or nobody knows what."
NOBODY = '<p class="empty">Click on a row to hear it.</p>'
FIXED = {"No.": 70, "File": 180, "Length": 100, "Lyrics": 100}  # columns that only tell, and how wide they are
EDITED = {  # fields that can be written in the table, their headings, and how wide they are
    "labeled": ("Labelled", 120),
    "bpm": ("bpm", 65),
    "keyscale": ("Key", 100),
    "timesignature": ("Metre", 80),
    "language": ("Language", 110),
    "caption": ("Caption", 320),
    "genre": ("Genre", 130),
    "is_instrumental": ("Instrumental", 150),
    "custom_tag": ("Tag", 130),
}
TICKS = ("labeled", "is_instrumental")
WHOLE = ("custom_tag", "tag_position", "genre_ratio", "all_instrumental")  # fields that hold for all recordings
POSITIONS = [("Before it", "prepend"), ("After it", "append"), ("Instead of it", "replace")]
SHOWN = 60  # letters of a value in a notice
PICK = """(seen, table, chosen, text) => {
    const row = document.querySelector("[role=grid] [aria-selected=true]")?.dataset.row
    const place = Number(table.data[row]?.[0] || 0) - 1
    const same = {__type__: "update"}
    if (place === chosen || !seen.samples[place]) return [same, same, same]
    const lyrics = chosen === null ? seen.lyrics : {...seen.lyrics, [chosen]: text}
    const {filename, lyrics: before} = seen.samples[place]
    const shown = {label: `Lyrics of ${filename}`, value: lyrics[place] ?? before, visible: true}
    return [{...seen, lyrics}, place, {...same, ...shown}]
}"""  # in the browser, so that nothing can be written between two rows


def open_page(path: str | Path) -> Page:
    """The page of a dataset. Raises FileError for what is none."""
    path = Path(path)
    return Page(path.name, recordings(load_dataset(path)), partial(_build, path=path))


def recordings(dataset: Dataset) -> tuple[Path, ...]:
    """The recordings that are there. What has the name of no recording is never handed out."""
    paths = (dataset.path_of(sample).resolve() for sample in dataset.samples)
    return tuple(path for path in paths if path.suffix.lower() in READ + BY_FFMPEG and path.is_file())


# --- the table -------------------------------------------------------------------------------------------------


def rows(dataset: Dataset) -> list[list]:
    """The table: a row for each sample."""
    return [
        [number, sample.filename, clock(sample.duration), _told(sample), *(_cell(sample, name) for name in EDITED)]
        for number, sample in enumerate(dataset.samples, 1)
    ]


def _told(sample: Sample) -> str:
    """Whether there are lyrics; those that annotation heard are a draft until a person writes them."""
    return ("draft" if sample.is_noted("lyrics") else "yes") if sample.has_lyrics else "-"


def _cell(sample: Sample, name: str) -> str | bool:
    """A field as it is shown; lyrics that are none as an empty box."""
    value = getattr(sample, name)
    if name == "lyrics":
        return value.strip() if sample.has_lyrics else ""
    return value if name in TICKS else "" if value is None else str(value)


def shown(dataset: Dataset) -> dict[str, Any]:
    """What a visitor is shown of the samples and of all of them, and the lyrics that they have written since, by the
    place of a sample."""
    samples = [
        {"id": sample.id, "filename": sample.filename} | {name: _cell(sample, name) for name in (*EDITED, "lyrics")}
        for sample in dataset.samples
    ]
    return {"samples": samples, "whole": whole(dataset), "lyrics": {}}


def whole(dataset: Dataset) -> dict[str, Any]:
    """What holds for all of its recordings."""
    return {name: getattr(dataset.metadata, name) for name in WHOLE}


def changes(seen: dict[str, Any], table: Sequence[Sequence]) -> dict[int, dict[str, Any]]:
    """What differs in a table, in whatever order, and in the lyrics from what was shown: by the place of a sample, then
    by field. Raises InputError for a row that was added.
    """
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for number, *cells in table:
        if number not in range(1, len(seen["samples"]) + 1):
            raise InputError("a row was added; take it out: recordings are added by woodshed audio scan")
        for name, value in zip(EDITED, cells[len(FIXED) - 1 :], strict=True):
            value = value in (True, "true") if name in TICKS else str("" if value is None else value).strip()
            if value != seen["samples"][int(number) - 1][name]:
                found[int(number) - 1][name] = value
    for place, text in seen["lyrics"].items():
        if text.strip() != seen["samples"][int(place)]["lyrics"]:
            found[int(place)]["lyrics"] = clean(text).strip() or INSTRUMENTAL
    return dict(sorted(found.items()))


def save(path: Path, seen: dict[str, Any], table: Sequence[Sequence], **for_all: Any) -> tuple[Dataset, str]:
    """Write what differs in a table, and in fields that hold for all, from what was shown into the file; the dataset as
    it is then, and a line on it.

    Raises InputError, with the row, for a value that cannot be, or in whose place another person has written something
    meanwhile, which counts as shown then; nothing is written.
    """
    found, dataset = changes(seen, table), load_dataset(path)
    revised = {name: value for name, value in for_all.items() if value != seen["whole"][name]}
    there = {sample.id: sample for sample in dataset.samples}
    file = {sample["id"]: sample for sample in shown(dataset)["samples"]}
    _revise(dataset, revised, seen["whole"])
    for place, values in found.items():
        was = seen["samples"][place]
        try:
            if was["id"] not in there:
                raise InputError(f"it is no longer in {path.name}; copy what you wrote, and load the page again")
            _write(there[was["id"]], values, was, file[was["id"]])
        except InputError as error:
            raise InputError(f"row {place + 1}, {was['filename']}: {error}") from None
    if not (found or revised):
        return dataset, "There is nothing to save."
    dataset.save(path)
    told = [f"{counted(len(revised), 'change')} for all"] * bool(revised)
    told += [f"{counted(sum(map(len, found.values())), 'change')} to {counted(len(found), 'recording')}"] * bool(found)
    return dataset, f"Saved in {path.name}: {' and '.join(told)}."


def _revise(dataset: Dataset, values: dict[str, Any], was: dict[str, Any]) -> None:
    """Write what holds for all."""
    for name, value in values.items():
        _refuse_to_lose(name, getattr(dataset.metadata, name), value, was, whose="the dataset's")
    dataset.revise(values)


def _write(sample: Sample, values: dict[str, Any], was: dict[str, Any], now: dict[str, Any]) -> None:
    """Write values into a sample: what annotation noted meanwhile gives way to them, what a person wrote does not."""
    for name, value in values.items():
        noted = sample.is_noted(name)
        sample.write(name, value)
        if not noted:
            _refuse_to_lose(name, now[name], _cell(sample, name), was)
    if "caption" in values and "labeled" not in values:
        sample.labeled = sample.labeled or bool(sample.caption)
    if values.get("is_instrumental") and sample.has_lyrics:
        raise InputError("instrumental, but it has lyrics; empty them, or take the tick away")
    sample.is_instrumental = sample.is_instrumental and not sample.has_lyrics


def _refuse_to_lose(name: str, now: Any, value: Any, was: dict[str, Any], *, whose: str = "its") -> None:
    """An InputError, once, where a field in the file is neither as it was shown nor as it is to be."""
    if now not in (was[name], value):
        was[name] = now
        told = (
            f"{whose} {spaced(name)} has become {shorten(str(now), SHOWN, placeholder='...')!r} in the file meanwhile"
        )
        raise InputError(f"{told}; press Save again to put yours in its place")


# --- on the page -----------------------------------------------------------------------------------------------


def _build(gradio, blocks, *, path: Path) -> None:
    gradio.Markdown(f"# {path.name}\n{INTRO}")
    seen = gradio.JSON(visible=False)
    chosen, playing = (gradio.Number(visible=False, precision=0) for _ in range(2))  # rows, from 0
    for_all, table = _fields_for_all(gradio), _table(gradio)
    with gradio.Row():
        button = gradio.Button("Save", variant="primary", scale=0, min_width=160)
        status = gradio.HTML(elem_id="status", padding=False)
    player = gradio.HTML(NOBODY, elem_id="recording", padding=False)
    lyrics = gradio.Textbox(label="Lyrics", lines=12, max_lines=30, interactive=True, info=ABOUT_LYRICS, visible=False)

    def opened(dataset: Dataset, told: str = "") -> list:
        blocks.allowed_paths = [str(file) for file in recordings(dataset)]  # some may have come since
        closed = [None, None, NOBODY, gradio.update(value="", visible=False)]
        told = f'<p role="status">{escape(told)}</p>'
        return [shown(dataset), rows(dataset), *closed, told, *whole(dataset).values()]

    def load() -> list:
        with notices():
            return opened(load_dataset(path))
        return [gradio.skip()] * len(everything)

    def hear(seen: dict, place: int | None, before: int | None) -> list:
        if place in (None, before):
            return [gradio.skip()] * 2
        with notices():
            return [place, heard(path, seen["samples"][place]["id"])]
        return [gradio.skip()] * 2

    def press(seen: dict, values: list[list], place: int | None, text: str, *for_all) -> list:
        _keep(seen, place, text)
        with notices():
            return opened(*save(path, seen, values, **_filled_in(*for_all)))
        return [seen, *[gradio.skip()] * (len(everything) - 1)]

    everything = [seen, table, chosen, playing, player, lyrics, status, *for_all]
    quiet = dict(show_progress="hidden", api_visibility="private")
    blocks.load(load, None, everything, **quiet)
    picked = table.select(None, [seen, table, chosen, lyrics], [seen, chosen, lyrics], js=PICK, **quiet)
    picked.then(hear, [seen, chosen, playing], [playing, player], trigger_mode="always_last", **quiet)
    written = [table, lyrics, *for_all]
    hands_off = button.click(None, None, written, js=_in_the_browser(len(written), interactive=False), **quiet)
    saved = hands_off.then(press, [seen, table, chosen, lyrics, *for_all], everything, concurrency_limit=1, **quiet)
    saved.then(None, None, written, js=_in_the_browser(len(written), interactive=True), **quiet)


def _in_the_browser(count: int, *, interactive: bool) -> str:
    """JavaScript that gives so many fields to the visitor, or takes them away until the answer to Save has replaced
    what is there: what is written meanwhile would be lost. A cell that is open is done with first."""
    return f"""() => {{
        document.querySelector("[role=grid] textarea")?.blur();
        return Array({count}).fill({{__type__: "update", interactive: {"true" if interactive else "false"}}});
    }}"""


def _fields_for_all(gradio) -> list:
    """The fields of what holds for all, in the order of WHOLE."""
    with gradio.Row():
        return [
            gradio.Textbox(label="Tag of all", info="Stands in every prompt, and later calls the style.", max_lines=1),
            gradio.Dropdown(POSITIONS, label="Where it stands", info="As to the caption, which it may replace."),
            gradio.Number(label="By genre, %", info="So many are learned by genre instead of caption.", precision=0),
            gradio.Checkbox(label="All instrumental", info="Nobody sings in recordings without lyrics."),
        ]


def _filled_in(word: str, position: str, ratio: int | None, instrumental: bool) -> dict[str, Any]:
    """What was filled in there, as fields of the metadata."""
    return dict(zip(WHOLE, (word.strip(), position, ratio or 0, instrumental), strict=True))


def _table(gradio):
    """The table, without rows yet."""
    headings = FIXED | dict(EDITED.values())
    kinds = ["number", *["str"] * (len(FIXED) - 1), *("bool" if name in TICKS else "str" for name in EDITED)]
    return gradio.Dataframe(
        headers=list(headings),
        datatype=kinds,
        type="array",
        interactive=True,
        static_columns=list(range(len(FIXED))),
        column_widths=[f"{width}px" for width in headings.values()],
        wrap=True,
        max_height=600,
        pinned_columns=2,
        label="Recordings",
        show_search="search",
    )


def _keep(seen: dict[str, Any], place: int | None, text: str) -> None:
    """Keep what stands in the box of lyrics, for the row that it belongs to."""
    if place is not None:
        seen["lyrics"][str(place)] = text


def heard(path: Path, name: str) -> str:
    """A recording's name and player, as HTML; `name` is the id of its sample."""
    dataset = load_dataset(path)
    sample = next((sample for sample in dataset.samples if sample.id == name), None)
    if sample is None:
        return f"<p>It is no longer in {escape(path.name)}.</p>"
    recording, title = dataset.path_of(sample).resolve(), tag("h2", sample.filename)
    if recording not in recordings(dataset):
        return f"{title}<p>There is no recording at {escape(sample.audio_path)}.</p>"
    label = escape(f"Listen to {sample.filename}")
    return f'{title}<audio controls preload="metadata" src="{link_to(recording)}" aria-label="{label}"></audio>'
