"""woodshed doctor"""

from pathlib import Path

from ..symbolic.judging.doctor import DoctorSettings, diagnose, lines
from .terminal import JsonFile, RunPath, bar, console, refuse_json, write_json


def command(run: RunPath, settings: DoctorSettings, corpus: Path | None = None, json_file: JsonFile = None):
    """Say what is wrong with a run, and which flag puts it right.

    Args:
        run: a run made by woodshed train, finished or not, or a base model
        settings: what to judge by
        corpus: its corpus, or one with the same tokens; by default its own, where that lies beside it or where you are
        json_file: write all that was found to this file too, which does not exist yet
    """
    refuse_json(json_file)
    with bar("examining") as report:
        found = diagnose(run, corpus, settings, report=report)
    write_json(json_file, found.as_dict())
    for line in lines(found):
        console().print(line, markup=False, soft_wrap=True)
