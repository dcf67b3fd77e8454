"""Takes beside recordings that the run has not learned from: how near they sound, and whether they copy.

    found = evaluate(open_run("my-sound"), "recordings")      found.facts; save(found, "my-sound/evaluations")

Five sets of clips of one length: held-out recordings, recordings the run has learned from, the latter through the
codec, takes, and random latents through the codec. Distances are from the held-out clips: what the learned recordings
have is as near as music of this kind comes, the codec's is the least a model of its latents can reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import updated
from ...errors import EmptyCorpus
from ...statistics import frechet_distance
from .. import features
from ..codecs import Codec, gain
from ..wave import Audio, read_audio
from . import health
from . import latents as kept
from .generate import generate
from .latents import Latents, Recording
from .run import Run
from .settings import EvaluateSettings

SETS = ("held-out", "learned", "codec", "takes", "random")
STRETCH = 3.0  # seconds whose latents are looked for among those learned
MOST_STRETCHES = 40_000
CLOSEST = 5  # stretches of takes that are named
LEVEL = 5  # percent of the held-out stretches that are nearer to what was learned than what counts as near


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`facts` are all figures; `clips` what was heard, by set."""

    facts: dict
    clips: dict[str, list[Audio]]


def evaluate(
    run: Run,
    folder: str | Path,
    settings: EvaluateSettings | None = None,
    *,
    progress: Callable[[float, str], None] = lambda share, text: None,
    **changes,
) -> Evaluation:
    """Compare a run with recordings in a folder; those it has learned from are left out. `changes` are fields of
    EvaluateSettings. Raises EmptyCorpus where nothing new is in the folder, RunError where what the run has learned
    from cannot be found.
    """
    settings, codec = updated(EvaluateSettings, settings, changes), run.codec
    manifest = kept.read_manifest(run.folder)
    held = _held_out(folder, manifest, run)
    store = run.folder / manifest["latents"]
    progress(0.0, "encoding")
    known = kept.reopened(run.folder, manifest, "train", codec)
    new = kept.encode(held, folder, codec, keep=store, told=lambda share, text: progress(0.3 * share, text))
    progress(0.3, "playing")
    length = {"seconds": settings.seconds, "truncation": settings.truncation, "seed": settings.seed}
    takes = list(generate(run, takes=settings.clips, checkpoint=settings.checkpoint, **length))
    rng = np.random.default_rng(settings.seed)
    trained = [one for one in manifest["recordings"] if one.split == "train"]
    clips = {"held-out": _clips(held, Path(folder), codec, settings, rng)}
    clips["learned"] = _clips(trained, run.folder / manifest["folder"], codec, settings, rng)
    clips["codec"] = [codec.decode(codec.encode(clip)) for clip in clips["learned"]]
    clips["takes"] = [take.audio for take in takes]
    shape = (math.ceil(settings.seconds * codec.latent_rate), codec.latent_dim)
    random = [rng.standard_normal(shape).astype(np.float32) for _ in range(settings.clips)]
    clips["random"] = [codec.decode(one) for one in random]
    progress(0.5, "listening")
    facts = {"run": run.folder.absolute().name, "step": run.step(settings.checkpoint)}
    facts |= {
        "folder": Path(folder).name,
        "recordings": len(held),
        "minutes": round(sum(r.seconds for r in held) / 60, 1),
    }
    facts |= {"clips": settings.clips, "seconds": settings.seconds, "truncation": settings.truncation}
    facts |= {"seed": settings.seed, "frechet": _distances(clips), "sound": _sounds(clips, progress)}
    facts["neighbours"] = _neighbours(known, new, [take.latents for take in takes], random, codec)
    progress(1.0, "")
    return Evaluation(facts, clips)


def _held_out(folder: str | Path, manifest: dict, run: Run) -> list[Recording]:
    learned = {one.digest for one in manifest["recordings"] if one.split == "train"}
    found = kept.survey(folder, run.codec, run=run.folder, window=run.window)
    held = [one for one in found if one.split != "skipped" and one.digest not in learned]
    if not held:
        count = sum(one.digest in learned for one in found)
        raise EmptyCorpus(f"{folder}: the run has learned from all {count} usable recordings; give others")
    return held


def _clips(recordings: list[Recording], folder: Path, codec: Codec, settings: EvaluateSettings, rng) -> list[Audio]:
    """Stretches from anywhere in the recordings, each recording as likely as it is long, at the codec's loudness."""
    seconds = np.array([one.seconds for one in recordings])
    clips = []
    for index in rng.choice(len(recordings), settings.clips, p=seconds / seconds.sum()):
        one = recordings[index]
        start = rng.uniform(0, max(one.seconds - settings.seconds, 0))
        how = {"sample_rate": codec.sample_rate, "channels": codec.channels, "seconds": settings.seconds}
        audio = read_audio(folder / one.file, start=start, **how)
        clips.append(Audio(audio.samples * np.float32(gain(one.loudness)), audio.sample_rate))
    return clips


