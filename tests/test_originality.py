"""Copies are found in any key and tempo, beside naive references; what everybody plays counts little."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from folders import tune
from strategies import DATA
from test_alignment import naive_align, rows

from woodshed.cli import main
from woodshed.errors import EmptyCorpus, FileError
from woodshed.files import seen_from
from woodshed.symbolic.data import originality
from woodshed.symbolic.data.alignment import (
    FIGURE,
    NOTE,
    align,
    lines,
)
from woodshed.symbolic.data.corpus import find_corpus
from woodshed.symbolic.data.inspect import InspectSettings, examine
from woodshed.symbolic.data.originality import Index, level, originality_index, stretches
from woodshed.symbolic.data.prepare import prepare
from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.music.score import Score, Track

HANDS = (Track("Melody", 0, False, "melody"), Track("Piano", 0, False, "accompaniment"))


def disguised(score: Score, seed: int, tempo: float = 1.0, semitones: int = 5) -> Score:
    """Transposed, in another tempo, every onset moved by up to half a sixteenth triplet, one note in twelve altered."""
    rng, notes, tpq = np.random.default_rng(seed), score.notes.copy(), score.ticks_per_quarter
    jitter = rng.uniform(-tpq / 12, tpq / 12, len(notes))
    notes["onset"] = np.maximum(np.rint(notes["onset"] * tempo + jitter), 0)
    notes["duration"] = np.maximum(np.rint(notes["duration"] * tempo), 1)
    altered = rng.permutation(len(notes))[: len(notes) // 12]
    notes["pitch"][altered] += rng.choice([1, 2, 3, 5], len(altered)).astype(np.uint8)
    return score.replace(notes=notes).transpose(semitones)


def bars(score: Score, first: int, count: int) -> Score:
    """So many bars, the first of them counted from 1."""
    edges = score.bars()
    return score.slice(int(edges[first - 1]), int(edges[min(first - 1 + count, len(edges) - 1)]), cut=True)


@pytest.fixture(scope="module")
def tunes():
    pieces = [tune(seed, tracks=HANDS) for seed in range(12)]
    return Index(
        pieces, [f"{seed}.mid" for seed in range(12)], held_out=[tune(seed, tracks=HANDS) for seed in range(50, 58)]
    )


# --- beside a search through everything ------------------------------------------------------------------------


def naive_rarity(pieces: list[Score]) -> dict[tuple, float]:
    """Of every figure in any piece."""
    inside: dict[tuple, set] = {}
    for number, piece in enumerate(pieces):
        found = lines(piece)
        for k in range(len(found.names)):
            steps = np.diff([pitch for pitch, _ in rows(found, k)]).tolist()
            for n in range(len(steps) - FIGURE + 1):
                inside.setdefault(tuple(steps[n : n + FIGURE]), set()).add(number)
    return {figure: 1 - np.log(len(songs)) / np.log(len(pieces)) for figure, songs in inside.items()}


def naive_best(take: Score, pieces: list[Score]) -> int:
    """The best of all alignments in the same tempo: every line beside every line in every key."""
    rarity, best, mine = naive_rarity(pieces), 0, lines(take)
    for k in range(len(mine.names)):
        line = rows(mine, k)
        steps = np.diff([pitch for pitch, _ in line]).tolist()
        runs = [tuple(steps[n : n + FIGURE]) for n in range(len(steps) - FIGURE + 1)]
        worth = [rarity.get(run, 1.0) / runs.count(run) for run in runs]
        over = [worth[max(n - FIGURE, 0) : n + 1] for n in range(len(line))]
        gains = [round(NOTE * float(np.mean(some))) if some else 0 for some in over]
        for piece in pieces:
            theirs = lines(piece)
            for other in range(len(theirs.names)):
                there = rows(theirs, other)
                for move in {b - a for a, _ in line for b, _ in there}:
                    best = max(best, naive_align(line, there, gains, move, 1.0))
    return best


def test_the_index_finds_what_a_search_through_everything_finds():
    pieces = [tune(seed, notes=32) for seed in range(3)]
    known = Index(pieces, [str(seed) for seed in range(3)])
    for seed in range(3):
        take = disguised(pieces[seed].slice(8 * 240, 28 * 240, cut=True), seed)
        mine = lines(take)
        gains, pairs, _ = known._search(mine)
        found = max(score for score, *_ in align(mine, known.lines, gains, pairs))
        assert found == pytest.approx(naive_best(take, pieces), abs=2)


# --- copies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tempo", [0.5, 0.9, 1.0, 1.1, 2.0])
@pytest.mark.parametrize("semitones", [-7, 0, 6])
def test_a_disguised_copy_inside_other_music_is_found_where_it_is(tunes, tempo, semitones):
    """Four bars of eighths, between four bars before and four after that are nobody's."""
    own = tune(99, notes=64, tracks=HANDS)
    copy = disguised(bars(tunes.scores[3], 9, 4), 1, tempo, semitones)
    notes = copy.notes.copy()
    notes["onset"] += 4 * 1920
    after = own.notes[32:].copy()
    after["onset"] += round(4 * 1920 * tempo)
    report = tunes.repeats(own.replace(notes=np.concatenate([own.notes[:32], notes, after])))
    match = report.matches[0]
    assert report.flagged and match.path == "3.mid"
    assert abs(match.bar - 9) <= 1 and abs(match.take_bar - 5) <= 1
    assert match.semitones == semitones and match.tempo == pytest.approx(1 / tempo, rel=0.1)
    assert 20 <= match.notes <= 32 and match.bars == pytest.approx(4 * tempo, rel=0.35)
    assert "NOT ORIGINAL" in str(report) and f"in 3.mid bar {match.bar}" in str(report)
    assert str(report).endswith(f"counts as {match.weight:.1f} rare notes (your own pieces: up to {report.usual:.1f})")


