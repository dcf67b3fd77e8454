"""Chords for a melody beside the written ones: python harmonise.py DATA

DATA is the folder that holds manifest.csv, openewld/ and pop909/. Each system hears a song's melody alone, POP909's on
its annotated beats, OpenEWLD's on the bars of its files, so that pickups are to be found. Agreement
with the written chords is mir_eval's, weighted by duration, from the first melody note to the last. Since many chords
fit a melody, the table also says what a musician would look at, for the written chords as well:

    strong      share of the melody notes that begin a bar or its second half and are chord tones
    clash       share of bars in which a melody note of a beat or longer is a semitone above a tone of its chord
    changes     chords a bar
    entropy     of a song's chords over time, in bits

A last table has `dissonant_overlap` of melody and accompaniment: POP909's own piano, and block chords. With --run the
opening sixteen bars of some melodies are accompanied by a run, two takes each, beside the same over those bars alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bench import new_parser, report
from chord_accuracy import MEASURES, agreement, intervals
from leadsheets import scores, written_pickup
from mir_eval.util import adjust_intervals

from woodshed.symbolic.music.chords import REDUCED, chords_at, merged, pitch_classes, pitched, recognise
from woodshed.symbolic.music.harmonise import harmonise
from woodshed.symbolic.music.keys import estimate_key
from woodshed.symbolic.music.melody import Slots, make_slots, melody_line
from woodshed.symbolic.music.parts import assign_parts
from woodshed.symbolic.music.score import CHORD, NOTE, Score, Track, ends_of, spread
from woodshed.symbolic.playing.perform import perform

MAJOR, MINOR, DOMINANT = 0, 1, 10  # qualities
MAIN_PLACES = (0, 1, 2, 5, 7)  # of slots: where a bar or its second half begins


class Song(NamedTuple):
    """A score with written chords, and its melody alone."""

    kind: str
    score: Score
    melody: Score
    slots: Slots


def load(data: Path, split: str) -> list[Song]:
    songs = []
    for kind, _, score in scores(data, split):
        line = melody_line(score)
        line["track"] = 0
        melody = score.replace(notes=line, pedals=(), chords=(), tracks=(Track("", 0, False, "melody"),))
        songs.append(Song(kind, score, melody, make_slots(melody, written_pickup(score) if kind == "openewld" else 0)))
    return songs


# --- systems --------------------------------------------------------------------------------------------------


def tonic(song: Song) -> np.ndarray:
    """The tonic triad throughout."""
    root, mode, _ = estimate_key(song.melody)
    return np.array([(0, root, MINOR if mode == "minor" else MAJOR, root)], dtype=CHORD)


def template(song: Song) -> np.ndarray:
    """For each bar the triad of the key with most of its melody, by time; of several the commonest."""
    root, mode, _ = estimate_key(song.melody)
    degrees = ((0, 0), (7, 0), (5, 0), (9, 1), (2, 1), (4, 1))
    if mode == "minor":
        degrees = ((0, 1), (7, 0), (5, 1), (8, 0), (3, 0), (10, 0))
    roots, qualities = (np.array(column) for column in zip(*degrees, strict=True))
    roots = (roots + root) % 12
    notes, slots = song.melody.notes, song.slots
    bars = np.append(slots.edges[slots.starts], slots.edges[-1])
    note, bar, length = spread(notes, bars)
    time = np.bincount(bar * 12 + notes["pitch"][note] % 12, length, (len(bars) - 1) * 12).reshape(-1, 12)
    best = (time @ pitch_classes(roots, qualities, roots).T).argmax(1)
    return merged(np.rec.fromarrays([bars[:-1], roots[best], qualities[best], roots[best]], CHORD))


def freely(song: Song) -> np.ndarray:
    """Without bars and beats, as in free time."""
    chords = harmonise(song.melody.freed())
    chords["tick"] = song.score.ticks(chords["tick"] / 1000)
    return chords


SYSTEMS: dict[str, Callable[[Song], np.ndarray]] = {
    "written": lambda song: song.score.chords,
    "harmonise": lambda song: harmonise(song.melody, keep_grid=True),
    "harmonise, in free time": freely,
    "template": template,
    "recognise": lambda song: recognise(song.melody),
    "tonic": tonic,
}


# --- measures -------------------------------------------------------------------------------------------------


def agreement_with_written(song: Song, chords: np.ndarray) -> list[float]:
    """Root, majmin and sevenths of mir_eval between the melody's first note and its end."""
    end = float(song.score.seconds(song.melody.end))
    begin = float(song.score.seconds(song.melody.notes["onset"][0]))
    ours, labels = intervals(song.score, plain(chords), end)
    written, names = adjust_intervals(*intervals(song.score, plain(song.score.chords), end), begin, end, "N", "N")
    found = dict(zip(MEASURES, agreement(written, names, ours, labels), strict=True))
    return [found[name] for name in ("root", "majmin", "sevenths")]


