"""What was written goes into the file: notes to the tracks of their parts, and nothing that was there gives way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..data.tasks import Region
from ..music.chords import NO_CHORD, merged
from ..music.measure import NEAR
from ..music.parts import only_tracks, sounding_parts
from ..music.score import DRUMS, PARTS, Score, Track, ends_of, retimed
from ..tokenizers import by_part, part_index, told_pedals
from .chart import spliced
from .prompts import HANDS, Prompt
from .stage import Stage

LATELY = 8  # bars before a region, or seconds: who plays there is missed in it


def written(stage: Stage, music: Score) -> Score:
    """What a run has written, from tick 0 on, as a Score in the ticks of the stage's: the region's music alone.

    Its chords are those that hold in the region: the stage's own, or those that the run has played.
    """
    start, end = stage.region.start, stage.region.end
    move = _mover(music, stage.score, start)
    notes, pedals, chords = music.notes.copy(), music.pedals.copy(), music.chords.copy()
    ends = np.minimum(move(ends_of(music.notes)), end)
    notes["onset"] = np.minimum(move(music.notes["onset"]), end - 1)
    notes["duration"] = np.maximum(ends - notes["onset"], 1)
    pedals["tick"], chords["tick"] = np.minimum(move(pedals["tick"]), end - 1), move(chords["tick"])
    chords = stage.score.chords if stage.binding else chords
    held = chords[chords["tick"] <= start][-1:].copy()
    held["tick"] = start
    chords = np.concatenate([held, chords[(chords["tick"] > start) & (chords["tick"] < end)]])
    tracks = music.tracks
    if stage.region.parts:  # whatever the run calls it, it was asked for these parts
        first = stage.region.parts[0]
        tracks = [track if track.part in stage.region.parts else Track(first, part=first) for track in tracks]
    return by_part(stage.score.replace(notes=notes, pedals=pedals, chords=chords, tracks=tracks))


def in_ensemble(stage: Stage, music: Score, ensembles: Sequence[Collection[str]]) -> Score:
    """Music with the parts that play together in the corpus, whose `ensembles` come the most usual first.

    The ensemble that has what is on the stage already, and most of the notes, is kept; notes of other parts go to the
    nearest of its own in the median pitch, and drums that it has not are left out. Unchanged where no note is in any
    ensemble, and where parts were asked for.
    """
    there = set(sounding_parts(stage.score))
    fitting = [set(one) for one in ensembles if there <= set(one)] or [there | set(one) for one in ensembles]
    if not fitting or stage.region.parts:
        return music
    part, pitch = part_index(music), music.notes["pitch"]
    drums = part == DRUMS
    inside = [np.isin(PARTS, list(one))[part] for one in fitting]
    kept = max(inside, key=lambda mask: ((mask & ~drums).sum(), mask.sum()))
    homes = np.unique(part[kept & ~drums])
    if kept.all() or not len(homes):
        return music
    middles = np.array([np.median(pitch[part == home]) for home in homes])
    nearest = homes[np.abs(pitch[:, None] - middles).argmin(axis=1)]
    stays = kept | ~drums
    return by_part(music.replace(notes=music.notes[stays]), np.where(kept, part, nearest)[stays]).without_overlaps()


def without_slips(music: Score, end: int) -> Score:
    """Music that was `written` up to a tick, without the notes that are left a mere moment there: they set in just
    before what follows, a closing chord or another section, so near that they are heard on it, and as slips.
    """
    notes = music.notes
    cut = ends_of(notes) >= end
    slip = cut & (notes["duration"] <= NEAR * music.ticks_per_quarter) & (part_index(music) != DRUMS)
    return music.replace(notes=notes[~slip])


def joined(one: Score, other: Score) -> Score:
    """Two stretches that were `written` on the same stage, one after the other, as one; a track for each part."""
    pedals = np.concatenate([one.pedals, other.pedals])
    chords = merged(np.concatenate([one.chords, other.chords]))
    return by_part(one.merge(other).replace(pedals=pedals, chords=chords))


def reached(stage: Stage, music: Score) -> Stage:
    """The stage with its region ended at the first bar line after music that was `written` and came to no end."""
    stop = int(stage.lines[np.clip(np.searchsorted(stage.lines, music.end), 1, len(stage.lines) - 1)])
    score = stage.score.replace(chords=stage.score.chords[stage.score.chords["tick"] < stop])
    return replace(stage, score=score, region=Region(stage.region.start, stop, stage.region.parts))


def _mover(music: Score, score: Score, start: int):
    """From ticks of `music`, which begins at 0, to ticks of a score from `start` on."""
    if music.free == score.free:
        factor = score.ticks_per_quarter / music.ticks_per_quarter
        return lambda ticks: np.rint(ticks * factor).astype(np.int64) + start
    origin = float(score.seconds(start))
    return lambda ticks: score.ticks(origin + music.seconds(ticks))


def finish(stage: Stage, music: Score, *, pedalled: bool) -> tuple[Score, Score]:
    """What was `written` put into what stays of the file, and the same music by itself.

    Outside of the region all notes, pedals, tempi and metres are those of the file. `pedalled` says that the run
    plays the pedal; otherwise that of the file stays in the region as well.
    """
    homes = stage.prompt.seen if stage.extends else stage.tracks
    grow = stage.programs if stage.extends or stage.region.parts else None
    music = music if stage.region.parts else _with_bass(stage, music, homes)
    new = place(stage.prompt, music, stage.file, homes, grow=grow)
    notes = np.concatenate([stage.file.notes, new.notes])
    pedals = _pedals(stage, music, new, pedalled)
    whole = stage.file.replace(notes=notes, pedals=pedals, chords=_chords(stage, music), tracks=new.tracks)
    sounding = np.unique(new.notes["track"]).tolist()
    return whole, only_tracks(whole.replace(notes=new.notes), sounding)


def added(stage: Stage, whole: Score) -> dict[str, Score]:
    """Parts of a whole that the file has not, where parts were asked for: one Score of all of them, by their names."""
    new = list(range(len(stage.prompt.file.tracks), len(whole.tracks)))
    theirs = {whole.tracks[track].part for track in new}
    names = [part for part in stage.region.parts or () if part in theirs]
    return {"-".join(names): only_tracks(whole, new)} if names else {}


def _with_bass(stage: Stage, music: Score, homes: Sequence[int]) -> Score:
    """Music with a bass for the bass track of the file, if that is among the `homes`, in bars that have none of their
    own: of the notes that are struck together the lowest, where it is nearer to the pitches of that track than to those
    of the other parts.
    """
    part, notes, there = part_index(music), music.notes, stage.prompt.file.notes
    basses = [track for track in stage.prompt.tracks_of(["bass"]) if track in homes]
    bass = part == PARTS.index("bass")
    free = ~bass & ~np.isin(part, [DRUMS, PARTS.index("melody")])
    if not basses or not free.any():
        return music
    theirs = np.median(there["pitch"][np.isin(there["track"], basses)])
    nearer = notes["pitch"] < (theirs + np.median(notes["pitch"][free])) / 2
    order = np.lexsort((notes["pitch"], notes["onset"]))
    lowest = np.zeros(len(notes), bool)
    lowest[order[np.diff(notes["onset"][order], prepend=-1) > 0]] = True
    bar = np.searchsorted(stage.lines, notes["onset"], side="right")
    alone = ~np.isin(bar, bar[bass])
    return by_part(music, np.where(free & nearer & lowest & alone, PARTS.index("bass"), part))


def resting(stage: Stage, whole: Score) -> list[str]:
    """The names of the file's tracks that have played till now, or played there, and have no note in the region."""
    start, end = stage.in_file
    if stage.extends:
        lines = stage.file.seams(start)
        first, last, tracks = (
            int(lines[lines < start][-LATELY:][0]) if start else 0,
            start,
            range(len(stage.file.tracks)),
        )
    else:
        first, last, tracks = start, end, stage.tracks
    old, new = (
        set(score.notes["track"][(score.notes["onset"] >= a) & (score.notes["onset"] < b)].tolist())
        for score, a, b in ((stage.prompt.file, first, last), (whole, start, end))
    )
    found = [track for track in tracks if track in old - new]
    return [stage.file.tracks[track].name.strip() or f"track {track + 1}" for track in found]


