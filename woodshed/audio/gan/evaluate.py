"""Takes beside recordings that the run has not learned from: how near they sound, and whether they copy.

    found = evaluate(open_run("my-sound"), "recordings")      found.facts; save(found, "my-sound/evaluations")

Five sets of clips of one length: held-out recordings, recordings the run has learned from, the latter through the
codec, takes, and random latents through the codec. Distances are from the held-out clips: what the learned recordings
have is as near as music of this kind comes, the codec's is the least a model of its latents can reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import updated
from ...errors import EmptyCorpus, RunError
from ...progress import Progress, Reporter, part, unheard
from ...statistics import frechet_distance
from .. import features
from ..codecs import Codec, gain
from ..crops import Stretch
from ..wave import Audio
from . import health, profile
from . import latents as kept
from .copying import neighbours
from .generate import generate, make_latents
from .latents import Recording, joined
from .networks import Generator
from .run import Run, lineage
from .settings import EvaluateSettings

LONG = 8  # half windows of the takes in which repetition is looked for
SETS = ("held-out", "learned", "codec", "takes", "random")


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
    report: Reporter = unheard,
    **changes,
) -> Evaluation:
    """Compare a run with recordings in a folder; those it has learned from are left out. `changes` are fields of
    EvaluateSettings. Raises EmptyCorpus where nothing new is in the folder, RunError where what the run has learned
    from cannot be found.
    """
    settings, codec = updated(EvaluateSettings, settings, changes), run.codec
    network = run.generator(settings.checkpoint)
    manifests = {place: kept.read_manifest(place) for place in lineage(run)}
    manifest = manifests[run.folder]
    found = kept.survey(folder, codec, run=run.folder, window=run.window)
    held = _held_out(folder, found, manifests.values())
    places = {"held-out": [(Path(folder) / one.file, one) for one in held]}
    places["learned"] = _learned(run, manifest, folder, found)
    known = joined([kept.reopened(place, one, "train", codec) for place, one in manifests.items()])
    new = kept.encode(held, folder, codec, keep=manifest["latents"], report=part(report, 0, 0.3))
    report(Progress(0.3, "playing"))
    length = {"seconds": settings.seconds, "truncation": settings.truncation, "seed": settings.seed}
    takes = list(generate(run, takes=settings.clips, checkpoint=settings.checkpoint, **length))
    rng = np.random.default_rng(settings.seed)
    clips = {kind: _clips(several, codec, settings, rng) for kind, several in places.items()}
    clips["codec"] = [codec.decode(codec.encode(clip)) for clip in clips["learned"]]
    clips["takes"] = [take.audio for take in takes]
    shape = (math.ceil(settings.seconds * codec.latent_rate), codec.latent_dim)
    random = [rng.standard_normal(shape).astype(np.float32) for _ in range(settings.clips)]
    clips["random"] = [codec.decode(one) for one in random]
    facts = _asked(run, folder, held, settings)
    facts |= {"frechet": _distances(clips), "sound": _sounds(clips, part(report, 0.5, 0.9))}
    report(Progress(0.9, "looking for copies"))
    facts["repetition"] = _repetition(run, network, settings, {"held-out": new.pieces, "learned": known.pieces})
    facts["neighbours"] = neighbours(known, new, [take.latents for take in takes], random, codec.latent_rate)
    report(Progress(1.0))
    return Evaluation(facts, clips)


def _held_out(folder: str | Path, found: list[Recording], manifests: Iterable[dict]) -> list[Recording]:
    """What neither the run nor its bases have learned from."""
    learned = {one.digest for manifest in manifests for one in manifest["recordings"] if one.split == "train"}
    held = [one for one in found if one.split != "skipped" and one.digest not in learned]
    if not held:
        count = sum(one.digest in learned for one in found)
        raise EmptyCorpus(f"{folder}: the run has learned from all {count} usable recordings; give others")
    return held


def _learned(run: Run, manifest: dict, folder: str | Path, found: list[Recording]) -> list[tuple[Path, Recording]]:
    """The recordings that a run has learned from and their files: where they were, or in the folder that is given now,
    by whatever name."""
    learned = [one for one in manifest["recordings"] if one.split == "train"]
    now = {one.digest: Path(folder) / one.file for one in found if one.digest}
    was = [manifest["folder"] / one.file for one in learned]
    places = [path if path.exists() else now.get(one.digest) for path, one in zip(was, learned, strict=True)]
    if gone := places.count(None):
        what = f"{gone} of the {len(learned)} recordings that it has learned from"
        raise RunError(run.folder, f"{what} are neither in {manifest['folder']} nor in {folder}; put them back")
    return [*zip(places, learned, strict=True)]


def _asked(run: Run, folder: str | Path, held: list[Recording], settings: EvaluateSettings) -> dict:
    """What is judged, and on what."""
    facts = {"run": run.folder.absolute().name, "step": run.step(settings.checkpoint), "folder": Path(folder).name}
    facts |= {"recordings": len(held), "minutes": round(sum(one.seconds for one in held) / 60, 1)}
    facts |= {"clips": settings.clips, "seconds": settings.seconds}
    return facts | {"truncation": settings.truncation, "seed": settings.seed}


def _clips(places: list[tuple[Path, Recording]], codec: Codec, settings: EvaluateSettings, rng) -> list[Audio]:
    """Stretches from anywhere in the recordings, each recording as likely as it is long, at the codec's loudness."""
    seconds = np.array([one.seconds for _, one in places])
    clips = []
    for index in rng.choice(len(places), settings.clips, p=seconds / seconds.sum()):
        path, one = places[index]
        start = rng.uniform(0, max(one.seconds - settings.seconds, 0))
        whole = Stretch(path, 0.0, one.seconds, gain(one.loudness))
        clips.append(whole.read(start, settings.seconds, sample_rate=codec.sample_rate, channels=codec.channels))
    return clips


def _repetition(run: Run, network: Generator, settings: EvaluateSettings, recordings: dict) -> dict:
    """How alike latents are to those half a window before, of recordings (latents by kind) and of LONG takes; `seconds`
    is that time."""
    half = run.window // 2
    seeds, truncation = range(settings.seed, settings.seed + settings.clips), settings.truncation
    takes = [make_latents(network, LONG, seed=seed, truncation=truncation) for seed in seeds]
    found = {kind: profile.repetition(pieces, half) for kind, pieces in (recordings | {"takes": takes}).items()}
    return found | {"seconds": round(half / run.codec.latent_rate, 3)}


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


def _sounds(clips: dict[str, list[Audio]], report: Reporter) -> dict[str, dict[str, float]]:
    """Means over the clips of each set."""
    found = {}
    for number, (kind, audios) in enumerate(clips.items()):
        report(Progress(number / len(clips), f"listening to {kind}"))
        onset_rate = np.mean([len(features.onsets(audio)) / audio.seconds for audio in audios])
        flatness, centroid = np.mean([health.spectrum(audio) for audio in audios], axis=0)
        loudness = np.mean([max(audio.loudness, -100.0) for audio in audios])  # silence is -inf LUFS
        means = {"onset_rate": onset_rate, "centroid": centroid, "loudness": loudness, "flatness": flatness}
        found[kind] = {name: round(float(value), 5) for name, value in means.items()}
    return found