def _distances(clips: dict[str, list[Audio]]) -> dict[str, dict[str, float]]:
    """Frechet distances of timbre and chroma from the held-out clips, by set."""
    found = {}
    for name, measure in (("timbre", features.timbre), ("chroma", turned_chroma)):
        frames = {kind: np.concatenate([measure(audio) for audio in audios]) for kind, audios in clips.items()}
        scale = 1.0 if name == "timbre" else 1000.0  # rows of chroma sum to 1
        others = [kind for kind in SETS if kind != "held-out"]
        found[name] = {kind: round(scale * frechet_distance(frames[kind], frames["held-out"]), 3) for kind in others}
    return found


def turned_chroma(audio: Audio) -> np.ndarray:
    """Chroma frames (frames, 12) from the strongest pitch class of the clip upwards, so that keys do not count."""
    frames = features.chroma(audio)
    return np.roll(frames, -int(frames.sum(axis=0).argmax()), axis=1)


def _sounds(clips: dict[str, list[Audio]], progress) -> dict[str, dict[str, float]]:
    """Means over the clips of each set."""
    found = {}
    for number, (kind, audios) in enumerate(clips.items()):
        progress(0.6 + 0.3 * number / len(clips), f"listening to {kind}")
        onset_rate = np.mean([len(features.onsets(audio)) / audio.seconds for audio in audios])
        flatness, centroid = np.mean([health.spectrum(audio) for audio in audios], axis=0)
        loudness = np.mean([max(audio.loudness, -100.0) for audio in audios])  # silence is -inf LUFS
        means = {"onset_rate": onset_rate, "centroid": centroid, "loudness": loudness, "flatness": flatness}
        found[kind] = {name: round(float(value), 5) for name, value in means.items()}
    return found


# --- copying -----------------------------------------------------------------------------------------------------


def _neighbours(known: Latents, new: Latents, takes: list, random: list, codec: Codec) -> dict:
    """How near each stretch comes to what was learned; and the nearest, named."""
    size = max(2, round(STRETCH * codec.latent_rate))
    every = max(1, math.ceil(len(known.data) / MOST_STRETCHES))
    starts, learned = known.windows(size, every=every)
    _, held = new.windows(size, every=max(1, size // 2))
    held = held[np.linspace(0, len(held) - 1, min(len(held), 1000)).astype(int)]
    asked = {"held-out": held, "takes": _stretches(takes, size), "random": _stretches(random, size)}
    nearest = {name: nearest_learned(stretches, learned) for name, stretches in asked.items() if len(stretches)}
    level = float(np.percentile(nearest["held-out"][0], LEVEL)) if "held-out" in nearest else 0.0
    found: dict = {
        "stretch_seconds": round(size / codec.latent_rate, 2),
        "every_frames": every,
        "level": round(level, 4),
    }
    found["median"] = {name: round(float(np.median(far)), 4) for name, (far, _) in nearest.items()}
    found["nearest"] = {name: round(float(far.min()), 4) for name, (far, _) in nearest.items()}
    if "takes" not in nearest:
        return found
    far, which = nearest["takes"]
    found["share_within_level"] = round(float((far < level).mean()), 4)
    per_take = len(far) // len(takes)
    found["closest"] = []
    for at in _spread(far, per_take):
        file, frame = known.place(int(starts[which[at]]))
        take, stretch = divmod(at, per_take)
        moment = {"take": take + 1, "take_second": round(stretch * (size // 2) / codec.latent_rate, 1)}
        source = {"file": file, "second": round(frame / codec.latent_rate, 1), "distance": round(float(far[at]), 4)}
        found["closest"].append(moment | source)
    return found


def _stretches(pieces: list[np.ndarray], size: int) -> np.ndarray:
    """Overlapping stretches (n, size, latent_dim) of pieces of one length; none where they are shorter."""
    starts = np.arange(0, len(pieces[0]) - size + 1, max(1, size // 2))
    return np.concatenate([piece[starts[:, None] + np.arange(size)] for piece in pieces])


def nearest_learned(asked: np.ndarray, learned: np.ndarray, *, block: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """How far each stretch (n, size, latent_dim) is from the nearest learned one, and which that is: 1 minus the
    cosine, which does not take what is soft or plain for near; 0 is a copy, 1 has nothing in common.
    """
    learned, far, which = _unit(learned), np.empty(len(asked)), np.empty(len(asked), int)
    for first in range(0, len(asked), block):
        alike = _unit(asked[first : first + block]) @ learned.T
        which[first : first + block] = alike.argmax(axis=1)
        far[first : first + block] = 1 - alike.max(axis=1)
    return far, which


def _unit(stretches: np.ndarray) -> np.ndarray:
    """Each stretch as one vector of length 1."""
    flat = stretches.reshape(len(stretches), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def _spread(far: np.ndarray, per_take: int) -> list[int]:
    """The nearest stretches, one a take, the nearest first."""
    best = far.reshape(-1, per_take).argmin(axis=1) + per_take * np.arange(len(far) // per_take)
    return sorted(best.tolist(), key=lambda at: far[at])[:CLOSEST]