def plain(chords: np.ndarray) -> np.ndarray:
    """The chords with their token qualities, which mir_eval knows."""
    rows = chords.copy()
    rows["quality"] = REDUCED[chords["quality"]]
    return rows


def strong_tones(song: Song, chords: np.ndarray) -> float:
    """The share of notes on strong beats that are tones of their chord; notes without a chord do not count."""
    notes, slots = song.melody.notes, song.slots
    slot = slots.at(notes["onset"])
    strong = np.isin(slots.place[slot], MAIN_PLACES) & (notes["onset"] == slots.edges[slot])
    found = chords_at(chords, notes["onset"][strong])
    tones = pitch_classes(found["root"], found["quality"], found["bass"])
    inside = tones[np.arange(len(found)), notes["pitch"][strong] % 12]
    return float(inside[found["root"] >= 0].mean()) if (found["root"] >= 0).any() else np.nan


def clashes(song: Song, chords: np.ndarray) -> float:
    """The share of sung bars in which a note of at least a beat lies a semitone above a tone of its chord."""
    notes, slots = song.melody.notes, song.slots
    edges = np.unique(np.concatenate([[0], chords["tick"], slots.edges[slots.starts], [slots.edges[-1]]]))
    note, cell, length = spread(notes, edges)
    found = chords_at(chords, edges[cell])
    tones = pitch_classes(found["root"], found["quality"], found["bass"])
    rows, pitch = np.arange(len(note)), notes["pitch"][note] % 12
    rubs = tones[rows, (pitch - 1) % 12] & ~tones[rows, pitch]
    bar = slots.bar[slots.at(edges[cell])]
    rubs &= length >= np.diff(slots.edges)[slots.at(edges[cell])]
    sung = np.unique(slots.bar[slots.at(notes["onset"])])
    return len(np.unique(bar[rubs])) / len(sung)


def changes(song: Song, chords: np.ndarray) -> float:
    """Chords a bar, while the melody lasts."""
    sung = slice(*np.searchsorted(chords["tick"], [song.melody.notes["onset"][0], song.melody.end]))
    bars = np.diff(song.slots.bar[song.slots.at(np.array([song.melody.notes["onset"][0], song.melody.end - 1]))])
    return len(merged(chords[sung])) / (int(bars[0]) + 1)


def entropy(song: Song, chords: np.ndarray) -> float:
    """Bits of the chords (root and token quality) at the slots of the melody."""
    first, last = song.slots.at(np.array([song.melody.notes["onset"][0], song.melody.end - 1]))
    found = chords_at(chords, song.slots.edges[first : last + 1])
    found = found[found["root"] >= 0]
    if not len(found):
        return 0.0
    share = np.unique(found["root"] * 100 + REDUCED[found["quality"]], return_counts=True)[1] / len(found)
    return float(-(share * np.log2(share)).sum())


