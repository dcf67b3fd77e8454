"""Music out of ACE-Step: from a text, from a song to cover, or into a stretch of a song to repaint.

    pipe = open_pipeline("ACE-Step/acestep-v15-xl-turbo-diffusers", device="cuda")
    load_adapters(pipe, [(read_adapter("my-run"), 1.0)])
    for take in generate(pipe, prompt="slow waltz for piano", seconds=60, takes=4):
        write_audio("waltz.wav", take.audio)

A take is a function of its seed alone, however many are made: its noise is drawn on the CPU, and the codec, which draws
as well where it listens, from the same seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from ... import __version__, config
from ...config import Allowed, Share, updated
from ...errors import FileError, InputError
from ...files import strict_json, write_file
from ...jobs import enough_memory
from ...progress import Progress, Reporter, part, unheard
from ..labels.dataset import INSTRUMENTAL, read_bpm, read_key, read_language, read_metre
from ..labels.lyrics import clean, decoded
from ..wave import Audio, depth_of, read_audio, write_audio
from .pipeline import playing_defaults, too_long

if TYPE_CHECKING:
    import torch
    from diffusers import AceStepPipeline

LONGEST = 600  # seconds that ACE-Step 1.5 can play
MOST_SEED = 2**63 - 1  # that torch takes
SECONDS = 30.0
FADE = 0.02  # seconds of cross-fade at the ends of a repainted stretch
WORDS = ("prompt", "lyrics", "vocal_language", "audio_duration", "bpm", "keyscale", "timesignature")  # of the pipeline
LOUDER = 8.0  # how much louder or softer a repainted stretch is made at most to suit what is around it


@dataclass(frozen=True)
class PlaySettings:
    """What to play."""

    prompt: str
    """What it should sound like, in words; with the trigger tag of the adapter, where it has one."""
    lyrics: Path | None = None
    """A text file of what is sung, with [Verse], [Chorus] ...; by default nobody sings."""
    seconds: Annotated[float, Allowed(0.5, LONGEST)] | None = None
    """How long: 30 by default, or as long as the song that is covered or repainted."""
    bpm: int | None = None
    """Beats a minute; by default the model chooses."""
    key: str | None = None
    """Such as "A minor"; by default the model chooses."""
    metre: str | None = None
    """Beats of a bar, 2, 3, 4 or 6; by default the model chooses."""
    language: str = "unknown"
    """The language of the lyrics: en, de, zh ..."""
    takes: Annotated[int, Allowed(1)] = 2
    """How many to play, with the seeds seed, seed + 1 ..."""
    seed: Annotated[int, Allowed(0, MOST_SEED)] = 0
    """Of the first take. The same command plays the same takes; give another seed for new ones."""
    cover: Path | None = None
    """A song to play anew, in the style that prompt and adapter say."""
    cover_strength: Share = 1.0
    """How closely a cover keeps to its song: 1 to the end, 0 not at all."""
    repaint: Path | None = None
    """A song of which a stretch is played anew; the rest of it stays as it is."""
    start: Annotated[float, tyro.conf.arg(name="from")] = 0.0
    """Where the stretch begins, in seconds."""
    end: Annotated[float | None, tyro.conf.arg(name="to")] = None
    """Where the stretch ends, in seconds; by default with the song."""
    reference: Path | None = None
    """A recording whose timbre it should have."""
    steps: Annotated[int, Allowed(1)] | None = None
    """Steps from noise to music: 8 for a turbo model, 50 for another."""
    guidance: Annotated[float, Allowed(1)] | None = None
    """How strongly the prompt guides it: 7 by default; a turbo model takes none."""
    shift: Annotated[float, Allowed(0.1)] | None = None
    """More of the steps early, where the form of the music is decided: 3 for a turbo model, 1 for another."""


@dataclass(frozen=True)
class Take:
    """One piece of sound, and how it was made."""

    audio: Audio = field(repr=False)
    seed: int
    settings: dict = field(repr=False)  # fields of PlaySettings that make this very take
    remarks: tuple[str, ...] = ()
    depth: str | None = None  # of the .wav: its song's where a stretch was repainted, else 16 bit

    def save(self, stem: str | Path, facts: dict | None = None) -> Path:
        """Write `stem`.wav and, with the facts, `stem`.json; answers the .wav. Nothing is overwritten: a FileError.

        The .wav says the same in a comment, but of files the names alone, for it travels.
        """
        wav, told = (Path(f"{stem}{kind}") for kind in (".wav", ".json"))
        for path in (wav, told):
            if path.exists():
                raise FileError(path, "it exists already; choose another name")
        about = {"woodshed": __version__, "seed": self.seed, "seconds": round(self.audio.seconds, 3)}
        about |= {"settings": self.settings, "remarks": self.remarks} | (facts or {})
        comment = json.dumps(about, ensure_ascii=False, default=lambda path: path.name)
        write_audio(wav, self.audio, depth=self.depth, comment=comment)
        write_file(told, strict_json(about))
        return wav


def generate(
    pipe: AceStepPipeline,
    settings: PlaySettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Iterator[Take]:
    """Play takes one after the other, with whatever adapters are loaded.

    `changes` are fields of PlaySettings; `report` hears the Progress after every step.
    Raises InputError for settings that cannot work, FileError for a file that cannot be read.
    """
    if settings is None:
        settings = PlaySettings(changes.pop("prompt", ""))
    settings, remarks = resolve(pipe, updated(PlaySettings, settings, changes))
    given, source = _arguments(pipe, settings)
    remarks += tuple(too_long(pipe, {name: given[name] for name in WORDS}))
    depth = depth_of(settings.repaint) if settings.repaint else None
    for number in range(settings.takes):
        name = f"take {number + 1} of {settings.takes}"
        tell = part(report, number / settings.takes, (number + 1) / settings.takes, name)
        audio = _played(pipe, given, settings.seed + number, tell)
        if settings.repaint:
            audio = spliced(source, audio, settings.start, settings.end)
        own = replace(settings, takes=1, seed=settings.seed + number)
        yield Take(audio, own.seed, asdict(own), remarks, depth)


def check(settings: PlaySettings) -> None:
    """An InputError, with its flag, for a value that cannot work on any base."""
    config.check(replace(settings, **_read_words(settings)))
    source = settings.cover or settings.repaint
    wrong = {
        "--prompt: say in words what it should sound like": not settings.prompt.strip(),
        "--cover and --repaint: give one of them": bool(settings.cover and settings.repaint),
        "--seconds: a cover or repaint is as long as its song; leave it out": bool(source) and bool(settings.seconds),
        "--cover-strength: it is for --cover": not settings.cover and settings.cover_strength != 1,
        "--from and --to: they are for --repaint": not settings.repaint and (settings.start, settings.end) != (0, None),
    }
    for reason, is_wrong in wrong.items():
        if is_wrong:
            raise InputError(reason)
    for path in (settings.lyrics, source, settings.reference):
        if path is not None and not Path(path).is_file():
            raise FileError(path, "there is no such file")


def resolve(pipe: AceStepPipeline, settings: PlaySettings) -> tuple[PlaySettings, tuple[str, ...]]:
    """The settings with the defaults of the model and in the words of its training, and what to remark on them."""
    check(settings)
    if settings.cover and pipe.audio_tokenizer is None:
        raise InputError("--cover: this base has no audio tokenizer; choose one that was converted with it")
    defaults, remarks = playing_defaults(pipe), []
    chosen = {name: value for name, value in defaults.items() if getattr(settings, name) is None}
    if pipe.is_turbo and settings.guidance not in (None, 1.0):
        remarks.append("--guidance is left out: a turbo model has it in its weights")
        chosen["guidance"] = 1.0
    if settings.seconds is None and not (settings.cover or settings.repaint):
        chosen["seconds"] = SECONDS
    return replace(settings, **chosen | _read_words(settings)), tuple(remarks)


def _read_words(settings: PlaySettings) -> dict:
    """Tempo, key, metre and language as ACE-Step writes them."""
    readers = {"bpm": read_bpm, "key": read_key, "metre": read_metre, "language": read_language}
    return {name: read(value) for name, read in readers.items() if (value := getattr(settings, name)) is not None}


# --- what the pipeline is given --------------------------------------------------------------------------------


def _arguments(pipe: AceStepPipeline, settings: PlaySettings) -> tuple[dict, Audio | None]:
    """Keywords of the pipeline, and the song that is covered or repainted, as it is in its file."""
    path = settings.cover or settings.repaint
    source = read_audio(path) if path else None
    seconds = source.seconds if source else settings.seconds
    if seconds > LONGEST:
        raise InputError(f"{path} lasts {seconds:.0f} seconds, ACE-Step plays at most {LONGEST:g}; cut it")
    given = {
        "prompt": settings.prompt,
        "lyrics": _words(settings.lyrics),
        "audio_duration": seconds,
        "vocal_language": settings.language,
        "bpm": settings.bpm,
        "keyscale": settings.key,
        "timesignature": settings.metre,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "shift": settings.shift,
        "task_type": "cover" if settings.cover else "repaint" if settings.repaint else "text2music",
    }
    if source:
        given["src_audio"] = _tensor(pipe, source)
    if settings.reference:
        given["reference_audio"] = _tensor(pipe, read_audio(settings.reference))
    if settings.cover:
        given["audio_cover_strength"] = settings.cover_strength
    if settings.repaint:
        end = source.seconds if settings.end is None else settings.end
        if not 0 <= settings.start < end <= source.seconds + 1e-3:
            told = f"--from {settings.start:g} --to {end:g}"
            raise InputError(
                f"{told}: choose a stretch of {settings.repaint}, which lasts {source.seconds:.1f} seconds"
            )
        given |= {"repainting_start": settings.start, "repainting_end": end}
    return given, source


def _words(path: Path | None) -> str:
    """The lyrics in a file, as those that are learned."""
    if path is None:
        return INSTRUMENTAL
    try:
        return clean(decoded(Path(path).read_bytes())) or INSTRUMENTAL
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, f"cannot be read as text: {getattr(error, 'strerror', None) or error}") from None


def _tensor(pipe: AceStepPipeline, audio: Audio) -> torch.Tensor:
    """(channels, samples) as the pipeline hears it, filled up with silence to whole latents."""
    import torch

    audio = audio.with_channels(pipe.vae.config.audio_channels).resampled(pipe.sample_rate)
    samples = torch.from_numpy(np.ascontiguousarray(audio.samples.T))
    return torch.nn.functional.pad(samples, (0, -samples.shape[1] % pipe.vae.hop_length))


# --- one take --------------------------------------------------------------------------------------------------


def _played(pipe: AceStepPipeline, given: dict, seed: int, report: Reporter) -> Audio:
    import torch

    def after_step(pipe, step, timestep, values):
        steps = given["num_inference_steps"]
        report(Progress((step + 1) / steps, f"step {step + 1} of {steps}"))
        return values

    cards = [pipe.device.index or 0] if pipe.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cards):
        torch.manual_seed(seed)
        drawn = torch.Generator().manual_seed(seed)
        remedy = "give fewer --seconds, close what else uses the card, or add --device cpu"
        with enough_memory(f"for {given['audio_duration']:g} seconds", remedy):
            made = pipe(**given, generator=drawn, callback_on_step_end=after_step).audios[0]
    samples = made.float().cpu().numpy().T
    if not np.isfinite(samples).all():
        raise InputError("the model answers with NaN; use a lower scale of the adapter, or an earlier checkpoint")
    length = round(given["audio_duration"] * pipe.sample_rate)
    return Audio(np.ascontiguousarray(samples[:length]), pipe.sample_rate)


def spliced(song: Audio, played: Audio, start: float, end: float | None) -> Audio:
    """A song with a stretch of what was played in it, and short cross-fades; sample by sample the song elsewhere.

    What was played is brought to the song's sample rate and channels. The model plays the whole song, at a level of its
    own: the stretch is made as loud as what it played around it needs to be to agree with the song.
    """
    played = played.with_channels(song.channels).resampled(song.sample_rate)
    length, rate = len(song.samples), song.sample_rate
    made = np.zeros_like(song.samples)
    made[: len(played.samples)] = played.samples[:length]
    first, last = round(start * rate), length if end is None else round(end * rate)
    weight = np.zeros(length, np.float32)
    weight[first:last] = 1
    fade = min(round(FADE * rate), (last - first) // 2)
    ramp = (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
    if first > 0:
        weight[first : first + fade] = ramp
    if last < length:
        weight[last - fade : last] = ramp[::-1]
    made *= _gain(song.samples[weight == 0], made[weight == 0])
    return Audio(
        np.where(weight[:, None] > 0, song.samples + weight[:, None] * (made - song.samples), song.samples), rate
    )


def _gain(wanted: np.ndarray, have: np.ndarray) -> float:
    """What makes `have` as loud as `wanted`; 1 where one of them is silent."""
    levels = [math.sqrt(float(np.square(part).mean())) if part.size else 0.0 for part in (wanted, have)]
    return float(np.clip(levels[0] / levels[1], 1 / LOUDER, LOUDER)) if min(levels) > 1e-5 else 1.0
