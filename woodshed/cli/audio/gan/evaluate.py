"""woodshed audio gan evaluate"""

from pathlib import Path

from ....audio.gan.settings import EvaluateSettings
from ....files import new_folder
from ...terminal import CodecOption, FolderPath, JsonFile, RunPath, bar, console, refuse_json, write_json


def command(
    run: RunPath,
    folder: FolderPath,
    settings: EvaluateSettings,
    out: Path | None = None,
    codec: CodecOption = None,
    json_file: JsonFile = None,
):
    """Compare a run with recordings it has not learned from: how near it sounds, and whether it copies.

    Args:
        run: a run made by woodshed audio gan train
        folder: recordings; those the run has learned from are left out, so that its own folder gives what was held out
        settings: on what to judge it
        out: where the page, the figures and the sounds go, in a folder with the next free number; by default
            RUN/evaluations
        codec: another folder of its codec; by default the run's own copy (of an oobleck: where its model is)
        json_file: write all figures to this file too, which does not exist yet
    """
    from ....audio.gan.evaluate import evaluate
    from ....audio.gan.evaluate_page import render, save
    from ....audio.gan.run import open_run

    refuse_json(json_file)
    opened = open_run(run, codec=codec)
    parent = out or run / "evaluations"
    with new_folder(parent):
        with bar("evaluating") as report:
            found = evaluate(opened, folder, settings, report=report)
        saved = save(found, parent)
    write_json(json_file, found.facts)
    console().print(render(found))
    print(saved / "index.html")
