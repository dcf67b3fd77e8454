"""A folder of tensors: what `woodshed audio ace prepare` made of a dataset, and training reads.

    manifest.json           the samples, what was left out and why, the base
    base.safetensors        silence_latent (frames, dims) and null_condition (1, width) of the base
    0123456789abcdef.safetensors    a sample: latents (frames, dims), condition (tokens, width)

The context latents of ACE-Step's own tensor files are left out: they are silence for every sample, cut to the length of
the crop as inference does it. There is no padding in a file, and so no mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FileError, RunError
from ...files import local, object_in
from .pipeline import ENCODERS, fingerprint

if TYPE_CHECKING:
    import torch

MANIFEST, SHARED = "manifest.json", "base.safetensors"
KNOWN = {"samples", "encoders", "base", "frames_per_second"}
REMARK, ENCODERS_OF = "remark", "encoders"  # in the metadata of a sample's file, and of the base's


@dataclass(frozen=True)
class Prepared:
    """A sample that is ready to be learned."""

    file: str
    name: str
    seconds: float
    frames: int
    tokens: int
    """How long its condition is."""
    facts: dict[str, Any]
    """What it was told to be: caption, lyrics, language, bpm, keyscale, timesignature."""
    remark: str = ""
    """What of that was too long to be read, or is missing."""
    digest: str = ""
    """Of its recording; "" where it was prepared before that was noted."""


@dataclass(frozen=True)
class Tensors:
    """Samples as tensors; they are read from the disk when they are used."""

    folder: Path
    facts: dict[str, Any]
    samples: list[Prepared]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def frames_per_second(self) -> float:
        return self.facts["frames_per_second"]

    @cached_property
    def shared(self) -> dict[str, torch.Tensor]:
        """silence_latent (frames, dims) and null_condition (1, width)."""
        return read_tensors(self.folder / SHARED)

    def latents(self, index: int, first: int = 0, frames: int | None = None) -> torch.Tensor:
        """(frames, dims), float32, from frame `first` on."""
        with _opened(self.folder / self.samples[index].file) as file:
            return file.get_slice("latents")[first : None if frames is None else first + frames].float()

    def condition(self, index: int) -> torch.Tensor:
        """(tokens, width), as the base's encoders gave it."""
        with _opened(self.folder / self.samples[index].file) as file:
            return file.get_tensor("condition")

    def context(self, frames: int) -> torch.Tensor:
        """What the transformer is given beside the noise where nothing is given: silence, and a mask of ones that says
        "write all of it"; (frames, 2 dims).
        """
        import torch

        silence = self.shared["silence_latent"].float()
        silence = silence.repeat(-(-frames // len(silence)), 1)[:frames]
        return torch.cat([silence, torch.ones_like(silence)], dim=-1)


def open_tensors(folder: str | Path) -> Tensors:
    """Open a folder of tensors; every file is looked at. Raises RunError where the folder is something else, FileError
    where a file is damaged."""
    folder = Path(folder)
    facts = read_manifest(folder)
    samples = [Prepared(**sample) for sample in facts["samples"]]
    tensors = Tensors(folder, facts, samples)
    for sample in samples:
        lengths = {name: shape[0] for name, shape in shapes(folder / sample.file).items()}
        if lengths != {"latents": sample.frames, "condition": sample.tokens}:
            raise _damaged(folder / sample.file, f"it should hold {sample.frames} frames and {sample.tokens} tokens")
    if {*shapes(folder / SHARED)} != {"silence_latent", "null_condition"}:
        raise _damaged(folder / SHARED, "silence_latent and null_condition are missing")
    return tensors


def opened_for(tensors: Tensors | str | Path, base: str | Path | None) -> tuple[Tensors, str | Path]:
    """Tensors, and the base that they are for: the one that is asked for, or else the one that they name, seen from
    their folder. A RunError where they were made with another."""
    tensors = tensors if isinstance(tensors, Tensors) else open_tensors(tensors)
    named, made_with = tensors.facts["base"], tensors.facts["encoders"]
    if base is None:
        base = local(tensors.folder, named) or named
    if (encoders := fingerprint(base, ENCODERS)) != made_with:
        reason = f"made with another base ({named}, encoders {made_with}, this one has {encoders})"
        raise RunError(tensors.folder, f"{reason}; prepare the dataset anew with this base, or train with that one")
    return tensors, base


def read_manifest(folder: Path) -> dict[str, Any]:
    """What prepare wrote about the tensors of a folder. Raises RunError where there are none."""
    facts = object_in(folder / MANIFEST)
    if not facts.keys() >= KNOWN:
        raise RunError(folder, f"no tensors (no {MANIFEST} of ours); make them with woodshed audio ace prepare")
    return facts


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a safetensors file. Raises FileError where it is not whole."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file. Raises FileError where it is not whole."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_note(path: Path, name: str) -> str:
    """What stands in the metadata of a safetensors file by a name. Raises FileError where it is not whole."""
    with _opened(path) as file:
        return (file.metadata() or {}).get(name, "")


def _opened(path: Path):
    """A safetensors file, open; one cut short is found here, since its header tells how long it is."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise _damaged(path, "it is gone") from None
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, reason: str) -> FileError:
    return FileError(path, f"damaged ({reason}); run woodshed audio ace prepare again, it makes only what is missing")
