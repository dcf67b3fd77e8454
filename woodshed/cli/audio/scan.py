"""woodshed audio scan"""

from pathlib import Path

from ...audio.labels.scan import ScanSettings, scan, table, told
from ...page import counted
from ..terminal import FolderPath, JsonFile, bar, console, refuse_json, write_json


def command(folder: FolderPath, settings: ScanSettings, out: Path | None = None, json_file: JsonFile = None):
    """Look at a folder of recordings and the labels beside them.

    Beside song.mp3 may lie song.caption.txt, song.lyrics.txt (or song.txt), song.json (caption, genre, bpm, keyscale,
    timesignature, language) and tables of Key-BPM-Finder (.csv).

    Args:
        folder: the folder; everything below it is read
        settings: what holds for all songs of the dataset
        out: the dataset to write; one that is there gets what is new, and keeps what stands in it
        json_file: write the whole report to this file, which does not exist yet
    """
    refuse_json(json_file)
    with bar("listening") as report:
        found = scan(folder, settings, out=out, report=report)
    write_json(json_file, found.as_dict())
    console().print(table(found))
    print("\n".join(told(found, out)))
    if out:
        print(f"{out}: {counted(len(found.dataset.samples), 'sample')}, {found.added} of them new")
