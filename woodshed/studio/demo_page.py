"""The page of a run that writes music: chords, length, tempo and temperature in, or a MIDI file and what is to be done
with it; takes to hear, see and download out, best first. They lie where `woodshed generate` puts them, RUN/takes/NNN,
and the files they were made from in RUN/prompts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np

from ..errors import InputError
from ..files import new_folder, numbered_folder, quoted, write_file
from ..jobs import find_device
from ..page import counted, percent
from ..progress import Progress, Reporter, part
from ..symbolic.data.corpus import find_corpus
from ..symbolic.music.midi import read_midi
from ..symbolic.music.score import PARTS
from ..symbolic.music.soundfont import check_soundfont
from ..symbolic.playing.critic import open_critic, unlearned
from ..symbolic.playing.generate import generate
from ..symbolic.playing.rank import rank
from ..symbolic.playing.settings import GenerateSettings, read_span
from ..symbolic.playing.stage import DEFAULT_BARS
from ..symbolic.playing.takes import Take, save_takes
from ..symbolic.run import Run, open_run
from .keep_button import Keeper
from .server import Page, notices
from .takes_page import MOST_TAKES, card, show, takes_page, whole_number

CHORDS = "Cmaj7 Am7 | Dm7 G7"
INTRO = "Write down chords, or choose a MIDI file, and press Play: music to hear and for your DAW."
HARMONY = get_args(get_type_hints(GenerateSettings)["harmony"])
PLAYING, JUDGING = 0.85, 0.05  # shares of the time: writing notes, ranking; the rest is sound and pictures
NEW, EXTEND, FILL, ACCOMPANY = "New music", "Go on from a file", "Write bars of a file anew", "Accompany a melody"
JUDGED = "Judged beside real piano music, by chords, bass, scales, returning bars and rests."
FIELDS = {  # what is asked for each, besides what is always asked
    NEW: ("bars", "key", "bpm", "metre", "form", "ending", "parts"),
    EXTEND: ("prompt", "bars", "key", "form", "ending", "keep_grid"),
    FILL: ("prompt", "region", "seconds", "parts", "keep_grid"),
    ACCOMPANY: ("prompt", "melody", "keep_grid"),
}
ALWAYS = ("chords", "harmony", "takes", "best")
ABOUT_BEST = "The others are thrown away. For a run of yours this takes minutes more at first."
AUTO = "auto"  # the melody is the track that sounds like it


def open_page(*runs: Run | str | Path, name: str = "", device: str = "auto") -> Page:
    """The page of a run or a base, or of several to choose from, which play on a device. Raises RunError for what is
    neither, InputError for a device that is not here."""
    models = {model.folder.absolute().name: model for model in map(open_run, runs)}
    find_device(device, apple=True)
    name, folders = name or next(iter(models)), {takes_folder(run): run for run in models.values()}
    form, playing = partial(_form, models=models), partial(_play_chosen, models, device=device)
    return takes_page(name, list(folders), INTRO, form=form, play=playing, keeper=Keeper(folders))


def takes_folder(run: Run) -> Path:
    return (run.place / "takes").resolve()


# --- the form --------------------------------------------------------------------------------------------------


def _form(gradio, *, models: Mapping[str, Run]) -> dict:
    """What can be asked, by the names that settings_of takes, and of which model."""
    name, run = next(iter(models.items()))
    form = {"model": gradio.Dropdown(list(models), value=name, label="Model", visible=len(models) > 1)}
    form |= {"what": gradio.Radio(list(FIELDS), value=NEW, label="What to play")}
    form |= _prompt_fields(gradio)
    form["chords"] = gradio.Textbox(
        CHORDS * run.knows_chords,
        label="Chords",
        lines=2,
        info="A | ends a bar; without any, each chord is a bar. Repeated to the end. Left empty: the file's, or free.",
        visible=run.knows_chords,
    )
    with gradio.Row():
        usual = f"{DEFAULT_BARS}, or more for all chords"
        form["bars"] = gradio.Textbox(label="Bars", placeholder=usual, max_lines=1, min_width=120)
        form["key"] = gradio.Textbox(label="Key", placeholder="any, or Dm", max_lines=1, min_width=120)
        form["bpm"] = gradio.Number(_usual_bpm(run), label="Tempo (bpm)", minimum=10, maximum=500, min_width=120)
        form["metre"] = gradio.Textbox(label="Metre", placeholder="usual, or 3/4", max_lines=1, min_width=120)
    form["form"] = gradio.Textbox(
        label="Form",
        placeholder="AABA, or nothing",
        info="A letter for each section: equal ones come back. Chords of their own: A: C Am F G B: F G Em Am",
        max_lines=1,
    )
    form["parts"] = gradio.Dropdown(
        list(PARTS),
        multiselect=True,
        label="Parts",
        info="Left empty: all of them.",
        visible="parts" in shown_fields(run, NEW),
    )
    form["ending"] = gradio.Checkbox(False, label="Ending", info="Come to a close in the last bar.")
    form |= _drawing_fields(gradio, knows=run.knows_chords)
    _let_choose(gradio, form, models)
    return form


def _let_choose(gradio, form: dict, models: Mapping[str, Run]) -> None:
    """Show what belongs to a wish and a model."""
    sometimes = [name for name in form if name in {"harmony", *sum(FIELDS.values(), ())}]

    def chosen(model: str, what: str, chords: str) -> list:
        run = models[model]
        there = [gradio.update(visible=name in shown_fields(run, what)) for name in sometimes]
        others = chords_for(run, what, chords)
        return [gradio.update(visible=run.knows_chords, **({} if others == chords else {"value": others})), *there]

    asked = [form["model"], form["what"], form["chords"]]
    shown = [form["chords"], *(form[name] for name in sometimes)]
    quiet = dict(show_progress="hidden", api_visibility="private")
    form["what"].change(chosen, asked, shown, **quiet)
    if len(models) > 1:
        model = form["model"].change(chosen, asked, shown, **quiet)
        model.then(lambda model: _usual_bpm(models[model]), form["model"], form["bpm"], **quiet)


def shown_fields(run: Run, what: str) -> set[str]:
    """The fields of a wish that make sense for a model."""
    never = {"seconds"} if run.tokenizer.needs_bars else set()
    if what == NEW and not (run.tokenizer.knows_parts and run.music.get("ensembles")):
        never.add("parts")
    return {*ALWAYS, *FIELDS[what]} - never - ({"chords", "harmony"} if not run.knows_chords else set())


def chords_for(run: Run, what: str, chords: str) -> str:
    """What stands in the field of chords: none for a model that knows of none; the example's are none for a file."""
    if not run.knows_chords or (what != NEW and chords == CHORDS):
        return ""
    return chords or CHORDS * (what == NEW)


