"""woodshed inspect"""

from ..symbolic.data.inspect import InspectSettings, inspect, render
from .terminal import FolderPath, JsonFile, bar, console, refuse_json, write_json


def command(folder: FolderPath, settings: InspectSettings, json_file: JsonFile = None):
    """Look at a folder of MIDI before training.

    Args:
        folder: the folder; everything below it is read
        settings: what counts as usable
        json_file: write the whole report to this file, which does not exist yet
    """
    refuse_json(json_file)
    with bar("reading") as report:
        found = inspect(folder, settings, report=report)
    write_json(json_file, found.as_dict())
    console().print(render(found))