def test_a_copy_played_freely_is_named_in_seconds(tunes):
    copy = disguised(bars(tunes.scores[5], 3, 6), 2).freed()
    match = tunes.repeats(copy).matches[0]
    assert match.path == "5.mid" and match.take_bar is None and match.bars is None
    assert match.second == pytest.approx(4.0, abs=2.0)  # two bars of 2 s go before
    assert "s from 0." in str(match)


def test_what_comes_before_the_music_that_was_written_does_not_count(tunes):
    copied = bars(tune(4, tracks=HANDS), 5, 8)
    late = copied.replace(notes=shifted(copied.notes, 400 * copied.ticks_per_quarter))
    alone, after = tunes.repeats(copied), tunes.repeats(late, start=400 * copied.ticks_per_quarter)
    assert after.matches[0].share == pytest.approx(alone.matches[0].share, abs=0.02) and alone.matches[0].share > 0.8
    assert after.usual == alone.usual and tunes.repeats(late).matches[0].share < 0.1


def shifted(notes, ticks):
    moved = notes.copy()
    moved["onset"] += ticks
    return moved


def test_copies_of_two_pieces_are_both_told(tunes):
    first, second = bars(tunes.scores[1], 5, 4), bars(tunes.scores[2], 10, 4)
    late = second.notes.copy()
    late["onset"] += 4 * 1920
    matches = tunes.matches(first.replace(notes=np.concatenate([first.notes, late])))
    assert {match.path for match in matches[:2]} == {"1.mid", "2.mid"}
    assert sum(match.share for match in matches[:2]) == pytest.approx(1, abs=0.1)


def test_texture_tells_a_copy_of_everything_from_a_copied_melody(tunes):
    copy = bars(tunes.scores[0], 4, 6)
    other = disguised(bars(tunes.scores[7], 12, 6).only("accompaniment"), 3)
    match, melody = tunes.matches(copy)[0], tunes.matches(copy.only("melody").merge(other))[0]
    assert match.texture > 0.9
    assert melody.path == "0.mid" and melody.texture < 0.7


