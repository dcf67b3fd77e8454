"""What a codec loses, before anything is trained on its latents.

    found = check_codec("my-codec", "recordings", "report")      report/report.html, report.json, sounds, pictures

Excerpts of a folder of recordings go to latents and back, and are compared with what they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .. import page
from ..config import NotNegative, Positive, check, updated
from ..errors import InputError
from ..files import new_folder, strict_json, write_file
from ..jobs import refuse_occupied
from ..progress import Progress, Reporter, unheard
from ..statistics import mean_known
from . import notes
from .codecs import LOUDNESS, Codec, open_codec
from .crops import Stretch, find
from .features import onsets
from .spectrogram import spectrograms
from .wave import Audio, listen, write_audio

WINDOWS = (512, 2048, 8192)  # samples of the spectra that are compared
ENOUGH = 0.95  # of the source's own F1
NOISE = 0.3  # standard deviations of latents, as a model might be wrong by
FRAME = 0.1  # seconds in which the balance of left and right is measured
SHORTEST = 2.0  # seconds of a recording that can be checked
ABOUT = {
    "loudness_error": "LU, of the excerpt",
    "spectral_distance": "squared error of the roots of magnitudes over their squared size, both channels, mean over "
    f"windows of {', '.join(map(str, WINDOWS))} samples: 0 the same, 1 silence",
    "balance_error": "dB between the channels, mean over a tenth of a second each, weighted by power",
    "onset_f1": "onsets (any attack) found in the round trip against those found in the source, 50 ms",
    "note_f1": "the same with pitches, as basic-pitch hears them",
    "note_f1_of_midi": "notes that basic-pitch hears in the round trip against the MIDI file beside the recording",
    "note_f1_of_midi_relative": "the same, divided by basic-pitch's score on the source: what the codec is judged by",
}


@dataclass(frozen=True)
class CheckSettings:
    """What to listen to."""

    excerpts: Positive[int] = 8
    """Excerpts, spread over the recordings and over each of them."""
    seconds: Positive[float] = 20.0
    """Length of an excerpt."""
    sounds: NotNegative[int] = 4
    """Excerpts to keep as sound and picture."""
    griffin_lim: bool = False
    """Also decode with phases by Griffin-Lim, the plain reference (codecs of kind own)."""
    seed: NotNegative[int] = 0
    """Where the excerpts begin."""


@dataclass(frozen=True)
class RoundTrip:
    """What a source became. `found` maps each way of decoding to its measures; `sounds` to what it sounds like."""

    name: str
    start: float
    source: Audio
    sounds: dict[str, Audio]
    found: dict[str, dict[str, float]]


def check_codec(
    codec: Codec | str | Path,
    folder: str | Path,
    out: str | Path,
    settings: CheckSettings | None = None,
    *,
    notes_of: Callable[[Path], np.ndarray | None] = lambda path: None,
    report: Reporter = unheard,
    **changes,
) -> dict:
    """Measure a codec on a folder of recordings; a page, figures, sounds and pictures into the new folder `out`.

    `notes_of` gives the notes of a recording, (notes, 2) of seconds and MIDI pitch, where they are known. `changes` are
    fields of CheckSettings. Raises InputError where `out` is not empty, EmptyCorpus for a folder without usable sound.
    """
    settings, out = updated(CheckSettings, settings, changes), Path(out)
    check(settings)
    refuse_occupied(out)
    codec = open_codec(codec) if isinstance(codec, str | Path) else codec
    if settings.griffin_lim and codec.kind != "own":
        raise InputError(f"--griffin-lim: a codec of kind {codec.kind} has no spectra without phases; leave it out")
    places = _places(folder, codec, settings)
    checked = []
    for number, (stretch, start) in enumerate(places):
        checked.append(_excerpt(codec, stretch, start, settings, notes_of))
        report(Progress((number + 1) / len(places), stretch.path.name))
    facts = _facts(codec, checked)
    with new_folder(out):
        _write(out, facts, checked[: settings.sounds])
    return facts


def _places(folder: str | Path, codec: Codec, settings: CheckSettings) -> list[tuple[Stretch, float]]:
    """Recordings and seconds, one in each of so many equal parts of all the sound there is."""
    whole = find(folder, shortest=SHORTEST, hear=partial(listen, channels=codec.channels))
    ends = np.cumsum([one.seconds for one in whole])
    rng = np.random.default_rng(settings.seed)
    at = (np.arange(settings.excerpts) + rng.random(settings.excerpts)) * ends[-1] / settings.excerpts
    places = []
    for second in at:
        number = int(np.searchsorted(ends, second, side="right"))
        within = second - (ends[number] - whole[number].seconds)
        places.append((whole[number], float(np.clip(within, 0, max(whole[number].seconds - settings.seconds, 0)))))
    return places


def _excerpt(codec: Codec, stretch: Stretch, start: float, settings: CheckSettings, notes_of) -> RoundTrip:
    how = {"sample_rate": codec.sample_rate, "channels": codec.channels}
    source = stretch.read(start, settings.seconds, **how)
    latents = codec.encode(source)
    drawn = np.random.default_rng(settings.seed).standard_normal(latents.shape).astype(np.float32)
    sounds = {"round trip": codec.decode(latents), "noise on latents": codec.decode(latents + NOISE * drawn)}
    if settings.griffin_lim:
        sounds["griffin-lim"] = codec.decode(latents, phase="griffin-lim")
    sounds = {name: Audio(sound.samples[: len(source.samples)], codec.sample_rate) for name, sound in sounds.items()}
    played = notes_of(stretch.path)
    if played is not None:
        played = played[(played[:, 0] >= start) & (played[:, 0] < start + source.seconds)] - [start, 0]
    heard = _Source(source, played)
    return RoundTrip(
        stretch.path.name, start, source, sounds, {name: heard.compare(one) for name, one in sounds.items()}
    )


class _Source:
    """A source, and all that is measured in it once."""

    def __init__(self, source: Audio, played: np.ndarray | None):
        self.source, self.played = source, played
        self.onsets = onsets(source)
        self.notes = notes.transcribe(source) if notes.available() else None

    def compare(self, sound: Audio) -> dict[str, float]:
        """The measures of ABOUT, for one sound that is meant to be the source."""
        found = {
            "loudness_error": _finite(sound.loudness) - _finite(self.source.loudness),
            "spectral_distance": spectral_distance(sound.samples, self.source.samples),
            "onset_f1": notes.onset_score(onsets(sound), self.onsets)["f1"],
        }
        if sound.channels == 2:
            found["balance_error"] = balance_error(sound, self.source)
        if self.notes is not None:
            heard = notes.transcribe(sound)
            found["note_f1"] = notes.onset_score(heard, self.notes)["f1"]
            if self.played is not None and len(self.played):
                own = notes.onset_score(self.notes, self.played)["f1"]
                found["note_f1_of_midi"] = notes.onset_score(heard, self.played)["f1"]
                if own:  # else there is nothing to judge the codec by
                    found["note_f1_of_midi_relative"] = found["note_f1_of_midi"] / own
        return found


def _finite(loudness: float) -> float:
    return max(loudness, -70.0)


def spectral_distance(sound: np.ndarray, source: np.ndarray) -> float:
    """Squared error of the square roots of magnitudes over their squared size, both (samples, channels), mean over
    WINDOWS; 0 the same, 1 silence. Phases do not count."""
    import torch

    errors = []
    for size in WINDOWS:
        window = torch.hann_window(size)
        one, other = (
            torch.stft(torch.from_numpy(np.ascontiguousarray(x.T)), size, size // 4, window=window, return_complex=True)
            for x in (sound, source)
        )
        roots, true = one.abs().sqrt(), other.abs().sqrt()
        errors.append(float((roots - true).square().sum() / true.square().sum().clamp(min=1e-9)))
    return float(np.mean(errors))


def balance_error(sound: Audio, source: Audio) -> float:
    """Mean difference, in dB, of the level of left over right, in stretches of FRAME weighted by the source's power."""
    size = round(FRAME * source.sample_rate)
    count = len(source.samples) // size
    if not count:
        return 0.0
    cut = [x.samples[: count * size].reshape(count, size, 2).astype(np.float64) for x in (sound, source)]
    power = [np.square(x).mean(axis=1) + 1e-10 for x in cut]
    ratio = [10 * np.log10(x[:, 0] / x[:, 1]) for x in power]
    return float(np.average(np.abs(ratio[0] - ratio[1]), weights=power[1].sum(axis=1)))


