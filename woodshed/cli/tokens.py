"""woodshed tokens"""

from pathlib import Path

from ..errors import InputError
from ..jobs import refuse_existing
from ..symbolic.data.inspect import Chords
from ..symbolic.data.token_files import read_tokens, tokenise
from ..symbolic.music.midi import write_midi
from .terminal import FilePath, JsonFile, refuse_json


def command(
    file: FilePath,
    tokenizer: str = "auto",
    chords: Chords = "file",
    keep_grid: bool = False,
    out: Path | None = None,
    json_file: JsonFile = None,
):
    """A MIDI file as ids and words, as models read it; or with --out ids as a MIDI file.

    Args:
        file: a MIDI file, or the .json that --json wrote, or one of a list of ids
        tokenizer: remi, performance or miditok:NAME; auto is remi where there are bars, else performance, and of a
            .json what it says
        chords: the chords of a MIDI file: those it states ("file"), heard where it states none ("recognise"), or none
        keep_grid: believe the bars and beats of the file instead of checking them
        out: write the music that the ids spell to this .mid, which does not exist yet
        json_file: write ids and words to this file, which does not exist yet
    """
    refuse_json(json_file)
    if out:
        refuse_existing(out)
    if file.suffix.lower() == ".json":
        if chords != "file" or keep_grid:
            raise InputError(f"--chords and --keep-grid are for a MIDI file, {file} holds ids; leave them out")
        tokens = read_tokens(file, tokenizer)
    else:
        tokens = tokenise(file, tokenizer, chords=chords, keep_grid=keep_grid)
    if out:
        write_midi(tokens.score(), out, new=True)
    if json_file:
        tokens.save(json_file)
    if not (out or json_file):
        print("\n".join(f"{one:>5}  {word}" for one, word in zip(tokens.ids, tokens.words, strict=True)))
    print(f"{file}: {len(tokens.ids):,} ids of {tokens.tokenizer.name} {tokens.tokenizer.fingerprint}")