def test_texture_of_an_hour_fits_into_memory_and_is_that_of_all_pairs(monkeypatch):
    long = tune(0, notes=6000)
    times = np.unique(long.notes["onset"]) / long.ticks_per_quarter
    tracemalloc.start()
    assert originality._texture(long, long, times, times, 0) == 1
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    mine, theirs = tune(1, tracks=HANDS), tune(2, tracks=HANDS)
    times = np.unique(mine.notes["onset"]) / mine.ticks_per_quarter
    shares = []
    for block in (7, 10**6):
        monkeypatch.setattr(originality, "BLOCK", block)
        shares.append(originality._texture(mine, theirs, times, times, 0))
    assert 0 < shares[0] == shares[1] < 1


def test_other_music_of_the_same_kind_is_not_flagged(tunes):
    reports = [tunes.repeats(tune(seed, tracks=HANDS, notes=128)) for seed in range(100, 140)]
    assert np.mean([report.flagged for report in reports]) <= 0.05


# --- what everybody plays --------------------------------------------------------------------------------------


def alberti(chords: list[int], seed: int) -> Score:
    """A bar of eighths for each chord below a melody that nobody else has."""
    figure = [(1920 * n + 240 * k, 48 + root + (0, 7, 4, 7)[k % 4]) for n, root in enumerate(chords) for k in range(8)]
    left = [(onset, 240, pitch, 60, 1) for onset, pitch in figure]
    return Score(left + tune(seed, notes=8 * len(chords), center=80).notes.tolist(), tracks=HANDS)


def test_a_common_accompaniment_counts_little_and_a_rare_one_counts():
    chords = [0, 5, 7, 0] * 4
    common = Index([alberti(chords, seed) for seed in range(10)], [str(seed) for seed in range(10)])
    rare = Index([alberti(chords, 0), *(tune(seed) for seed in range(1, 10))], [str(seed) for seed in range(10)])
    take = alberti(chords, 77)
    assert common.weight(take) < 8
    assert rare.weight(take) > common.weight(take)
    assert common.weight(alberti(chords, 3)) > 50


def test_a_loop_counts_as_what_is_looped(tunes):
    once = bars(tunes.scores[4], 6, 2)
    shifts = range(0, 8 * 2 * 1920, 2 * 1920)
    notes = [(on + shift, *rest) for shift in shifts for on, *rest in once.notes.tolist()]
    looped = Index([once.replace(notes=notes), *tunes.scores[:4]], [str(n) for n in range(5)])
    assert looped.weight(once.replace(notes=notes)) < 2 * looped.weight(once)


def test_a_copy_is_a_copy_however_often_it_is_played_again(tunes):
    once = bars(tunes.scores[4], 6, 4)
    length, weights = int(once.bars()[-1]), []
    for times in (1, 4, 8):
        rows = [(on + n * length, *rest) for n in range(times) for on, *rest in once.notes.tolist()]
        report = tunes.repeats(once.replace(notes=rows))
        assert report.flagged and report.matches[0].path == "4.mid", times
        weights.append(report.weight)
    assert weights[2] > 0.8 * weights[0]


def test_takes_of_one_song_are_one_song():
    pieces = [tune(0), tune(0), tune(0), tune(1), tune(2)]
    names = [str(n) for n in range(5)]
    take = bars(pieces[0], 4, 4)
    grouped = Index(pieces, names, songs=["a", "a", "a", "b", "c"])
    assert grouped.weight(take) > Index(pieces, names).weight(take)
    assert grouped.weight(take) == pytest.approx(len(take.notes), abs=0.1)


# --- the yardstick ---------------------------------------------------------------------------------------------


def test_the_level_is_the_musicians_own_and_one_odd_piece_does_not_blind_it():
    weights = np.random.default_rng(0).gumbel(7, 1, 80)
    assert np.mean(weights > level(weights)) <= 0.05
    assert level(np.append(weights, 300)) == pytest.approx(level(weights), rel=0.1)
    assert level(np.append(weights, [50] * 10)) == 50  # who quotes often may quote


def test_stretches_tile_a_piece(tunes):
    piece = tunes.scores[0]
    cut = stretches(piece, 16)
    assert sum(len(one.notes) for one in cut) >= len(piece.notes) - 16
    assert all(8 <= one.end / one.ticks_per_quarter <= 16 for one in cut)
    assert stretches(piece, 256)[0] == piece.slice(0, int(piece.bars()[-1]), cut=True)
    assert len(stretches(piece.freed(), 16)) == len(cut)


