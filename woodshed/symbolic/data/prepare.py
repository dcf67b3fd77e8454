"""From a folder of MIDI to a corpus: which files, which tokenizer, which split."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ...config import Positive, Share, updated
from ...errors import EmptyCorpus, FileError, InputError
from ...files import found_from, quoted, seen_from, sha256_of
from ...jobs import refuse_existing
from ...page import percent, tally
from ...progress import Reporter, part, unheard
from .. import tokenizers
from ..music.midi import midi_files
from ..music.score import PARTS, Score
from ..tokenizers import Tokenizer
from .corpus import SPLITS, Corpus, Piece, write_corpus
from .inspect import Chords, InspectSettings, Reason, compared, examine_folder, file_name, mapped
from .kept import HELD_OUT, examine_kept, kept_remarks, kept_share, learnable
from .metadata import Table, asked_for, table_of
from .report import REASONS, Finding, Inspection, duration, suits, told_sums
from .splits import divide, group_songs, parse_fractions
from .usual import usual

SELECTION = ("metadata", "composer", "year", "only_split")
LEFT_OUT = REASONS | {
    "free time": "no bars and beats to trust, which this tokenizer needs",
    HELD_OUT: "takes of songs that are held out",
}


@dataclass(frozen=True)
class PrepareSettings(InspectSettings):
    """How to make a corpus."""

    tokenizer: str = "auto"
    """remi, performance, miditok:NAME (whose bars are all of 4/4; or :FOLDER of a model that brings MidiTok's
    tokenizer.json), or auto: remi where most minutes keep to bars and beats, else performance. remi leaves freely
    played files out; performance takes all."""
    fractions: str = "0.8,0.1,0.1"
    """Shares of train, validation (tells train when to stop) and test (is for evaluate), counted in songs. Two numbers
    leave out test; songs that a table assigns stay where it puts them."""
    seed: int = 0
    """Another seed divides the songs in another way."""
    augment: bool = False
    """Learn your pieces in all 12 keys too, and a little slower and faster (0.9, 1, 1.1), drawn anew with every
    batch."""
    chords: Chords = "recognise"
    """Chords of files that state none: heard in the notes. "file" keeps to what is stated, "none" drops it too."""
    continue_share: Share = 0.05
    """Share of the training examples that continue a beginning."""
    accompany_share: Share = 0.1
    """Share that write one part beside the others, where there are several."""
    fill_share: Share = 0.1
    """Share that fill in some bars; the rest compose from nothing."""
    kept: tuple[Path, ...] = ()
    """Learn from takes too that you kept (woodshed keep): runs, or folders of takes. They are trained on alone; nothing
    is judged by them."""
    kept_weight: Positive[float] = 1.0
    """How often a kept take is drawn in training, beside a piece of yours of its length."""

    def __post_init__(self):
        super().__post_init__()
        parse_fractions(self.fractions)
        if sum(self.tasks().values()) > 1:
            raise InputError(f"the shares of the tasks add up to {sum(self.tasks().values()):g}; at most 1")

    def tasks(self) -> dict[str, float]:
        """Shares of the tasks by name."""
        return {"continue": self.continue_share, "accompany": self.accompany_share, "fill": self.fill_share}


def prepare(
    folder: str | Path,
    out: str | Path,
    settings: PrepareSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Corpus:
    """Make the corpus `out` of the MIDI files in a folder.

    What `inspect` finds usable, the selection asks for and the tokenizer can take goes in; every other file stands in
    `corpus.skipped` with its reason. Songs are divided, not files: takes of one song come into one split. Takes that
    were `kept` are trained on (kept.py). The same folder and settings give the same corpus. `changes` are fields of
    PrepareSettings.
    Raises InputError where `out` exists, EmptyCorpus where nothing is left.
    """
    settings, folder, out = updated(PrepareSettings, settings, changes), Path(folder), Path(out)
    refuse_existing(out)
    table = table_of(folder, settings)
    takes = examine_kept(settings.kept, out, settings, settings.chords)
    found = examine_folder(folder, settings, chords=settings.chords, report=part(report, 0, 0.5))
    wanted = [asked_for(finding, table, settings) for finding in found]
    tokenizer, why = choose_tokenizer(Inspection(folder, settings, tuple(wanted)), settings)
    own = [_taken(finding, tokenizer) for finding in wanted]
    findings = compared(own, settings)  # after that, so that no duplicate of what is left out goes as well
    usable = [finding for finding in findings if not finding.reason]
    if not usable:
        raise EmptyCorpus(f"{folder}: {_nothing_left(findings)}")
    rows, remarks = _divided(usable, table, settings)
    if takes:
        learned = {row.finding.path: (row.split, row.song) for row in rows}
        takes = learnable([_taken(take, tokenizer) for take in takes], own, learned, settings)
        rows += [_Row(take, "train", take.song, settings.kept_weight) for take in takes if not take.reason]
    scores = [row.finding.score for row in rows]
    lengths = mapped(partial(_length, tokenizer), scores, part(report, 0.5, 1))
    pieces = [_piece(row, ids) for row, ids in zip(rows, lengths, strict=True)]
    keys = ("path", "reason", "detail", "digest", "kept")
    skipped = [{key: getattr(one, key) for key in keys} for one in (*findings, *takes) if one.reason]
    facts = _facts(pieces, scores) | {"tokenizer": why, "remarks": [*remarks, *kept_remarks(pieces)]}
    facts |= {"metadata": table and table.sums(findings), "source": seen_from(out, folder)}
    music = usual(usable, tokenizer) | {
        "chords": facts["chords"] > 0 and tokenizer.knows_chords,
        "prepared": {name: getattr(settings, name) for name in ("hands", "only_part", "keep_grid")}
        | {"drums": "drums" in (settings.only_part, *settings.keep)},
    }
    told = {"settings": _saved(settings, tokenizer), "skipped": skipped, "facts": facts, "music": music}
    return write_corpus(out, pieces, scores, tokenizer, **told)


class _Row(NamedTuple):
    """A file that is learned from."""

    finding: Finding
    split: str
    song: str
    weight: float


def _divided(usable: Sequence[Finding], table: Table | None, settings: PrepareSettings) -> tuple[list[_Row], list]:
    """The musician's own files with split, song and weight, and remarks."""
    names = group_songs(usable, table)
    known = [table.split(finding.path) if table and not settings.only_split else "" for finding in usable]
    splits, remarks = divide(names, known, parse_fractions(settings.fractions), settings.seed)
    weights = [table.weight(finding.path) if table else 1.0 for finding in usable]
    return [_Row(*row) for row in zip(usable, splits, names, weights, strict=True)], remarks


