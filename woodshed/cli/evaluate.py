"""woodshed evaluate"""

from pathlib import Path

from tyro.conf import Positional

from ..files import write_file
from ..symbolic.judging.evaluate import evaluate
from ..symbolic.judging.evaluate_page import render, save, to_json
from ..symbolic.playing.excerpts import EvaluateSettings
from ..symbolic.run import open_run
from .terminal import JsonFile, bar, console, refuse_json


def command(
    run: Positional[Path],
    corpus: Positional[Path],
    settings: EvaluateSettings,
    out: Path | None = None,
    json_file: JsonFile = None,
):
    """Compare a run with music it has not learned: its likelihood, and its takes beside real excerpts.

    Args:
        run: a run made by woodshed train, or a base model
        corpus: a corpus with the same tokens
        settings: on what to evaluate it, and what to play
        out: where the page, its pictures and the takes go, in a folder with the next free number; by default
            RUN/evaluations
        json_file: write all figures to this file too, which does not exist yet
    """
    refuse_json(json_file)
    opened = open_run(run, settings.checkpoint)
    with bar("evaluating") as progress:
        found = evaluate(opened, corpus, settings, progress=progress)
    console().print(render(found))
    folder = save(found, out or opened.place / "evaluations")
    if json_file:
        write_file(json_file, to_json(found))
    print(folder / "index.html")
