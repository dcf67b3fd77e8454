"""New sound of any length from a run.

    for take in generate(open_run("my-sound"), seconds=118, takes=1, seed=7): save_take(take, folder, 1)

A take is a function of its seed, the seed of its style, its length, truncation, the run, and this version of torch on
this machine.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from ... import __version__
from ...config import updated
from ...files import strict_json, write_file
from ...progress import Progress, Reporter, unheard
from ..codecs import LOUDNESS, Codec, fingerprint
from ..spectrogram import spectrograms
from ..wave import Audio, write_audio
from . import coordinates
from .networks import Generator
from .run import Run
from .settings import GenerateSettings

CONTEXT = 2.0  # seconds before and after a loop that the codec hears as it decodes it
CROSSFADE = 0.05  # seconds at the seam of a loop
FADE = 0.5  # seconds at the end of a take that is no loop


@dataclass(frozen=True, eq=False)
class Take:
    """One generated piece. `facts` say all that it is a function of, and how long network and codec took."""

    audio: Audio
    latents: np.ndarray  # (frames, latent_dim)
    facts: dict = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """How many times as fast as it sounds it was made."""
        return self.audio.seconds / sum(self.facts["seconds_spent"].values())


def generate(
    run: Run,
    settings: GenerateSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Iterator[Take]:
    """Play takes, one by one. `changes` are fields of GenerateSettings."""
    settings = updated(GenerateSettings, settings, changes)
    first = secrets.randbelow(2**31) if settings.seed is None else settings.seed
    network = run.generator(settings.checkpoint)
    made_by = {"run": run.folder.absolute().name, "step": run.step(settings.checkpoint)}
    made_by |= {"weights": fingerprint(save(network.state_dict())), "codec": run.facts["codec"]["fingerprint"]}
    for number in range(settings.takes):
        yield _take(run.codec, network, settings, first + number, made_by)
        report(Progress((number + 1) / settings.takes, "playing"))


def save_take(take: Take, folder: Path, number: int) -> list[Path]:
    """Write a take as RUN_seed7_take-1.wav (its seed inside, as a comment), .json with all its facts, and .png."""
    name = f"{take.facts['run']}_seed{take.facts['seed']}_take-{number}"
    wav, told, picture = (folder / f"{name}{suffix}" for suffix in (".wav", ".json", ".png"))
    choice = {name: take.facts[name] for name in ("seed", "style_seed", "truncation", "form", "vary", "loop", "run")}
    write_audio(wav, take.audio.levelled(LOUDNESS), comment=json.dumps(choice))
    write_file(told, strict_json(take.facts))
    write_file(picture, spectrograms({wav.name: take.audio}))
    return [wav, told, picture]


def make_latents(network: Generator, halves: int, *, seed: int, **choice) -> np.ndarray:
    """The latents (halves * half, latent_dim) of one piece, standardised; `choice` goes to coordinates.piece."""
    where = coordinates.piece(halves, network.half, seed=seed, **choice)
    with torch.inference_mode():
        made = network.play(where, torch.Generator().manual_seed(seed), loop=choice.get("loop", False))
    return made[0].T.contiguous().numpy()


def decode_loop(codec: Codec, latents: np.ndarray) -> Audio:
    """The sound of latents that lead back to their beginning: decoded with what comes before and after in the circle,
    and blended over CROSSFADE seconds into what follows the end.
    """
    length, hop = len(latents), codec.hop_length
    before = math.ceil(CONTEXT * codec.latent_rate)
    circle = np.arange(-before, length + before) % length
    samples = codec.decode(latents[circle]).samples
    start, count = before * hop, length * hop
    body, after = samples[start : start + count], samples[start + count :]
    blend = min(round(CROSSFADE * codec.sample_rate), len(after), count)
    body[:blend] = _crossfaded(after[:blend], body[:blend])
    return Audio(body, codec.sample_rate)


def _take(codec: Codec, network: Generator, settings: GenerateSettings, seed: int, made_by: dict) -> Take:
    half = network.half
    frames = settings.seconds * codec.latent_rate
    sections = len(settings.form)
    whole = settings.loop or sections > 1  # halves
    length = frames / half / sections
    halves = sections * (max(2, round(length)) if whole else max(1, math.ceil(length)))
    chosen = {name: getattr(settings, name) for name in ("style_seed", "truncation", "form", "vary", "loop")}
    began = time.perf_counter()
    latents = make_latents(network, halves, seed=seed, **chosen)
    made = time.perf_counter()
    if settings.loop:
        audio = decode_loop(codec, latents)
    else:
        latents = latents if whole else latents[: math.ceil(frames)]
        audio = codec.decode(latents).cut(0, None if whole else settings.seconds)
        _fade(audio)
    spent = {"network": round(made - began, 4), "codec": round(time.perf_counter() - made, 4)}
    facts = {"seed": seed} | chosen | {"seconds": round(audio.seconds, 4)} | made_by
    facts |= {"loudness_before_levelling": round(audio.loudness, 2), "seconds_spent": spent}
    return Take(audio, latents, facts | {"engine": f"woodshed {__version__}, torch {torch.__version__}"})


def _crossfaded(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """From `old` to `new`, (n, channels) both; as loud in the middle as at the ends, however alike the two are."""
    up = np.linspace(0, 1, len(new), dtype=np.float32)[:, None]
    down = 1 - up
    energy = np.sqrt(np.square(old).sum() * np.square(new).sum())
    alike = float((old * new).sum() / energy) if energy > 0 else 1.0
    return (down * old + up * new) / np.sqrt(down**2 + up**2 + 2 * max(alike, 0.0) * up * down)


def _fade(audio: Audio) -> None:
    """Fade the end, where the piece is simply cut: in place, for takes may last hours."""
    count = min(round(FADE * audio.sample_rate), len(audio.samples) // 2)
    audio.samples[len(audio.samples) - count :] *= np.cos(np.linspace(0, np.pi / 2, count, dtype=np.float32))[:, None]