def heard_again(songs: list[Song]) -> dict:
    """How far written chords agree with themselves where a song's melody comes back, note for note, for two bars.

    What no function of two bars of melody can pass. Shares of slots: root, and root with major or minor.
    """
    root, majmin, count = 0, 0, 0
    for song in songs:
        slots, line = song.slots, song.melody.notes
        found = chords_at(song.score.chords, slots.edges[:-1])
        minor = np.isin(REDUCED[found["quality"]], (1, 2, 7, 9, 11, 12, 13))
        bar = slots.bar[slots.at(line["onset"])]
        starts = np.append(slots.starts, len(slots.bar))
        names: dict[tuple, list[int]] = {}
        for one in range(len(starts) - 2):
            rows = line[(bar == one) | (bar == one + 1)]
            if (bar == one).sum() > 1 and (bar == one + 1).any():
                key = tuple(
                    zip((rows["onset"] - slots.edges[starts[one]]).tolist(), rows["pitch"].tolist(), strict=True)
                )
                names.setdefault(key, []).append(one)
        for again in names.values():
            for one, other in pairwise(again):
                a, b = (np.arange(starts[place], starts[place + 1]) for place in (one, other))
                if len(a) == len(b):
                    same = (found["root"][a] == found["root"][b]) & (found["root"][a] >= 0)
                    root, count = root + same.sum(), count + len(a)
                    majmin += (same & (minor[a] == minor[b])).sum()
    return {"slots": count, "root": float(root / max(count, 1)), "majmin": float(majmin / max(count, 1))}


def dissonant_overlap(melody: Score, accompaniment: Score) -> float:
    """The share of the time that both sound in which a tone of the accompaniment rubs against the melody.

    Two tones rub when they are a semitone apart, or that and octaves (minor second, major seventh, minor ninth). The
    scores share their ticks; drums do not count. NaN where the two never sound together.
    """
    sung, played = pitched(melody), pitched(accompaniment)
    edges = np.unique(np.concatenate([times for rows in (sung, played) for times in (rows["onset"], ends_of(rows))]))
    if not len(sung) or not len(played):
        return float("nan")
    upper, lower = (_sounding(rows, edges) for rows in (sung, played))
    rubs = (upper & (np.roll(lower, 1, axis=1) | np.roll(lower, -1, axis=1))).any(1)
    both, length = upper.any(1) & lower.any(1), np.diff(edges)
    return float(length[rubs].sum() / length[both].sum()) if both.any() else float("nan")