def _usual_bpm(run: Run) -> float:
    return run.music.get("bpm", 120)


def _prompt_fields(gradio) -> dict:
    """A file, and what of it is written; what tracks there are is seen when it comes."""
    hidden = dict(visible=False)
    form = {"prompt": gradio.File(label="MIDI file", height=140, **hidden)}
    form["region"] = gradio.Textbox(
        label="Bars to write anew",
        placeholder="9-12",
        info="Counted from 1. Left empty: all of them, in the parts chosen below.",
        **hidden,
    )
    form["seconds"] = gradio.Textbox(
        label="Seconds to write anew", placeholder="20-26", info="Instead of bars, where the file has none.", **hidden
    )
    form["melody"] = gradio.Dropdown(
        [AUTO],
        value=AUTO,
        label="Melody",
        info="The track to accompany, by its name or number; auto is the one that sounds like it.",
        allow_custom_value=True,
        **hidden,
    )
    form["keep_grid"] = gradio.Checkbox(
        False, label="Keep grid", info="Believe the bars and beats of the file instead of checking them.", **hidden
    )

    def look(path: str | None):
        with notices():
            return gradio.skip(), gradio.Dropdown(choices=[AUTO, *(tracks(path) if path else ())], value=AUTO)
        return None, gradio.skip()

    form["prompt"].change(look, form["prompt"], [form["prompt"], form["melody"]], api_visibility="private")
    return form


def _drawing_fields(gradio, *, knows: bool) -> dict:
    """How takes are drawn and heard."""
    usual, heat = GenerateSettings(), dict(minimum=0.5, maximum=1.5, step=0.05)
    cold, hot = usual.temperature.split(":")
    form = {
        "harmony": gradio.Radio(
            list(HARMONY),
            value=usual.harmony,
            label="Harmony",
            info="How closely the notes keep to your chords.",
            visible=knows,
        ),
        "takes": gradio.Slider(1, MOST_TAKES, usual.takes, step=1, label="Takes"),
        "best": gradio.Textbox(label="Only the best", placeholder="all", info=ABOUT_BEST, max_lines=1),
        "cold": gradio.Slider(value=float(cold), label="Temperature of the first take", info="Low is safe.", **heat),
        "hot": gradio.Slider(value=float(hot), label="Temperature of the last take", info="High is wild.", **heat),
        "seed": gradio.Textbox(
            label="Seed", placeholder="a new one each time", info="The same number plays the same again."
        ),
    }
    with gradio.Accordion("Soundfont", open=False):
        form["soundfont"] = gradio.File(label="A .sf2 or .sf3; without one our own piano plays", height=140)
    return form


def tracks(path: str | Path) -> list[tuple[str, str]]:
    """The tracks of a MIDI file that sound, as they are shown and as `melody` takes them. Raises FileError."""
    score = read_midi(path)
    return [(f"{track + 1} {score.tracks[track].name}", f"{track + 1}") for track in np.unique(score.notes["track"])]


