"""Woodshed: teach a music model to play in your style.

    import woodshed

    report = woodshed.inspect("my-midi")                              # is it enough, what is wrong with it
    woodshed.prepare("my-midi", "corpus")                             # notes on disk, ready to learn from
    woodshed.train("corpus", "my-style", max_minutes=20)              # a run: a folder with the model
    takes = woodshed.generate("my-style", chords="Cmaj7 Am7 Dm7 G7")  # new music over your chords
    takes[0].save("first")                                            # first.mid .wav .png .json

Nothing heavy is imported until it is used.
"""

import logging
from importlib import import_module

__version__ = "0.1.0"

# transformers and peft load bitsandbytes where it is installed, and that warns of kernels nobody asked for
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_HOMES = {
    "Score": "symbolic.music.score",
    "Track": "symbolic.music.score",
    "read_midi": "symbolic.music.midi",
    "write_midi": "symbolic.music.midi",
    "events": "symbolic.music.midi",
    "synthesise": "symbolic.music.sound",
    "write_wav": "symbolic.music.sound",
    "render": "symbolic.music.render",
    "draw_roll": "symbolic.music.roll",
    "estimate_grid": "symbolic.music.grid",
    "apply_grid": "symbolic.music.grid",
    "assign_parts": "symbolic.music.parts",
    "recognise": "symbolic.music.chords",
    "harmonise": "symbolic.music.harmonise",
    "parse_progression": "symbolic.music.chords",
    "measure": "symbolic.music.measure",
    "Tokenizer": "symbolic.tokenizers",
    "make_tokenizer": "symbolic.tokenizers:make",
    "open_tokenizer": "symbolic.tokenizers",
    "tokenise": "symbolic.data.token_files",
    "read_tokens": "symbolic.data.token_files",
    "inspect": "symbolic.data.inspect",
    "prepare": "symbolic.data.prepare",
    "Corpus": "symbolic.data.corpus",
    "train": "symbolic.learning.train",
    "merge": "symbolic.learning.merge",
    "Run": "symbolic.run",
    "open_run": "symbolic.run",
    "generate": "symbolic.playing.generate",
    "again": "symbolic.playing.again",
    "Take": "symbolic.playing.takes",
    "keep": "symbolic.playing.keep",
    "evaluate": "symbolic.judging.evaluate",
    "originality_index": "symbolic.data.originality",
    "rank": "symbolic.playing.rank",
    "compare": "symbolic.judging.compare",
    "diagnose": "symbolic.judging.doctor",
    "WoodshedError": "errors",
}
__all__ = [*_HOMES]  # noqa: PLE0604 (they are strings)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'woodshed' has no attribute {name!r}")
    home, _, inside = _HOMES[name].partition(":")
    return getattr(import_module(f"{__name__}.{home}"), inside or name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