@pytest.fixture
def corpus(songs, tmp_path):
    return prepare(songs, tmp_path / "corpus", tokenizer="performance", fractions="0.5,0.25,0.25", keep_grid=True)


def test_levels_are_kept_for_this_very_corpus(corpus, monkeypatch):
    usual = originality_index(corpus).usual(64)
    stored = corpus.folder / originality.STORED
    monkeypatch.setattr(Index, "weight", lambda self, score: pytest.fail("measured again"))
    assert originality_index(corpus.folder).usual(60) == usual
    monkeypatch.undo()
    told = json.loads(stored.read_text())
    for text in ("{", "[]", json.dumps(told | {"key": "another", "weights": {"64": [1e6]}})):
        stored.write_text(text)
        assert originality_index(corpus).usual(64) == usual


def test_a_corpus_that_cannot_be_written_to_has_a_level_too(corpus, monkeypatch):
    def refuse(path, data):
        raise FileError(path, "read-only")

    monkeypatch.setattr(originality, "write_object", refuse)
    known = originality_index(corpus)
    assert known.usual(64) == known.usual(64) > 0
    assert not (corpus.folder / originality.STORED).exists()


def test_without_held_out_pieces_nothing_is_flagged():
    report = Index([tune(0)], ["a"]).repeats(tune(0))
    assert report.usual is None and not report.flagged and report.weight > 200
    assert "no held-out pieces" in str(report)


@pytest.mark.parametrize("score", [Score(), tune(0, notes=3), tune(0, tracks=(Track("Kit", 0, True, "drums"),))])
def test_too_little_music_is_nothing_in_common(tunes, score):
    assert tunes.matches(score) == []
    assert tunes.repeats(score).facts()["flagged"] is False
    assert Index([score], ["a"]).matches(tune(0)) == []


def test_a_wall_of_notes_at_once_is_borne():
    wall = Score([(0, 480, pitch, 60, 0) for pitch in range(128) for _ in range(3)])
    assert Index([wall, tune(0)], ["a", "b"]).matches(wall) == []


def test_a_corpus_without_pitches_is_refused(tmp_path):
    (tmp_path / "midi").mkdir()
    for seed in range(3):
        write_midi(tune(seed, tracks=(Track("Kit", 0, True, "drums"),)), tmp_path / "midi" / f"{seed}.mid")
    kit = prepare(tmp_path / "midi", tmp_path / "corpus", keep=("drums", "range"), tokenizer="performance")
    with pytest.raises(EmptyCorpus, match="no pitched music"):
        originality_index(kit)


# --- the door --------------------------------------------------------------------------------------------------


def test_the_command_tells_of_each_file_where_it_comes_from(corpus, tmp_path, capsys):
    (tmp_path / "takes").mkdir()
    number = corpus.split("train")[0]
    write_midi(disguised(bars(corpus.score(number), 3, 8), 0), tmp_path / "takes" / "copy.mid")
    write_midi(tune(77, tracks=HANDS, notes=64), tmp_path / "takes" / "own.mid")
    main(["originality", str(corpus.folder), str(tmp_path / "takes"), "--json", str(tmp_path / "found.json")])
    copy, own = capsys.readouterr().out.strip().splitlines()
    assert "copy.mid: NOT ORIGINAL" in copy and corpus.pieces[number].path in copy
    assert "NOT" not in own
    found = json.loads((tmp_path / "found.json").read_text())
    assert [facts["flagged"] for facts in found.values()] == [True, False]


def test_of_a_take_with_a_prompt_only_what_was_written_counts(corpus, tmp_path, capsys):
    own, prompt = corpus.score(corpus.split("train")[0]), tmp_path / "prompt.mid"
    write_midi(own, prompt)
    begin = int(own.bars()[-1])
    new = shifted(tune(77, tracks=HANDS, notes=64).notes, begin)
    write_midi(own.replace(notes=np.concatenate([own.notes, new])), tmp_path / "take.mid")
    for region, copied in (([begin / own.ticks_per_quarter, 10**6], False), (None, True)):
        told = {"settings": {"prompt": "gone.mid"}, "region_quarters": region}
        (tmp_path / "take.json").write_text(json.dumps(told))
        main(["originality", str(corpus.folder), str(tmp_path / "take.mid")])
        assert ("NOT ORIGINAL" in capsys.readouterr().out) == copied


