"""The page of a run that writes music: chords, length, tempo and temperature in; takes to hear, see and download out,
best first. They lie where `woodshed generate` puts them, RUN/takes/NNN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

from ..files import free_folder, new_folder
from ..page import counted, percent
from ..symbolic.playing.generate import generate
from ..symbolic.playing.rank import open_critic, rank
from ..symbolic.playing.settings import MOST_BARS, ComposeSettings
from ..symbolic.playing.stage import DEFAULT_BARS
from ..symbolic.playing.takes import Take, save_takes
from ..symbolic.run import Run, open_run
from .server import MOST_TAKES, Page, card, seed_of, show

CHORDS = "Cmaj7 Am7 | Dm7 G7"
INTRO = "Write down chords and press Play: new music, to hear and for your DAW."
HARMONY = get_args(get_type_hints(ComposeSettings)["harmony"])
PLAYING, JUDGING = 0.85, 0.05  # shares of the time: writing notes, ranking; the rest is sound and pictures


def open_page(run: Run | str | Path) -> Page:
    """The page of a run or a base. Raises RunError for what is neither."""
    run = run if isinstance(run, Run) else open_run(run)
    folder = takes_folder(run)
    return Page(run.folder.name, folder, INTRO, partial(_form, run=run), lambda asked, told: play(run, asked, told))


def takes_folder(run: Run) -> Path:
    return (run.place / "takes").resolve()


# --- the form --------------------------------------------------------------------------------------------------


def _form(gradio, *, run: Run) -> dict:
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
    asked |= {"seed": seed_of(seed), "temperature": f"{cold:g}:{hot:g}"}
    asked |= {"chords": asked["chords"].strip() or None}
    return ComposeSettings(**{name: value for name, value in asked.items() if value is not None})


# --- playing ---------------------------------------------------------------------------------------------------


def play(run: Run, asked: dict, progress: Callable[..., None]) -> Iterator[str]:
    """Play what is asked, store and show it: the HTML of the takes each time that there is one more of them.

    `progress` is called with the share that is done and `desc`, what is being done.
    """
    settings, parent = settings_of(**asked), takes_folder(run)
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
            cards.append(take_card(number, take, ranked[number - 1][1], paths))
            yield show(cards, folder)


def in_order(run: Run, takes: Sequence[Take]) -> list[tuple[Take, str]]:
    """Takes with a line of reasons each, best first; as they were drawn, with none, where the run has no critic."""
    if open_critic(run) is None:
        return [(take, "") for take in takes]
    return [(ranked.take, ranked.reasons) for ranked in rank(run, takes)]


def take_card(number: int, take: Take, reasons: str, paths: Sequence[Path]) -> str:
    """A take with its player, its piano roll and its figures in words."""
    about = f"seed {take.seed}, temperature {take.temperature:g}"
    return card(number, about, [reasons, "; ".join(figures(take)), *take.remarks], paths, picture="Piano roll")


def figures(take: Take) -> list[str]:
    """The measures of a take in words."""
    found = take.measures
    words = [f"{counted(take.notes, 'note')} in {take.score.seconds(take.score.end):.0f} seconds"]
    inside, chance, again = (found[name] for name in ("chord_adherence", "rotated_adherence", "recurrence"))
    if not math.isnan(inside):
        beside = "" if math.isnan(chance) else f" ({percent(chance)} would be chance)"
        words.append(f"{percent(inside)} of the sound is in its chords{beside}")
    if not math.isnan(again):
        words.append(f"on average a bar is {percent(again)} like an earlier one")
    if take.originality:
        words.append(str(take.originality))
    return words
