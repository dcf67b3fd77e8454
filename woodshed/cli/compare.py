"""woodshed compare"""

from pathlib import Path

from ..files import new_folder
from ..symbolic.judging.compare import CompareSettings, compare
from ..symbolic.judging.compare_page import render, save
from .terminal import CorpusPath, JsonFile, bar, console, refuse_json, write_json


def command(corpus: CorpusPath, out: Path, settings: CompareSettings, json_file: JsonFile = None):
    """Train models and set them side by side; or compare finished runs (--runs). After Ctrl-C the same command goes on.

    Every model begins from nothing, without a base, learns the same music for the same time, and never stops
    early.

    Args:
        corpus: a folder made by woodshed prepare
        out: the runs, and in a folder with the next free number the page, its pictures and a take of each
        settings: what to compare
        json_file: write all figures to this file too, which does not exist yet
    """
    refuse_json(json_file)
    with new_folder(out):
        with bar("comparing") as report:
            found = compare(corpus, out, settings, report=report)
        folder = save(found, out)
    write_json(json_file, found.facts)
    console().print(render(found))
    print(folder / "index.html")