def test_the_command_finds_the_corpus_of_a_run(corpus, tmp_path, capsys):
    run, take = tmp_path / "run", tmp_path / "take.mid"
    run.mkdir()
    write_midi(tune(77), take)
    facts = {"tokenizer": "", "base": None, "settings": {}, "finished": True, "corpus": corpus.fingerprint}
    for more in ({"corpus": "0" * 16}, {"corpus": "0" * 16, "corpus_folder": "../corpus"}):  # another one, or changed
        (run / "run.json").write_text(json.dumps(facts | more))
        with pytest.raises(SystemExit):
            main(["originality", str(run), str(take)])
        assert "give the corpus" in capsys.readouterr().err
    (run / "run.json").write_text(json.dumps(facts | {"corpus_folder": "../corpus"}))
    main(["originality", str(run), str(take)])
    out = capsys.readouterr().out
    assert out.startswith(str(take)) and "examined" not in out
    facts |= {"corpus_folder": "../corpus", "base": "../bases/piano-3"}
    (run / "run.json").write_text(json.dumps(facts))
    main(["originality", str(run), str(take), "--json", str(tmp_path / "found.json")])
    told = "originality is beside your pieces alone: those that the base piano-3 has learned were not examined"
    assert capsys.readouterr().out.splitlines()[1:] == [told]
    assert json.loads((tmp_path / "found.json").read_text())[str(take)]["unexamined_base"] == "piano-3"


def test_the_corpus_of_a_run_that_is_a_link_or_is_named_from_within(corpus, tmp_path, monkeypatch):
    (tmp_path / "some" / "disk" / "run").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run").symlink_to(tmp_path / "some" / "disk" / "run")
    told = {"corpus": corpus.fingerprint}
    place = seen_from(tmp_path / "runs" / "run", corpus.folder)
    assert find_corpus(tmp_path / "runs" / "run", told | {"corpus_folder": place}).fingerprint == corpus.fingerprint
    (corpus.folder.parent / "mine").mkdir(exist_ok=True)
    monkeypatch.chdir(corpus.folder.parent / "mine")
    assert find_corpus(Path("run"), told).fingerprint == corpus.fingerprint  # one above it


def test_the_command_says_what_is_missing(corpus, tmp_path, capsys):
    for arguments, told in (
        ([corpus.folder], "no MIDI to compare"),
        (["piano", tmp_path / "a.mid"], "give the corpus"),
    ):
        with pytest.raises(SystemExit):
            main(["originality", *map(str, arguments)])
        assert told in capsys.readouterr().err


# --- real music ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pop():
    folders = sorted(DATA.glob("pop909/*"))[:10]
    if not folders:
        pytest.skip("the shared data is not here")
    found = [examine(folder / f"{folder.name}.mid", InspectSettings(keep_grid=True)).score for folder in folders]
    return folders, Index(found, [folder.name for folder in folders])


def test_copies_of_real_songs_are_found(pop):
    folders, known = pop
    for n, (folder, song) in enumerate(zip(folders, known.scores, strict=True)):
        seconds = float(song.seconds(song.end)) / 3
        take = song.slice(int(song.ticks(seconds)), int(song.ticks(seconds + 12)), cut=True)
        match = known.matches(disguised(take, n, (0.9, 1.1)[n % 2], n - 5))[0]
        assert match.path == folder.name and match.texture > 0.5 and match.share > 0.5


def test_other_takes_of_real_songs_are_found(pop):
    folders, known = pop
    for folder in folders[:5]:
        for path in sorted(folder.glob("versions/*.mid"))[:1]:
            score = examine(path, InspectSettings(keep_grid=True)).score
            assert known.matches(score)[0].path == folder.name
