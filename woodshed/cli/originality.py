"""woodshed originality"""

from pathlib import Path

from ..errors import InputError, RunError
from ..progress import Progress
from ..symbolic.data.corpus import Corpus, find_corpus, open_corpus
from ..symbolic.data.originality import originality_index
from ..symbolic.data.take_files import read_written, takes_in
from ..symbolic.run import FACTS, located, read_facts
from .terminal import CorpusPath, FilePaths, JsonFile, bar, refuse_json, write_json


def command(where: CorpusPath, files: FilePaths, json_file: JsonFile = None):
    """How original is it: the most telling stretch of each file that also stands in a training piece.

    It is found in any key, and up to about twice as fast or slow. It counts by its notes, each by how rare the figure
    is that it belongs to: 1 where no more than one piece has that, 0 where all have; other chords around them take up
    to half away. More than pieces of yours that were held out have in common with the others is not original.

    Args:
        where: a corpus, or a run whose corpus is where it was
        files: MIDI files, or folders of them; of takes with a prompt only what was written counts
        json_file: write all that was found to this file too, which does not exist yet
    """
    refuse_json(json_file)
    paths = [path for file in files for path in (takes_in(file) if file.is_dir() else [file])]
    if not paths:
        raise InputError("no MIDI to compare; give files, or folders that hold some, after the corpus")
    found = {}
    with bar("comparing") as report:
        corpus, base = learned_by(where)
        known = originality_index(corpus, base=base)
        for number, path in enumerate(paths):
            score, start = read_written(path)
            repeats = known.repeats(score, start=start)
            found[str(path)] = repeats.facts()
            print(f"{path}: {repeats}", flush=True)
            report(Progress((number + 1) / len(paths), path.name))
    if repeats.unexamined:
        print(repeats.unexamined)
    write_json(json_file, found)


def learned_by(where: Path) -> tuple[Corpus, str | None]:
    """The corpus in a folder, or the one that the run there has learned and its base. RunError where that is not
    found."""
    run = located(where)
    if not (run / FACTS).exists():
        return open_corpus(where), None
    facts = read_facts(run)
    corpus = find_corpus(run, facts)
    if corpus is None:
        raise RunError(where, "the corpus it has learned is not where it was, nor beside it; give the corpus instead")
    return corpus, facts["base"]