def _chords(stage: Stage, music: Score) -> np.ndarray:
    """The chords of the file, with those of the region; where the file states none they end with the region."""
    if not stage.charted:
        return stage.file.chords
    start, end = stage.in_file
    inside = music.chords[music.chords["tick"] < stage.region.end]  # a run that was stopped has not played the others
    inner = retimed(inside, lambda ticks: np.maximum(stage.prompt.to_file(ticks), 0))
    stated, goes_on = stage.file.chords, stage.file.end > end
    if goes_on and not (stated["tick"] <= end).any():
        stated = np.concatenate([np.array([(end, *NO_CHORD)], dtype=stated.dtype), stated])
    return spliced(stated, inner, start, end, resume=goes_on)


def _pedals(stage: Stage, music: Score, new: Score, pedalled: bool) -> np.ndarray:
    """The file's pedal, with that of the region on every track that plays in it.

    It is up where the region begins, and where the region ends it is again what it was in the file.
    """
    rows, beyond = stage.file.pedals, stage.extends
    if not (pedalled or beyond):
        return rows
    start, end = stage.in_file
    inside = np.isin(rows["track"], stage.tracks) & (rows["tick"] >= start) & (rows["tick"] < end)
    found = [rows[~inside]]
    playing = np.unique(new.notes["track"]).tolist()
    for track in sorted({*playing, *stage.tracks, *(np.unique(rows["track"]).tolist() if beyond else ())}):
        theirs = rows[rows["track"] == track]
        ours = music.pedals.copy() if track in playing else music.pedals[:0].copy()
        ours["tick"], ours["track"] = np.maximum(stage.prompt.to_file(ours["tick"]), 0), track
        ours = told_pedals(ours)
        down = _value(theirs[theirs["tick"] < start])
        first = [(start, 0, track)] if down and not (len(ours) and ours["tick"][0] == start) else []
        later = _value(theirs[theirs["tick"] < end])
        last = [(end - 1, later, track)] if not beyond and track in stage.tracks and later != _value(ours) else []
        found += [np.array(first, dtype=rows.dtype), ours, np.array(last, dtype=rows.dtype)]
    return np.concatenate(found)


