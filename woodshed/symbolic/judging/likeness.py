"""Takes beside excerpts of real music: by measures, by histograms of their notes, by the hidden states of a model.

Every figure of the takes has a yardstick: the same figure of real music beside other real music. So it can be read
without knowing what is much or little of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...statistics import frechet_distance
from ..music.measure import MEASURES, NOTE_VALUES, SECONDS, histograms, kl_divergence, measure, overlapped_area
from ..music.score import Score
from ..playing.excerpts import Excerpt

LOW, HIGH = 5, 95  # percentiles that a take should lie between
FEWEST, DRAWS = 4, 8  # samples on each side of a Frechet distance, and how often the real pieces are halved


# --- measures --------------------------------------------------------------------------------------------------


def compare_measures(takes: list[Score], excerpts: list[Excerpt]) -> dict[str, dict]:
    """Every measure that applies: percentiles of the excerpts, the median of the takes, and which share is inside.

    A take is inside between the 5th and 95th percentile of all excerpts; a silent one never is. An excerpt is judged by
    the percentiles of the other pieces (None with a single piece). `pass_rate` is the first share over the second: 1
    for takes that cannot be told from real music in this measure.
    """
    real, ours = [measure(excerpt.score) for excerpt in excerpts], [measure(take) for take in takes]
    pieces = np.array([excerpt.piece for excerpt in excerpts])
    silent = sum(not len(take.notes) for take in takes)
    found = {}
    for name in MEASURES:
        values, played = (np.array([row[name] for row in rows], dtype=np.float64) for rows in (real, ours))
        if np.isfinite(values).any():
            found[name] = _compared(values, pieces, played, silent) | {"values": {"real": rounded(values)}}
            found[name]["values"]["takes"] = rounded(played)
    return found


def overall(measures: dict[str, dict]) -> dict:
    """The mean over all measures of the share of takes inside, of that of real pieces, and the one over the other."""
    told = [found for found in measures.values() if None not in (found["takes_inside"], found["real_inside"])]
    if not told:
        return {"takes_inside": None, "real_inside": None, "pass_rate": None}
    takes, real = (float(np.mean([found[name] for found in told])) for name in ("takes_inside", "real_inside"))
    return {"takes_inside": takes, "real_inside": real, "pass_rate": ratio(takes, real)}


def _compared(values: np.ndarray, pieces: np.ndarray, played: np.ndarray, silent: int) -> dict:
    pieces, values, played = pieces[np.isfinite(values)], values[np.isfinite(values)], played[np.isfinite(played)]
    told = {"real": rounded(np.percentile(values, [LOW, 50, HIGH])), "real_inside": inside_of_others(values, pieces)}
    told |= {"takes": None, "takes_inside": None, "pass_rate": None}
    if len(played) + silent:
        share = float(_inside(played, values).sum() / (len(played) + silent))
        told |= {"takes": rounded(np.median(played)) if len(played) else None, "takes_inside": share}
        told["pass_rate"] = ratio(share, told["real_inside"]) if told["real_inside"] else None
    return told


def inside_of_others(values: np.ndarray, pieces: np.ndarray) -> float | None:
    """The share of values (N,) inside the percentiles of all other pieces; None where there is only one piece."""
    if len(np.unique(pieces)) < 2:
        return None
    return sum(int(_inside(values[pieces == p], values[pieces != p]).sum()) for p in np.unique(pieces)) / len(values)


def _inside(values: np.ndarray, yardstick: np.ndarray) -> np.ndarray:
    low, high = np.percentile(yardstick, [LOW, HIGH])
    return (values >= low) & (values <= high)


def compare_histograms(takes: list[Score], excerpts: list[Excerpt]) -> dict[str, dict]:
    """Notes of all takes against notes of all excerpts: counts, overlapped area, KL divergence of the takes from the
    excerpts in nats. `halves` are the same two figures of every second real piece against the others.
    """
    free = excerpts[0].score.free
    values = {"pitch": np.arange(128), "pitch_class": np.arange(12)}
    order = {piece: rank for rank, piece in enumerate(dict.fromkeys(excerpt.piece for excerpt in excerpts))}
    real, ours = [histograms(excerpt.score) for excerpt in excerpts], [histograms(take) for take in takes]
    odd = np.array([order[excerpt.piece] % 2 for excerpt in excerpts], dtype=bool)
    found = {}
    for name in real[0]:
        counts = np.array([row[name] for row in real])
        told = {"values": np.round(values.get(name, SECONDS if free else NOTE_VALUES), 4).tolist()}
        told |= {"real": counts.sum(0).tolist(), "halves": _alike(counts[odd].sum(0), counts[~odd].sum(0))}
        if ours:
            played = np.sum([row[name] for row in ours], axis=0)
            told |= {"takes": played.tolist()} | _alike(played, counts.sum(0))
        found[name] = told
    return found


def _alike(one: np.ndarray, other: np.ndarray) -> dict:
    figures = {"overlapped_area": overlapped_area(one, other), "kl_divergence": kl_divergence(one, other)}
    return {name: None if np.isnan(value) else value for name, value in figures.items()}


# --- hidden states ---------------------------------------------------------------------------------------------


def compare_hidden(takes: list[Score], excerpts: list[Excerpt], pool: Callable[[Score], np.ndarray]) -> dict:
    """The Frechet distance of takes from real excerpts, and of real excerpts from one another (`floor`).

    The real pieces are halved at random eight times. Each time as many takes as excerpts of the one half are compared
    with the other half, and those excerpts too; the medians are told. So both figures have the same number of samples
    on both sides, and the same bias of few samples. None with fewer than four on a side.
    """
    sounding = [take for take in takes if len(take.notes)]
    ours, real = (np.array([pool(score) for score in some]) for some in (sounding, [e.score for e in excerpts]))
    pieces, rng = np.array([excerpt.piece for excerpt in excerpts]), np.random.default_rng(0)
    found, sizes = [], []
    for _ in range(DRAWS):
        order = rng.permutation(np.unique(pieces))
        half = np.isin(pieces, order[: len(order) // 2])
        count = min(int(half.sum()), len(ours))
        if min(count, int((~half).sum())) < FEWEST:
            continue
        mine, theirs = (rng.permutation(some)[:count] for some in (ours, real[half]))
        found.append([frechet_distance(mine, real[~half]), frechet_distance(theirs, real[~half])])
        sizes.append([count, int((~half).sum())])
    told = {"width": real.shape[1], "distance": None, "floor": None, "ratio": None, "samples": None}
    if found:
        distance, floor = np.median(found, axis=0).tolist()
        told |= {"distance": distance, "floor": floor, "ratio": ratio(distance, floor)}
        told["samples"] = np.median(sizes, axis=0).astype(int).tolist()
    return told


def ratio(one: float, other: float) -> float | None:
    """One over the other; None where that is 0."""
    return float(one / other) if other else None


def rounded(values) -> list | float | None:
    """Numbers for JSON, None for NaN."""
    if np.ndim(values):
        return [rounded(value) for value in values]
    return None if np.isnan(values) else round(float(values), 5)