def _sounding(notes: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(cells, 12): whether a pitch class sounds between two edges."""
    note, cell, length = spread(notes, edges)
    found = np.zeros((len(edges) - 1, 12), dtype=bool)
    found[cell[length > 0], notes["pitch"][note[length > 0]] % 12] = True
    return found


def block_chords(chords: np.ndarray, end: int, ticks_per_quarter: int) -> Score:
    """Every chord held below middle C until the next."""
    stops = np.append(chords["tick"][1:], max(end, int(chords["tick"][-1]) + 1))
    tones = pitch_classes(chords["root"], chords["quality"], chords["bass"])
    row, pitch = np.nonzero(tones)
    zeros = np.zeros(len(row), dtype=np.int64)
    length = stops[row] - chords["tick"][row]
    return Score(
        np.rec.fromarrays([chords["tick"][row], length, 48 + pitch, zeros + 64, zeros], NOTE),
        ticks_per_quarter=ticks_per_quarter,
    )


# --- tables ---------------------------------------------------------------------------------------------------


def rows_of(songs: list[Song], kind: str) -> list[dict]:
    rows, mine = [], [song for song in songs if song.kind == kind]
    seconds = [float(song.score.seconds(song.melody.end)) for song in mine]
    for name, system in SYSTEMS.items():
        began = time.perf_counter()
        chords = [system(song) for song in mine]
        spent = time.perf_counter() - began
        told = [agreement_with_written(song, rows) for song, rows in zip(mine, chords, strict=True)]
        row = {"songs": f"{kind} ({len(mine)})", "chords": name}
        row |= dict(
            zip(("root", "majmin", "sevenths"), np.average(told, axis=0, weights=seconds).tolist(), strict=True)
        )
        for measure in (strong_tones, clashes, changes, entropy):
            row[measure.__name__] = float(np.nanmean([measure(*pair) for pair in zip(mine, chords, strict=True)]))
        rows.append(row | {"ms_a_song": 1000 * spent / len(mine)})
    return rows


def overlaps(songs: list[Song]) -> list[dict]:
    """`dissonant_overlap` of POP909's melodies: the mean over songs, and how many songs."""
    found: dict[str, list[float]] = {}
    for song in songs:
        end, ticks = song.melody.end, song.score.ticks_per_quarter
        others = {"block chords, written": block_chords(song.score.chords, end, ticks)}
        others["block chords, harmonise"] = block_chords(harmonise(song.melody, keep_grid=True), end, ticks)
        others["block chords, a bar late"] = block_chords(_late(song.score.chords, song.slots), end, ticks)
        if song.kind == "pop909":
            others["the song's own"] = assign_parts(song.score).only("accompaniment", "bass", "other")
        for name, other in others.items():
            found.setdefault(f"{song.kind}: {name}", []).append(dissonant_overlap(song.melody, other))
    return [{"accompaniment": name, "dissonant_overlap": float(np.nanmean(v))} for name, v in sorted(found.items())]


def opening(song: Song, bars: int = 16) -> tuple[Score, Score]:
    """So many bars from where the melody sets in: the melody, and the whole song."""
    lines = song.score.seams()
    first = max(int(np.searchsorted(lines, song.melody.notes["onset"][0], side="right")) - 1, 0)
    begin, end = int(lines[first]), int(lines[min(first + bars, len(lines) - 1)])
    return song.melody.slice(begin, end, cut=True), song.score.slice(begin, end, cut=True)


def accompanied(songs: list[Song], run: Path, count: int) -> list[dict]:
    """`dissonant_overlap` over the openings of `count` songs of each kind: by the run at its safest and its wildest
    temperature, by block chords of `harmonise`, and by POP909's pianist."""
    found: dict[str, list[float]] = {}
    for kind in ("openewld", "pop909"):
        mine = [song for song in songs if song.kind == kind]
        for number in np.unique(np.linspace(0, len(mine) - 1, min(count, len(mine))).astype(int)):
            melody, whole = opening(mine[number])
            chords = harmonise(melody, keep_grid=True)
            others = {"block chords, harmonise": block_chords(chords, melody.end, melody.ticks_per_quarter)}
            if kind == "pop909":
                others["the song's own"] = assign_parts(whole).only("accompaniment", "bass", "other")
            for take in perform(run, prompt=melody, melody="auto", keep_grid=True, takes=2, seed=5):
                others[f"{run.name} at {take.temperature:g}"] = next(iter(take.alone.values()))
            for name, other in others.items():
                found.setdefault(f"{kind}: {name}", []).append(dissonant_overlap(melody, other))
    return [{"accompaniment": name, "dissonant_overlap": float(np.nanmean(v))} for name, v in sorted(found.items())]


def _late(chords: np.ndarray, slots: Slots) -> np.ndarray:
    rows = chords.copy()
    rows["tick"] += int(np.median(slots.bar_ticks))
    return rows


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--run", type=Path, help="accompany some of the melodies with it")
    parser.add_argument("--count", type=int, default=10, help="melodies of each kind for --run")
    options = parser.parse_args()
    songs = load(options.data, options.split)
    report(rows_of(songs, "openewld") + rows_of(songs, "pop909"), options.json)
    again = [{"songs": kind} | heard_again([s for s in songs if s.kind == kind]) for kind in ("openewld", "pop909")]
    print("\nWritten chords where two bars of melody come back")
    report(again, options.json, "heard again")
    print("\nDissonant overlap of melody and accompaniment")
    report(overlaps(songs), options.json, "overlaps")
    if options.run:
        report(accompanied(songs, options.run, options.count), options.json, "accompanied")


if __name__ == "__main__":
    main()
