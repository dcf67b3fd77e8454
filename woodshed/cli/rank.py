"""woodshed rank"""

from pathlib import Path

from ..symbolic.data.originality import originality_index
from ..symbolic.playing.perform import learned
from ..symbolic.playing.rank import critic_of, rank
from ..symbolic.run import open_run
from .terminal import FolderPath, JsonFile, RunPath, bar, refuse_json, write_json


def command(
    run: RunPath,
    folder: FolderPath,
    corpus: Path | None = None,
    best: int | None = None,
    checkpoint: int | None = None,
    device: str = "auto",
    json_file: JsonFile = None,
):
    """The takes of a folder, best first, with reasons: how much each is like your own pieces, and unlike the others.

    Without the run's corpus, as with a base model, only chords, bass, scales, returning bars and rests are judged,
    beside real piano music.

    Args:
        run: a run made by woodshed train, or a base model
        folder: takes of woodshed generate, or any .mid files, their bars where the files have them
        corpus: its corpus, if that has moved: takes that copy from it rank lower, and a style critic that is missing,
            older than the weights, or of another corpus, is made from it and kept
        best: tell only so many
        checkpoint: listen with one of the run's checkpoints instead of the best
        device: where the models compute: cpu, cuda, cuda:1 or mps; auto is the GPU where there is one
        json_file: write all that was found to this file too, which does not exist yet
    """
    refuse_json(json_file)
    opened = open_run(run, checkpoint)
    with bar("ranking") as report:
        index = originality_index(corpus) if corpus else learned(opened)
        found = rank(opened, folder, corpus=corpus, index=index, best=best, device=device, report=report)
    critic = critic_of(opened)
    write_json(json_file, {"critic": {**critic.facts, "judges": critic.judges}, "takes": found})
    print(critic)
    for number, one in enumerate(found, 1):
        print(f"{number:>3}  {one.score:.2f}  {one.take.relative_to(folder)}: {one.reasons}")
