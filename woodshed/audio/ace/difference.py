"""Does the adapter do anything? The same seeds with and without it, measured, and in plain words.

The commonest complaint about adapters is "I trained and hear nothing". Two takes of one seed begin with the same noise,
so what differs between them is the adapter's work alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...statistics import mean_known
from ..features import Features, describe, mel_decibels
from ..wave import Audio
from .layouts import Adapter

# Spectra that differ by 1 dB on average sound the same: K. Paliwal and B. Atal, "Efficient vector quantization of LPC
# parameters at 24 bits/frame", IEEE Trans. Speech and Audio Processing 1 (1993). Loudness: half a unit is not noticed.
INAUDIBLE_DB, INAUDIBLE_LU = 1.0, 0.5
FAINT = 0.01  # change of the weights
RANGE = 60.0  # dB below the loudest that are compared
BANDS = 64


@dataclass(frozen=True)
class Difference:
    """One seed, without and with the adapters."""

    base: Features
    adapted: Features
    spectral: float  # dB, the mean difference of the two spectra over time
    same: bool  # sample by sample

    @property
    def audible(self) -> bool:
        louder = abs(self.adapted.loudness - self.base.loudness)
        return self.spectral >= INAUDIBLE_DB or (np.isfinite(louder) and louder >= INAUDIBLE_LU)


def difference(base: Audio, adapted: Audio) -> Difference:
    """Measure two takes of one seed."""
    same = base.samples.shape == adapted.samples.shape and bool(np.array_equal(base.samples, adapted.samples))
    return Difference(describe(base), describe(adapted), log_spectral_distance(base, adapted), same)


def log_spectral_distance(one: Audio, other: Audio) -> float:
    """dB: the root mean square difference of two mel spectra in each frame, its mean over the frames that sound."""
    spectra = [mel_decibels(audio, BANDS) for audio in (one, other)]
    frames = min(spectrum.shape[1] for spectrum in spectra)
    spectra = [spectrum[:, :frames] for spectrum in spectra]
    top = max(float(spectrum.max()) for spectrum in spectra)
    first, second = (np.maximum(spectrum, top - RANGE) for spectrum in spectra)
    sounding = np.maximum(first, second).max(axis=0) > top - RANGE
    if not sounding.any():
        return 0.0
    return float(np.sqrt(np.square(first - second).mean(axis=0))[sounding].mean())


# --- in words --------------------------------------------------------------------------------------------------

MEASURES = {
    "loudness": "loudness, LUFS",
    "dynamic_range": "dynamic range, dB",
    "centroid": "brightness, Hz",
    "onset_rate": "onsets a second",
    "percussive": "struck, not held",
    "tempo": "tempo, bpm",
}


def table(differences: Sequence[Difference]) -> list[tuple[str, str, str, str]]:
    """Rows of measure, base, with the adapter, difference; the mean over all seeds."""
    rows, sides = [], list(zip(*((found.base, found.adapted) for found in differences), strict=True))
    for name, about in MEASURES.items():
        base, adapted = (mean_known(getattr(each, name) for each in side) for side in sides)
        change = f"{adapted - base:+.2f}" if np.isfinite(adapted - base) else ""
        rows.append((about, *(f"{value:.2f}" if np.isfinite(value) else "-" for value in (base, adapted)), change))
    keys = [_commonest(each.key for each in side) for side in sides]
    rows.append(("key", *keys, "" if keys[0] == keys[1] else "another"))
    rows.append(("spectral distance, dB", "", "", f"{mean_known(each.spectral for each in differences):.2f}"))
    return rows


def _commonest(values: Iterable[str | None]) -> str:
    return Counter(value or "-" for value in values).most_common(1)[0][0]


def between_seeds(takes: Sequence[Audio]) -> float:
    """dB between takes of the base that have different seeds: what a change of everything amounts to; NaN for one."""
    return mean_known(log_spectral_distance(one, other) for one, other in pairwise(takes))


def verdict(
    differences: Sequence[Difference],
    adapters: Sequence[tuple[Adapter, float]],
    changes: Sequence[float],
    *,
    prompt: str,
    base: str = "",
) -> list[str]:
    """Whether one hears a difference, in plain words, and if not, what probably is the matter.

    `changes`: for each adapter, by how much it changes the weights at scale 1.
    """
    heard = sum(found.audible for found in differences)
    if heard:
        count = "" if len(differences) == 1 else f" in {heard} of {len(differences)} takes"
        return [f"There is an audible difference{count}."]
    how = "not one sample differs" if all(found.same for found in differences) else "below what an ear can tell"
    reasons = _reasons(adapters, changes, prompt=prompt, base=base)
    return [f"There is no audible difference: {how}. Likely reasons:", *(f"- {reason}" for reason in reasons)]


def _reasons(adapters, changes, *, prompt: str, base: str) -> list[str]:
    reasons = []
    for (adapter, scale), change in zip(adapters, changes, strict=True):
        name, facts = adapter.path, adapter.facts
        if scale == 0:
            reasons.append(f"{name} has the scale 0; give {name}:1")
            continue
        if change * abs(scale) < FAINT:
            told = f"{name} changes the weights it lies over by {change * abs(scale):.2%} only"
            reasons.append(f"{told}; train longer, at a higher --learning-rate, or give it a higher scale")
        words = [word for word in common_words(facts.get("captions", ())) if word.casefold() not in prompt.casefold()]
        if words:
            called = ", ".join(map(repr, words))
            reasons.append(f"all that {name} has learned was called {called}, which the prompt leaves out")
        trained_on = facts.get("base_fingerprint", "")
        if base and trained_on and trained_on != base:
            reasons.append(f"{name} was trained on another base, {facts.get('base', trained_on)}")
        reasons += [f"{name}: {remark}" for remark in adapter.remarks]
    spread = "what it has learned is what the base plays at this prompt anyway; try another prompt, or a higher scale"
    return reasons or [spread]


def common_words(captions: Sequence[str]) -> list[str]:
    """What stands between the commas of all of several captions: the trigger tag, where there is one."""
    parts = [[part.strip() for part in caption.split(",")] for caption in captions]
    return [part for part in parts[0] if all(part in others for others in parts)] if len(parts) > 1 else []
