"""A folder of recordings as latents, and the rows that are drawn from them.

Each recording is brought to one loudness and encoded once; what comes of it is kept under the fingerprint of the codec
and the digest of the file, so that neither another name nor another run makes it be encoded again:

    LATENTS/89abcdef01234567-5f2a90c1d3e44b07.safetensors    latents (frames, latent_dim); of stereo also mirrored

RUN/manifest.json says which recordings a run has learned from, which it has not, and which could not be used;
RUN/heard.json what was heard in them, so that only what is new or changed is listened to when a run goes on.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import EmptyCorpus, FileError, RunError
from ...files import found_from, make_folder, read_object, seen_from, write_file, write_object
from ...page import tally
from ...progress import Progress, Reporter, unheard
from ..codecs import Codec, encode_file
from ..crops import ENOUGH
from ..listener import Listener
from ..wave import audio_files, read_audio

MANIFEST, HEARD = "manifest.json", "heard.json"
FEWEST_TO_SPLIT = 5  # recordings, below which none is held out


@dataclass(frozen=True)
class Recording:
    """One file. `split` is train, held-out or skipped; of what is skipped `reason` says why."""

    file: str  # relative to the folder
    digest: str = ""
    seconds: float = 0.0
    loudness: float = 0.0  # LUFS, as recorded, with the channels of the codec
    frames: int = 0
    split: str = "train"
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents of several recordings, one after the other: `data` is (frames, latent_dim) float32, `mirrored` the same
    with left and right exchanged (None where the codec is not stereo); recording k has `frames[k]` of them.
    """

    recordings: tuple[Recording, ...]
    data: np.ndarray
    mirrored: np.ndarray | None

    @property
    def first(self) -> np.ndarray:
        """The frame at which each recording begins, and the end of the last."""
        return np.cumsum([0, *(recording.frames for recording in self.recordings)])

    @property
    def pieces(self) -> list[np.ndarray]:
        """Those of each recording, (frames, latent_dim)."""
        return [self.data[start:end] for start, end in itertools.pairwise(self.first)]

    def starts(self, window: int, *, every: int = 1) -> np.ndarray:
        """The frames at which a window fits into one recording: all, or every so many from its beginning."""
        spans = itertools.pairwise(self.first)
        return np.concatenate([np.zeros(0, int), *(np.arange(a, b - window + 1, every) for a, b in spans)])

    def windows(self, window: int, *, every: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows every so many frames of each recording: their starts, and (windows, window, latent_dim)."""
        starts = self.starts(window, every=every)
        return starts, self.data[starts[:, None] + np.arange(window)]

    def place(self, frame: int) -> tuple[str, int]:
        """The recording that a frame belongs to, and how many frames into it."""
        at = int(np.searchsorted(self.first, frame, side="right")) - 1
        return self.recordings[at].file, int(frame - self.first[at])


def joined(several: list[Latents]) -> Latents:
    """Latents of several folders as one."""
    if len(several) == 1:
        return several[0]
    recordings = tuple(itertools.chain(*(one.recordings for one in several)))
    data, mirrored = np.concatenate([one.data for one in several]), [one.mirrored for one in several]
    return Latents(recordings, data, None if mirrored[0] is None else np.concatenate(mirrored))


# --- reading and encoding a folder -----------------------------------------------------------------------------


def survey(folder: str | Path, codec: Codec, *, run: Path, window: int, hold_out: float = 0.0) -> list[Recording]:
    """Every file of a folder: what can be learned from, and why the rest cannot. Nothing is encoded.

    What is heard is kept in the folder `run`. The held-out share is chosen by content, so that names do not matter.
    Raises EmptyCorpus where nothing is left.
    """
    listener, seen, found = Listener(folder, run / HEARD, channels=codec.channels), set(), []
    for path in audio_files(folder):
        recording = _looked_at(path, listener, window / codec.latent_rate)
        if recording.digest in seen and not recording.reason:
            recording = _skipped(recording, "the same sound as another file")
        seen.add(recording.digest)
        found.append(recording)
    usable = sorted((one for one in found if not one.reason), key=lambda one: one.digest)
    if not usable:
        told = tally(one.reason for one in found)
        raise EmptyCorpus(f"{folder}: nothing to learn from ({told}); give recordings of music")
    listener.save()
    held = min(max(1, round(hold_out * len(usable))), len(usable) - 1)
    held = held if hold_out and len(usable) >= FEWEST_TO_SPLIT else 0
    kept_back = {one.digest for one in usable[:held]}
    return [replace(one, split="held-out") if one.digest in kept_back and not one.reason else one for one in found]


def encode(
    recordings: list[Recording], folder: str | Path, codec: Codec, *, keep: Path, report: Reporter = unheard
) -> Latents:
    """The latents of recordings in a folder, encoded where `keep` does not hold them."""
    pieces = []
    total, done = sum(one.seconds for one in recordings) or 1.0, 0.0
    for one, path in zip(recordings, _kept(recordings, codec, keep), strict=True):
        report(Progress(done / total, f"encoding {one.file}"))
        if not path.exists():
            _encode_one(Path(folder) / one.file, one.loudness, codec, path)
        pieces.append(_read(path))
        done += one.seconds
    data = [piece["latents"] for piece in pieces]
    mirrored = [piece.get("mirrored", piece["latents"]) for piece in pieces] if codec.channels == 2 else None
    sized = tuple(replace(one, frames=len(latents)) for one, latents in zip(recordings, data, strict=True))
    return Latents(sized, np.concatenate(data), np.concatenate(mirrored) if mirrored else None)


def reopened(run: Path, manifest: dict, split: str, codec: Codec, *, report: Reporter = unheard) -> Latents:
    """The latents a run was trained on (or held out), from where it keeps them; encoded again where they are gone.

    Raises RunError where neither latents nor recordings are there.
    """
    recordings = [one for one in manifest["recordings"] if one.split == split]
    keep, folder = manifest["latents"], manifest["folder"]
    for one, kept in zip(recordings, _kept(recordings, codec, keep), strict=True):
        if not kept.exists() and not (folder / one.file).exists():
            raise RunError(run, f"neither its latents ({kept}) nor its recordings ({folder}) are there; put one back")
    return encode(recordings, folder, codec, keep=keep, report=report)


def _kept(recordings: list[Recording], codec: Codec, keep: Path) -> list[Path]:
    """The file in `keep` that holds the latents of each."""
    fingerprint = codec.fingerprint  # all weights are read for it
    return [keep / f"{fingerprint}-{one.digest}.safetensors" for one in recordings]


def write_manifest(run: Path, folder: Path, keep: Path, recordings: list[Recording]) -> None:
    listed = {"folder": seen_from(run, folder), "latents": seen_from(run, keep)}
    listed["recordings"] = [asdict(one) for one in recordings]
    write_object(run / MANIFEST, listed)


def read_manifest(run: Path) -> dict:
    """`folder` and `latents` (paths) and `recordings`. Raises RunError where there is none."""
    try:
        listed = read_object(run / MANIFEST)
        places = {name: found_from(run, listed[name]) for name in ("folder", "latents")}
        return places | {"recordings": [Recording(**one) for one in listed["recordings"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(run, f"its {MANIFEST} cannot be read ({error}); without it its recordings are unknown") from None


def remarks(recordings: list[Recording], *, window_seconds: float) -> Iterator[str]:
    """What someone should know before hours go into training."""
    usable = [one for one in recordings if one.split != "skipped"]
    seconds = sum(one.seconds for one in usable)
    if seconds < ENOUGH:
        yield f"{seconds / 60:.1f} minutes of audio are little: below 10 a model repeats what it heard; give more"
    for reason, count in Counter(one.reason for one in recordings if one.split == "skipped").items():
        yield f"{count} of {len(recordings)} files left out: {reason}"
    if usable and np.median([one.seconds for one in usable]) < 2 * window_seconds:
        yield f"half of the recordings last less than two windows ({2 * window_seconds:.0f} s): try a smaller --window"


def _looked_at(path: Path, listener: Listener, shortest: float) -> Recording:
    recording = Recording(path.relative_to(listener.folder).as_posix())
    try:
        heard, digest = listener.listen(path), listener.digest(path)
    except FileError as error:
        return _skipped(recording, error.reason)
    recording = replace(recording, digest=digest, seconds=heard.seconds)
    if not np.isfinite(heard.loudness):
        return _skipped(recording, "silent")
    recording = replace(recording, loudness=heard.loudness)
    if heard.seconds < shortest:
        return _skipped(recording, f"shorter than a window of {shortest:.1f} s")
    return recording


def _skipped(recording: Recording, reason: str) -> Recording:
    return replace(recording, split="skipped", reason=reason)


def _encode_one(path: Path, loudness: float, codec: Codec, kept: Path) -> None:
    from safetensors.numpy import save

    arrays = {"latents": encode_file(path, codec, loudness=loudness)}
    if codec.channels == 2 and read_audio(path, seconds=0.1).channels > 1:  # of m4a probe() would decode all
        arrays["mirrored"] = encode_file(path, codec, loudness=loudness, mirror=True)
    # safetensors writes memory as it lies, in Fortran's order too
    arrays = {name: np.ascontiguousarray(latents, np.float32) for name, latents in arrays.items()}
    make_folder(kept.parent)
    write_file(kept, save(arrays, metadata={"codec": kept.stem.rpartition("-")[0]}))


def _read(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FileError(path, f"its latents are damaged ({error}); delete it, and it is made again") from None
