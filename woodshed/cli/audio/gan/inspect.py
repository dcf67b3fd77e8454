"""woodshed audio gan inspect"""

from ....audio.gan.inspect import inspect, render
from ...terminal import FolderPath, JsonFile, bar, console, refuse_json, write_json


def command(folder: FolderPath, json_file: JsonFile = None):
    """Look at a folder of recordings before a model is made of them: is there enough of it, and is it equally loud.

    Args:
        folder: the folder; everything below it is listened to
        json_file: write the whole report to this file, which does not exist yet
    """
    refuse_json(json_file)
    with bar("listening") as report:
        found = inspect(folder, report=report)
    write_json(json_file, found)
    console().print(render(found))