# --- the report ------------------------------------------------------------------------------------------------


def _facts(codec: Codec, checked: list[RoundTrip]) -> dict:
    names = [name for name in ABOUT if any(name in one.found["round trip"] for one in checked)]
    measures = {
        way: {name: mean_known(one.found[way].get(name) for one in checked) for name in names}
        for way in checked[0].found
    }
    facts = {
        "codec": {name: getattr(codec, name) for name in ("kind", "fingerprint", "sample_rate", "channels")},
        "excerpts": [{"file": one.name, "second": round(one.start, 2), "measures": one.found} for one in checked],
        "measures": measures,
        "loudness": LOUDNESS,
    }
    facts["codec"] |= {"latent_dim": codec.latent_dim, "latent_rate": round(codec.latent_rate, 3)}
    return facts | {"verdict": verdict(measures["round trip"])}


def verdict(found: dict[str, float]) -> list[str]:
    """What the figures say, and what to do about it."""
    more = "train longer (--resume with more --max-minutes), or with more --latent-dim"
    name = next(name for name in ("note_f1_of_midi_relative", "note_f1", "onset_f1") if name in found)
    kept = found[name]
    judged = "the notes are kept" if kept >= ENOUGH else f"notes get lost; {more}"
    lines = [f"{page.spaced(name)} {kept:.3f}: {judged}"]
    if name != "note_f1_of_midi_relative":
        lines[0] += " (1.000 is exact; with MIDI beside the recordings, basic-pitch's own errors are measured too)"
    if abs(found["loudness_error"]) > 1:
        lines.append(f"loudness is {found['loudness_error']:+.1f} LU off; {more}")
    if not notes.available():
        lines.append(f"pitches were not looked at: {notes.missing()}")
    return lines


