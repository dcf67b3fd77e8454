"""woodshed audio ace generate"""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro

from ....audio.ace.adapters import change_of_weights, load_adapters, without_adapters
from ....audio.ace.difference import between_seeds, difference, table, verdict
from ....audio.ace.generate import PlaySettings, Take, check, generate
from ....audio.ace.layouts import Adapter, read_adapter
from ....audio.ace.pipeline import chosen_device, fingerprint, open_pipeline
from ....audio.ace.run import FACTS
from ....errors import InputError
from ....files import numbered_folder
from ....page import text_table
from ...terminal import BaseName, bar, console

Adapters = Annotated[
    tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]], tyro.conf.arg(name="adapter", metavar="FOLDER[:SCALE] ...")
]


@dataclass(frozen=True)
class Setup:
    """The base with its adapters, ready to play."""

    base: str
    base_fingerprint: str
    adapters: list[tuple[Adapter, float]]
    pipe: object

    def facts(self) -> dict:
        """What the .json of a take says of them."""
        told = [
            {"path": adapter.path, "scale": scale, "kind": adapter.kind, "digest": adapter.digest}
            for adapter, scale in self.adapters
        ]
        base = Path(self.base) if Path(self.base).is_dir() else self.base
        return {"base": base, "base_fingerprint": self.base_fingerprint, "adapters": told}


def command(
    base: BaseName,
    settings: PlaySettings,
    adapter: Adapters = (),
    any_base: bool = False,
    compare_base: bool = False,
    device: str = "auto",
    out: Path | None = None,
):
    """Play: text, a song to cover or a stretch to repaint in; takes out, each a .wav and a .json.

    Args:
        base: ACE-Step 1.5: a folder in the layout of diffusers, or a Hugging Face id
        settings: what to play
        adapter: a run of ours, or an adapter of ACE-Step, Side-Step, LyCORIS, ComfyUI or diffusers; with :0.7 at a
            scale of 0.7. Several play together
        any_base: take an adapter that was trained on another base of the same size
        compare_base: play each seed without the adapters too, measure both, and say whether one hears a difference
        device: where to compute: cpu, cuda, or auto
        out: where the takes go, in a folder with the next free number; by default takes, in the adapter's run or here
    """
    wanted = [(read_adapter(path), scale) for path, scale in map(parse_adapter, chain(*adapter))]
    if compare_base and not wanted:
        raise InputError("--compare-base: there is nothing to compare; give an --adapter")
    check(settings)
    where, dtype = chosen_device(device)
    print_remarks(wanted)
    pipe = open_pipeline(base, device=where, dtype=dtype)
    setup = Setup(base, fingerprint(base), wanted, pipe)
    load_adapters(pipe, wanted, base="" if any_base else setup.base_fingerprint)
    with numbered_folder(out or _home(wanted)) as folder:
        (_compare if compare_base else _play)(setup, settings, folder)


def parse_adapter(text: str) -> tuple[str, float]:
    """`my-run:0.7` as path and scale; without a scale 1. A path may have colons of its own (C:/runs/mine)."""
    path, colon, told = text.rpartition(":")
    try:
        path, scale = (path, float(told)) if path and colon else (text, 1.0)
    except ValueError:
        return text, 1.0
    if not math.isfinite(scale):
        raise InputError(f"--adapter {text}: give a finite number as its scale")
    return path, scale


def print_remarks(adapters: list[tuple[Adapter, float]]) -> None:
    """What is worth knowing of the adapters."""
    for adapter, _ in adapters:
        for remark in adapter.remarks:
            print(f"{adapter.path}: {remark}")


def _home(adapters: list[tuple[Adapter, float]]) -> Path:
    """takes, in the folder of the first adapter that is a run of ours or lies in one, else where we are."""
    places = (place for adapter, _ in adapters if adapter.facts for place in (adapter.path, *adapter.path.parents))
    return next((place for place in places if (place / FACTS).exists()), Path()) / "takes"


def _play(setup: Setup, settings: PlaySettings, folder: Path) -> None:
    for number, take in enumerate(_takes(setup, settings, "playing"), 1):
        print(f"{take.save(folder / f'take-{number}', setup.facts())}: {take.audio.seconds:.1f} s, seed {take.seed}")
        if number == 1:
            print(*take.remarks, sep="\n", end="\n" * bool(take.remarks))


def _takes(setup: Setup, settings: PlaySettings, about: str, *, alone: bool = False) -> Iterator[Take]:
    """The takes, with a bar; `alone` is without the adapters."""
    with without_adapters(setup.pipe) if alone else nullcontext(), bar(about) as report:
        yield from generate(setup.pipe, settings, report=report)


def _compare(setup: Setup, settings: PlaySettings, folder: Path) -> None:
    bare, found = [], []
    for number, base in enumerate(_takes(setup, settings, "playing the base", alone=True), 1):
        base.save(folder / f"take-{number}-base", setup.facts() | {"adapters": []})
        bare.append(base)
    adapted = _takes(setup, settings, "playing the adapter")
    for number, (base, take) in enumerate(zip(bare, adapted, strict=True), 1):
        found.append(difference(base.audio, take.audio))
        told = {"spectral_distance_to_base": round(found[-1].spectral, 3), "audible": bool(found[-1].audible)}
        path = take.save(folder / f"take-{number}", setup.facts() | told)
        print(f"{path}: seed {take.seed}, {found[-1].spectral:.2f} dB from {path.stem}-base{path.suffix}")
    console().print(text_table(("mean of all seeds", "base", "with adapter", "difference"), table(found)))
    if len(bare) > 1:
        apart = between_seeds([take.audio for take in bare])
        print(f"For comparison: takes of the base with different seeds are {apart:.1f} dB apart.")
    changes = [change_of_weights(adapter, setup.pipe.transformer) for adapter, _ in setup.adapters]
    for (adapter, scale), change in zip(setup.adapters, changes, strict=True):
        print(f"{adapter.path} changes the weights it lies over by {abs(scale) * change:.2%} (median).")
    print("\n".join(verdict(found, setup.adapters, changes, prompt=settings.prompt, base=setup.base_fingerprint)))