def settings_of(cold: float, hot: float, seed: str, what: str = NEW, **asked) -> GenerateSettings:
    """What was filled in and belongs to the wish, as settings; what was left empty is left to the run."""
    asked = {name: asked.get(name) for name in (*ALWAYS, *FIELDS[what])}
    asked |= {"seed": whole_number("seed", seed), "temperature": f"{cold:g}:{hot:g}"}
    asked |= {name: whole_number(name, asked[name] or "") for name in ("bars", "best") if name in asked}
    asked |= {name: asked[name].strip() for name in ("chords", "metre", "form") if asked.get(name)}
    asked["parts"] = tuple(asked.get("parts") or ()) or None
    if what != NEW:
        if not asked["prompt"]:
            raise InputError(f"{what}: choose a MIDI file first, or {NEW}")
        asked["prompt"] = Path(asked["prompt"])
    if what == FILL:
        asked["bars"] = read_span("bars", asked.pop("region"))
        asked["seconds"] = read_span("seconds", asked["seconds"])
        if not (asked["bars"] or asked["seconds"] or asked["parts"]):
            raise InputError(f"{what}: say which, such as 9-12, or choose parts")
    if what == ACCOMPANY:
        asked["melody"] = str(asked["melody"] or AUTO)
    return GenerateSettings(**{name: value for name, value in asked.items() if value not in (None, "")})


# --- playing ---------------------------------------------------------------------------------------------------


def _play_chosen(models: Mapping[str, Run], asked: dict, report: Reporter, *, device: str) -> Iterator[str]:
    """Play with the model that was chosen, without what was asked of another before."""
    asked = dict(asked)
    run = models[asked.pop("model")]
    if "seconds" in asked and "seconds" not in shown_fields(run, asked["what"]):
        asked["seconds"] = ""
    yield from play(run, asked, report, device=device)


def play(run: Run, asked: dict, report: Reporter, *, device: str = "auto") -> Iterator[str]:
    """Play what is asked, store and show it: the HTML of the takes each time that there is one more of them."""
    asked = dict(asked)
    soundfont = asked.pop("soundfont", None)
    settings, parent = dataclasses.replace(settings_of(**asked), device=device), takes_folder(run)
    if soundfont:
        check_soundfont(soundfont)
    with numbered_folder(parent) as folder:
        report(Progress(0, "getting ready"))
        takes = generate(run, settings, report=part(report, 0, PLAYING))
        report(Progress(PLAYING, "listening to them"))
        ranked = in_order(run, _kept(takes, settings.prompt, parent.with_name("prompts")), device)
        done, above = PLAYING + JUDGING, lines_above(run, takes, folder)
        cards = []
        saved = save_takes([take for take, _ in ranked], folder, soundfont and Path(soundfont))
        for number, (take, paths) in enumerate(saved, 1):
            cards.append(take_card(number, take, ranked[number - 1][1], paths, above))
            yield show(cards, folder, above, ranked=len(takes) > 1)
            report(Progress(done + (1 - done) * number / len(takes), "sound and pictures"))


def _kept(takes: list[Take], sent: Path | None, folder: Path) -> list[Take]:
    """Takes whose settings name a copy of the file that was sent, in a folder, so that they can be made again."""
    if sent is None:
        return takes
    data = sent.read_bytes()
    with new_folder(folder):
        names = (f"{sent.stem}{f'-{number}' * (number > 1)}{sent.suffix}" for number in count(1))
        copy = next(path for path in map(folder.joinpath, names) if not path.exists() or path.read_bytes() == data)
        write_file(copy, data)
    return [dataclasses.replace(take, settings=take.settings | {"prompt": str(copy)}) for take in takes]


def in_order(run: Run, takes: Sequence[Take], device: str = "auto") -> list[tuple[Take, str]]:
    """Takes with a line of reasons each, best first: as generate has ranked them, or as the run's critic does, or
    without one by what is usual in real music."""
    if all(take.ranked for take in takes):
        return [(take, take.ranked.partition(" ")[2]) for take in takes]
    found = rank(run, takes, critic=open_critic(run) or unlearned(run), device=device)
    return [(one.take, one.reasons) for one in found]


def lines_above(run: Run, takes: Sequence[Take], folder: Path) -> list[str]:
    """What is said once of takes in a folder: the remarks that they share, and what would judge them better."""
    shared = [remark for remark in takes[0].remarks if all(remark in take.remarks for take in takes)]
    if takes[0].ranked or open_critic(run):
        return shared
    corpus = " --corpus CORPUS" * (find_corpus(run.folder, run.facts) is None)
    command = f"woodshed rank {quoted(run.place)} {quoted(folder)}{corpus}"
    return [*shared, f"{JUDGED} To judge by your own pieces, now and later: {command}"]


def take_card(number: int, take: Take, reasons: str, paths: Sequence[Path], above: Sequence[str] = ()) -> str:
    """A take with its player, its piano roll and its figures in words, but for what is said above all of them."""
    about = f"seed {take.seed}, temperature {take.temperature:g}"
    chords = [f"chords: {take.chart}"] if take.settings.get("melody") and take.chart else []
    remarks = [remark for remark in take.remarks if remark not in above]
    lines = [reasons, "; ".join(figures(take)), *chords, *remarks]
    return card(number, about, lines, paths, picture="Piano roll", can_be_kept=True)


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