def _length(tokenizer: Tokenizer, score: Score) -> int:
    return len(tokenizer.encode(score))


# --- what goes in ----------------------------------------------------------------------------------------------


def choose_tokenizer(found: Inspection, settings: PrepareSettings) -> tuple[Tokenizer, str]:
    """The tokenizer asked for, or the one that suits the music; and why."""
    if settings.tokenizer != "auto":
        return tokenizers.make(settings.tokenizer), "asked for"
    name, why = suits(found)
    return tokenizers.make(name), why


def _taken(finding: Finding, tokenizer: Tokenizer) -> Finding:
    """The finding, left out where the tokenizer does not take it."""
    if not finding.reason and tokenizer.needs_bars and finding.score.free:
        return finding.without("free time", finding.facts.grid_reason or "played freely")
    return finding


def _nothing_left(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.reason for finding in findings)
    told = "; ".join(f"{count} {reason} ({LEFT_OUT[reason]})" for reason, count in counts.most_common())
    hints = {"drums": "--only-part drums", "free time": "--tokenizer performance", "part": "another --only-part"}
    reason = counts.most_common(1)[0][0]
    way = hints.get(reason, f"--keep {reason}" if reason in Reason.__args__ else "")
    return f"nothing to learn from in {len(findings)} files: {told}" + (f". Try {way}" if way else "")


# --- what is written -------------------------------------------------------------------------------------------


def _piece(row: _Row, ids: int) -> Piece:
    finding, facts, score = row.finding, row.finding.facts, row.finding.score
    beat = {} if score.free else {"bpm": facts.bpm, "metre": facts.metre}
    return Piece(
        path=finding.path,
        split=row.split,
        notes=facts.notes,
        seconds=facts.seconds,
        ids=ids,
        bars=facts.bars,
        ticks_per_quarter=score.ticks_per_quarter,
        free=score.free,
        tracks=score.tracks,
        digest=finding.digest,
        song=row.song,
        weight=row.weight,
        kept=finding.kept,
        **beat,
    )