def lines(facts: dict) -> list[str]:
    """The figures as text."""
    told = [f"{'':26s}" + "".join(f"{way:>18s}" for way in facts["measures"])]
    for name in facts["measures"]["round trip"]:
        values = "".join(f"{found[name]:18.3f}" for found in facts["measures"].values())
        told.append(f"{page.spaced(name):26s}{values}")
    return [*told, *facts["verdict"]]


def _write(out: Path, facts: dict, shown: list[RoundTrip]) -> None:
    parts = [page.tag("h1", "What the codec keeps"), *(page.tag("p", line) for line in facts["verdict"])]
    names = facts["measures"]["round trip"]
    rows = [[page.spaced(name), *(f"{found[name]:.3f}" for found in facts["measures"].values())] for name in names]
    parts.append(page.html_table(["", *facts["measures"]], rows))
    parts += [page.tag("p", f"{page.spaced(name)}: {ABOUT[name]}", "note") for name in names]
    for number, one in enumerate(shown):
        sounds = {"source": one.source} | one.sounds
        picture = spectrograms(sounds)
        write_file(out / f"{number + 1}.png", picture)
        parts += [page.tag("h2", f"{one.name}, from {one.start:.1f} s"), page.embedded(one.name, picture)]
        for name, sound in sounds.items():
            path = out / f"{number + 1} {name}.wav"
            write_audio(path, sound)
            parts.append(f"<p>{name}: <audio controls src='{path.name}'></audio></p>")
    write_file(out / "report.html", page.document("What the codec keeps", parts))
    write_file(out / "report.json", strict_json(facts))