def _value(pedals: np.ndarray) -> int:
    return int(pedals["value"][-1]) if len(pedals) else 0


def place(prompt: Prompt, music: Score, kept: Score, tracks: Sequence[int], *, grow: Mapping[str, int] | None) -> Score:
    """The notes of `music`, in ticks of the prompt's score, as a Score of their own in the ticks of its file.

    Its first tracks are the file's. Notes join those of `tracks` that play their part: of two hands the nearer, of
    others the one with most notes. What finds none gets a track of its own, with the program that `grow` has for its
    part (0 where it has none), or without `grow` joins the one with most notes. Of `kept`, what stays of the file,
    nothing has to give way: a note begins where a kept note of its key ends, and ends where the next one begins.
    """
    notes, homes = retimed(music.notes, prompt.to_file), list(prompt.file.tracks)
    for number, track in enumerate(music.tracks):
        mine = music.notes["track"] == number
        fitting = [t for t in tracks if t in prompt.tracks_of([track.part])]
        fitting = list(tracks) if grow is None and not fitting else fitting
        if fitting:
            notes["track"][mine] = _chosen(prompt.file, fitting, notes["pitch"][mine])
        elif mine.any():
            notes["track"][mine] = len(homes)
            homes.append(track._replace(program=grow.get(track.part, 0)))
    notes = _beside(notes[notes["onset"] >= 0], kept.notes, slack=prompt.file.ticks_per_quarter // 4)
    return prompt.file.replace(notes=notes, pedals=(), chords=(), tracks=homes).without_overlaps()


def _chosen(file: Score, tracks: list[int], pitch: np.ndarray) -> np.ndarray:
    """The track of each pitch: of a left and a right hand the nearer, else the one with most notes."""
    theirs = [file.notes["pitch"][file.notes["track"] == track].astype(float) for track in tracks]
    if sorted(file.tracks[track].part for track in tracks) == list(HANDS):
        middle = np.array([np.median(pitches) for pitches in theirs])
        return np.array(tracks)[np.abs(pitch[:, None] - middle).argmin(axis=1)]
    return np.full(len(pitch), tracks[int(np.argmax([len(pitches) for pitches in theirs]))])


def _beside(notes: np.ndarray, kept: np.ndarray, slack: int) -> np.ndarray:
    """Notes that leave kept notes of their track and pitch as they are, by their own onsets and lengths.

    A note that would begin while a kept one sounds begins at its end, if that comes within `slack`; else it is dropped.
    """

    def voice(rows):
        return rows["track"].astype(np.int64) * 128 + rows["pitch"] << 32

    kept = kept[np.argsort(voice(kept) + kept["onset"], kind="stable")]
    place = voice(kept) + kept["onset"]
    ends, onset, end = ends_of(kept), notes["onset"].astype(np.int64), ends_of(notes)
    if not len(kept):
        return notes
    before = np.searchsorted(place, voice(notes) + onset, side="right") - 1
    held = (before >= 0) & (voice(kept)[before] == voice(notes))
    begin = np.where(held, np.maximum(onset, ends[before]), onset)
    after = np.minimum(before + 1, len(kept) - 1)
    follows = (before + 1 < len(kept)) & (voice(kept)[after] == voice(notes))
    end = np.where(follows, np.minimum(end, kept["onset"][after]), end)
    fits = (begin - onset <= slack) & (begin < end)
    notes = notes.copy()
    notes["onset"], notes["duration"] = begin, np.maximum(end - begin, 1)
    return notes[fits]