def _facts(pieces: Sequence[Piece], scores: Sequence[Score]) -> dict:
    """Sums over a corpus."""
    parts = Counter(part for piece in pieces for part in {track.part for track in piece.tracks})
    return {
        "minutes": round(sum(piece.seconds for piece in pieces) / 60, 3),
        "notes": sum(piece.notes for piece in pieces),
        "ids": sum(piece.ids for piece in pieces),
        "free": sum(piece.free for piece in pieces),
        "chords": sum(len(score.chords) > 0 for score in scores),
        "parts": {part: parts[part] for part in PARTS if parts[part]},
    }


def _saved(settings: PrepareSettings, tokenizer: Tokenizer) -> dict:
    """The settings as JSON, the shares of the tasks together, and nothing of this machine."""
    told = dataclasses.asdict(settings)
    for name in settings.tasks():
        del told[f"{name}_share"]
    for name in ("kept", "kept_weight"):  # the pieces tell both
        del told[name]
    told |= {name: told.pop(name) for name in SELECTION}  # the fingerprint is over them in this order
    return told | {
        "tokenizer": settings.tokenizer if settings.tokenizer == "auto" else tokenizer.name,  # no path
        "tasks": settings.tasks(),
        "keep": list(settings.keep),
        "metadata": settings.metadata and settings.metadata.name,
    }


def corpus_lines(corpus: Corpus) -> Iterator[str]:
    """What a corpus holds and what was left out, in a few lines."""
    facts = corpus.facts
    music = f"{duration(60 * facts['minutes'])}, {facts['notes']:,} notes"
    yield f"{corpus.folder}: {len(corpus)} pieces, {music}, {facts['ids']:,} {corpus.tokenizer.name} ids"
    yield f"  {corpus.tokenizer.name}: {facts['tokenizer']}"
    yield from (f"  in the table, {name}: {told_sums(sums)}" for name, sums in (facts["metadata"] or {}).items())
    for split in SPLITS:
        pieces = [corpus.pieces[index] for index in corpus.split(split)]
        seconds, notes = sum(piece.seconds for piece in pieces), sum(piece.notes for piece in pieces)
        songs = len({piece.song for piece in pieces})
        yield f"  {split:<11}{songs:>6} songs {len(pieces):>6} pieces {seconds / 60:>9.1f} min {notes:>10,} notes"
    if takes := [piece for piece in corpus.pieces if piece.kept]:
        told = f"{percent(kept_share(corpus.pieces))} of what is drawn to train on (--kept-weight {takes[0].weight:g})"
        yield f"  kept takes: {len(takes)} of the pieces, all in train, {told}"
    if corpus.skipped:
        yield f"  left out: {tally(row['reason'] for row in corpus.skipped)}; corpus.json names every file"
    yield from (f"  {remark}" for remark in facts["remarks"])


def changed_sources(corpus: Corpus, folder: Path) -> dict[str, list[str]]:
    """Which files of a folder were "removed", "edited" and "added" since the corpus was made of it.

    Nothing where the folder is gone or holds none of them. Only files younger than the corpus are read.
    """
    made = os.path.getmtime(corpus.folder / "corpus.json")
    digests = {piece.path: piece.digest for piece in corpus.own}
    digests |= {row["path"]: row.get("digest", "") for row in corpus.skipped if not row.get("kept")}
    paths = {file_name(path, folder): path for path in midi_files(folder)} if folder.is_dir() else {}
    known = paths.keys() & digests.keys()
    if not known:
        return {}
    young = [name for name in known if max(os.path.getmtime(paths[name]), os.path.getctime(paths[name])) >= made]
    edited = [name for name in young if sha256_of(paths[name]) != digests[name]]
    found = {"removed": digests.keys() - known, "edited": edited, "added": paths.keys() - known}
    return {change: sorted(names) for change, names in found.items() if names}


def changes_line(corpus: Corpus) -> str:
    """How many files of a corpus have changed, and how to take that in; empty where none has."""
    folder = found_from(corpus.folder, corpus.facts.get("source", ""))
    try:
        changes = changed_sources(corpus, folder)
    except (OSError, FileError):
        return ""
    told = ", ".join(f"{len(names)} {change}" for change, names in changes.items())
    way = f"to take that in: woodshed prepare {quoted(folder)} --out NEW, with its flags"
    return told and f"{corpus.folder}: files have changed since it was prepared: {told}; {way}"
