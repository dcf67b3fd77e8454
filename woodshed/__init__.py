"""Woodshed: teach a music model to play in your style.

    import woodshed

    report = woodshed.inspect("my-midi")                              # is it enough, what is wrong with it
    woodshed.prepare("my-midi", "corpus")                             # notes on disk, ready to learn from
    woodshed.train("corpus", "my-style", max_minutes=20)              # a run: a folder with the model
    takes = woodshed.generate("my-style", chords="Cmaj7 Am7 Dm7 G7")  # new music over your chords
    takes[0].save("first")                                            # first.mid .wav .png .json

Nothing heavy is imported until it is used.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Score": "symbolic.score",
    "Track": "symbolic.score",
    "read_midi": "symbolic.midi",
    "write_midi": "symbolic.midi",
    "events": "symbolic.midi",
    "synthesise": "symbolic.sound",
    "write_wav": "symbolic.sound",
    "render": "symbolic.render",
    "draw_roll": "symbolic.roll",
    "recognise": "symbolic.chords",
    "harmonise": "symbolic.harmonise",
    "parse_progression": "symbolic.chords",
    "measure": "symbolic.measure",
    "inspect": "symbolic.inspect",
    "prepare": "symbolic.prepare",
    "Corpus": "symbolic.corpus",
    "train": "symbolic.train",
    "merge": "symbolic.merge",
    "open_run": "symbolic.run",
    "generate": "symbolic.generate",
    "Take": "symbolic.takes",
    "evaluate": "symbolic.evaluate",
    "originality_index": "symbolic.originality",
    "rank": "symbolic.rank",
    "compare": "symbolic.compare",
    "diagnose": "symbolic.doctor",
    "WoodshedError": "errors",
}
__all__ = [*_HOMES]  # noqa: PLE0604 (they are strings)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'woodshed' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
