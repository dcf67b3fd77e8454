"""The page of a latent GAN: how long and how wild in; sound of any length out, to hear, see and download. Takes lie
where `woodshed audio gan generate` puts them, RUN/takes/NNN.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ..audio.gan.generate import Take, generate, save_take
from ..audio.gan.run import Run, checkpoints, open_run
from ..audio.gan.settings import MOST_SECONDS, MOST_TRUNCATION, GenerateSettings
from ..files import numbered_folder
from ..page import clock
from ..progress import Progress, Reporter
from .server import Page
from .takes_page import MOST_TAKES, card, show, takes_page, whole_number

INTRO = "Say how long and how wild, and press Play: new sound in the manner of the recordings."
END = "the end"


def open_page(run: Run | str | Path) -> Page:
    """The page of a run. Raises RunError where it, or its codec, is not what it should be."""
    run = run if isinstance(run, Run) else open_run(run)
    folders = [takes_folder(run)]
    return takes_page(run.folder.absolute().name, folders, INTRO, form=partial(_form, run=run), play=partial(play, run))


def takes_folder(run: Run) -> Path:
    return (run.folder / "takes").resolve()


# --- the form --------------------------------------------------------------------------------------------------


def _form(gradio, *, run: Run) -> dict:
    """What can be asked, by the names that settings_of takes."""
    usual = GenerateSettings()
    form = {
        "seconds": gradio.Number(
            usual.seconds, label="Seconds", minimum=1, maximum=MOST_SECONDS, info="118 is 1:58; any length goes."
        ),
        "takes": gradio.Slider(1, MOST_TAKES, usual.takes, step=1, label="Takes"),
        "truncation": gradio.Slider(
            0.1,
            MOST_TRUNCATION,
            usual.truncation,
            step=0.1,
            label="Truncation",
            info="Low is safe and much alike, high is wild.",
        ),
        "form": gradio.Textbox(
            usual.form, label="Form", info="A letter for each section: in AABA the first comes back."
        ),
        "vary": gradio.Slider(
            0, 1, usual.vary, step=0.05, label="Vary", info="How much of it is new when it comes back."
        ),
        "loop": gradio.Checkbox(usual.loop, label="Loop", info="The end leads back to the beginning."),
    }
    with gradio.Row():
        for name, info in (
            ("seed", "The same number plays the same again."),
            ("style_seed", "One style for all takes."),
        ):
            label = name.replace("_", " ").capitalize()
            form[name] = gradio.Textbox(label=label, placeholder="a new one each time", info=info, min_width=120)
    steps = [f"{step}" for step in checkpoints(run.folder)]
    form["checkpoint"] = gradio.Dropdown([END, *steps], value=END, label="As it was at step", visible=bool(steps))
    return form


def settings_of(seed: str, style_seed: str, checkpoint: str, **asked) -> GenerateSettings:
    """What was filled in, as settings."""
    asked |= {"seed": whole_number("seed", seed), "style_seed": whole_number("style-seed", style_seed)}
    asked["form"] = asked.get("form", "").strip() or GenerateSettings.form
    asked |= {"checkpoint": None if checkpoint == END else int(checkpoint)}
    return GenerateSettings(**{name: value for name, value in asked.items() if value is not None})


# --- playing ---------------------------------------------------------------------------------------------------


def play(run: Run, asked: dict, report: Reporter) -> Iterator[str]:
    """Play what is asked, store and show it: the HTML of the takes each time that there is one more of them."""
    settings, cards = settings_of(**asked), []
    run = open_run(run.folder, codec=run.codec)  # it may have gone on learning since the page was opened
    with numbered_folder(takes_folder(run)) as folder:
        report(Progress(0, "playing"))
        for number, take in enumerate(generate(run, settings), 1):
            paths = save_take(take, folder, number)
            cards.append(_take_card(number, take, paths))
            yield show(cards, folder)
            report(Progress(number / settings.takes, "playing"))


def _take_card(number: int, take: Take, paths: list[Path]) -> str:
    facts = take.facts
    about = f"seed {facts['seed']}, truncation {facts['truncation']:g}{', a loop' if facts['loop'] else ''}"
    about += f", form {facts['form']}" if len(facts["form"]) > 1 else ""
    line = f"{clock(take.audio.seconds)}, played {take.speed:.0f} times as fast as it sounds, at step {facts['step']:,}"
    return card(number, about, [line], paths, picture="Spectrogram")
