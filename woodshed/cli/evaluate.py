"""woodshed evaluate"""

from pathlib import Path

from ..files import new_folder
from ..symbolic.judging.evaluate import EvaluateSettings, evaluate
from ..symbolic.judging.evaluate_page import render, save
from ..symbolic.run import open_run
from .terminal import CorpusPath, JsonFile, RunPath, bar, console, refuse_json, write_json


def command(
    run: RunPath,
    corpus: CorpusPath,
    settings: EvaluateSettings,
    out: Path | None = None,
    json_file: JsonFile = None,
):
    """Compare a run with the songs prepare kept back from it: how well it foresees them, and its takes beside them.

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
    parent = out or opened.place / "evaluations"
    with new_folder(parent):
        with bar("evaluating") as report:
            found = evaluate(opened, corpus, settings, report=report)
        folder = save(found, parent)
    write_json(json_file, found.facts)
    console().print(render(found))
    print(folder / "index.html")
