"""What stands around a region stays as it is, whatever is written into it; and what cannot be asked is refused."""

from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import mido
import numpy as np
import pytest
from folders import tune
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import CHORD, scores
from test_grid import moved
from test_grid import song as pop
from test_tokenizers import fit

from woodshed.errors import FileError, InputError
from woodshed.symbolic.data.tasks import Region, prompt
from woodshed.symbolic.music.chords import lay_out, merged, parse_progression
from woodshed.symbolic.music.extras import Extra
from woodshed.symbolic.music.midi import encode, parse_midi
from woodshed.symbolic.music.parts import only_tracks
from woodshed.symbolic.music.score import CHORD as CHORD_DTYPE
from woodshed.symbolic.music.score import Score, Track
from woodshed.symbolic.playing.chart import bar_lines, chart, harmonised
from woodshed.symbolic.playing.form import Scene
from woodshed.symbolic.playing.placing import added, finish, in_ensemble, resting, without_slips, written
from woodshed.symbolic.playing.prompts import read_prompt
from woodshed.symbolic.playing.settings import make_settings
from woodshed.symbolic.playing.stage import Stage, at_scene, fitted, set_stage
from woodshed.symbolic.run import Run
from woodshed.symbolic.tokenizers import make

TOKENIZERS = {name: make(name) for name in ("remi", "performance")}
HANDS = (Track("Piano", 0), Track("Piano", 0))
SONG = (Track("Sung", 52, False, "melody"), Track("Band", 24, False, "accompaniment"), Track("Low", 33, False, "bass"))


def run_of(name, **music):
    """A run that has learned nothing: as much of it as a stage needs."""
    return Run(Path("toy"), TOKENIZERS[name], {"music": {"prepared": {"hands": "joined"}, **music}}, Path("toy"))


def stage_of(name, score, *, music=None, **asked):
    return set_stage(run_of(name, **music or {}), make_settings(None, {"prompt": score, "keep_grid": True} | asked))


def rows(array):
    return sorted(array.tolist())


def outside(stage, file, slack):
    """The notes of a file that a stage may not touch."""
    onset = stage.prompt.to_score(file.notes["onset"])
    inside = (onset >= stage.region.start - slack) & (onset < stage.region.end - slack)
    return file.notes[~(inside & np.isin(file.notes["track"], stage.tracks))]


def check_law(stage, file, music, tokenizer):
    """Outside of the region the result is the file; what is new lies inside it, in the parts to be written."""
    whole, alone = finish(stage, written(stage, music), pedalled=not tokenizer.needs_bars)
    # a note that sounds on the bar line though it was played a little early belongs to its bar
    kept = Counter(map(tuple, rows(outside(stage, file, file.ticks_per_quarter // 24 if tokenizer.needs_bars else 0))))
    new = Counter(map(tuple, rows(whole.notes)))
    new.subtract(kept)
    assert min(new.values(), default=0) >= 0
    assert sum(new.values()) == len(alone.notes)
    start, end = (int(stage.prompt.to_file(tick)) for tick in (stage.region.start, stage.region.end))
    for onset, duration, _, _, track in new.elements():
        assert start <= onset and onset + duration <= max(end, onset + 1)
        assert track in stage.tracks or track >= len(file.tracks)
    for name in ("tempos", "metres"):
        assert rows(getattr(whole, name)) == rows(getattr(file, name))
    for name in ("pedals",):
        mine, theirs = (getattr(score, name) for score in (whole, file))
        assert rows(mine[(mine["tick"] < start) | (mine["tick"] >= end)]) == rows(
            theirs[(theirs["tick"] < start) | (theirs["tick"] >= end)]
        )
    assert [track[:3] for track in whole.tracks[: len(file.tracks)]] == [track[:3] for track in file.tracks]
    assert (whole.ticks_per_quarter, whole.free) == (file.ticks_per_quarter, file.free)
    return whole


each = pytest.mark.parametrize("name", TOKENIZERS)


def test_a_pedal_before_the_file_begins_is_down_from_its_first_tick():
    file = moved(pop(bars=16), 240)  # its first bar line lies before the file
    stage = stage_of("performance", file, bars="1-4", keep_grid=False)
    assert stage.prompt.origin > 0
    music = TOKENIZERS["performance"].quantize(tune(3, 48)).replace(pedals=[(0, 127, 0), (10, 0, 0), (20, 127, 0)])
    whole, _ = finish(stage, written(stage, music), pedalled=True)
    assert whole.pedals["tick"].min() == 0 and whole.pedals["value"][0] == 127
    assert parse_midi(encode(whole)).notes.tolist() == whole.notes.tolist()


def test_a_pedal_lifted_for_less_than_a_tick_of_the_file_is_lifted():
    file = Score([(tick, 48, 60, 80, 0) for tick in range(0, 384, 48)], tempos=[(0, 1_000_000)], ticks_per_quarter=24)
    stage = stage_of("performance", file, bars="1-2")
    pedals = [(0, 127, 0), (1000, 0, 0), (1010, 127, 0), (3000, 0, 0)]
    music = Score([(0, 3000, 60, 80, 0)], pedals, ticks_per_quarter=500, free=True)
    whole, _ = finish(stage, written(stage, music), pedalled=True)
    assert whole.pedals.tolist()[:3] == [(0, 127, 0), (24, 0, 0), (24, 127, 0)]


@each
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_whatever_is_written_all_else_stays(name, data):
    tokenizer = TOKENIZERS[name]
    score, other = (data.draw(scores(free=False if tokenizer.needs_bars else None)) for _ in range(2))
    assume(any(not track.drums for track in sounding(score)))
    if score.free:
        length = float(score.seconds(score.end))
        first = data.draw(st.floats(0, max(length - 0.5, 0)))
        asked = {"seconds": f"{first:.2f}-{first + data.draw(st.floats(0.1, 1)):.2f}"}
    else:
        count = len(score.bars()) - 1
        first = data.draw(st.integers(1, count))
        asked = {"bars": f"{first}-{data.draw(st.integers(first, count))}"}
    stage = stage_of(name, score, **asked)
    if data.draw(st.booleans()):
        stage = stage_of(name, score, parts=data.draw(st.sampled_from(stage.prompt.parts())), **asked)
    music = tokenizer.quantize(other)
    check_law(stage, score, music.slice(0, max(1, stage.region.end - stage.region.start)), tokenizer)


def sounding(score):
    return [score.tracks[track] for track in np.unique(score.notes["track"]).tolist()]


@each
def test_what_stood_in_a_region_comes_back_when_it_is_written_again(name):
    tokenizer = TOKENIZERS[name]
    song = tune(3, notes=120, tracks=SONG, step=240)
    for asked in ({"bars": "1-1"}, {"bars": "3-5"}, {"bars": "8-8"}, {"parts": "bass"}):
        stage = stage_of(name, song, **asked)
        whole_stage = stage_of(name, song)
        region = stage.region
        body = tokenizer.body(whole_stage.prompt.score, region.start, region.end, given=region.given(stage.score))
        whole = check_law(stage, song, tokenizer.decode_body(body.ids), tokenizer)
        told = [[note[:3] + note[4:] for note in rows(score.notes)] for score in (whole, song)]
        assert told[0] == told[1], asked


@each
def test_a_prompt_without_a_beat_keeps_the_ticks_of_its_file(name):
    """As a DAW records what is played without a click: 120 bpm, and no note on its grid."""
    rng = np.random.default_rng(1)
    onset = np.sort(rng.integers(0, 20_000, 300))
    file = Score([(int(t), 400, int(p), 60, 0) for t, p in zip(onset, rng.integers(40, 80, 300), strict=True)])
    file = file.without_overlaps().replace(pedals=[(100, 127, 0), (9_000, 0, 0), (11_000, 127, 0)])
    if name == "remi":
        with pytest.raises(InputError, match=r"played freely.*--keep-grid"):
            stage_of(name, file, keep_grid=False, seconds="5-9")
        return
    stage = stage_of(name, file, keep_grid=False, seconds="5-9")
    assert stage.score.free and not file.free and (stage.region.start, stage.region.end) == (5000, 9000)
    music = Score([(500, 300, 60, 80, 0)], [(0, 127, 0), (2_000, 0, 0)], ticks_per_quarter=500, free=True)
    whole = check_law(stage, file, music, TOKENIZERS[name])
    assert (5280, 288, 60, 80, 0) in rows(whole.notes)  # 5.5 s on, at 960 ticks a second
    pedals = [row for row in rows(whole.pedals) if 4800 <= row[0] < 8640]
    assert pedals == [(4800, 127, 0), (6720, 0, 0), (8639, 127, 0)]  # down again, as it was in the file
    lifted = Score([(500, 300, 60, 80, 0)], [(0, 127, 0), (4_000, 0, 0)], ticks_per_quarter=500, free=True)
    whole, _ = finish(stage, written(stage, lifted), pedalled=True)
    assert [row for row in whole.pedals.tolist() if 4800 <= row[0] < 8640][-1] == (8639, 127, 0)


def test_the_pedal_of_the_file_stays_where_the_run_plays_none():
    file = tune(1, notes=64).replace(pedals=[(tick, 127 * (tick % 960 == 0), 0) for tick in range(0, 9600, 480)])
    stage = stage_of("remi", file, bars="2-3")
    assert rows(check_law(stage, file, Score([(0, 12, 60, 80, 0)], ticks_per_quarter=12), make("remi")).pedals) == rows(
        file.pedals
    )


# --- where the music goes --------------------------------------------------------------------------------------


def test_notes_join_the_track_that_plays_their_part():
    song = tune(3, notes=120, tracks=SONG)
    stage = stage_of("remi", song, bars="2-3", parts=["bass", "accompaniment"])
    music = Score(
        [(0, 12, 40, 80, 0), (0, 12, 60, 80, 1), (12, 12, 64, 80, 2)],
        tracks=(Track(part="bass"), Track(part="accompaniment"), Track(part="other")),
        ticks_per_quarter=12,
    )
    whole = check_law(stage, song, music, make("remi"))
    new = {(1920, 480, 40, 80, 2), (1920, 480, 60, 80, 1), (2400, 480, 64, 80, 1)}  # what has no part: the most notes
    assert new <= set(map(tuple, whole.notes.tolist())) and len(whole.tracks) == 3


def test_two_hands_learned_as_one_are_two_in_the_file():
    """A run whose corpus joined the hands writes into both tracks; asked for one it hears the other as another part."""
    left, right = tune(1, notes=60, center=48), tune(2, notes=60, center=74)
    piano = right.merge(left).replace(tracks=HANDS)
    both = stage_of("remi", piano, bars="2-3")
    assert {track.part for track in both.score.tracks} == {"other"} and both.prompt.parts() == ["left", "right"]
    music = Score([(0, 12, 50, 80, 0), (0, 12, 72, 80, 0)], tracks=(Track(part="other"),), ticks_per_quarter=12)
    whole = check_law(both, piano, music, make("remi"))
    assert {(1920, 480, 50, 80, 1), (1920, 480, 72, 80, 0)} <= set(map(tuple, whole.notes.tolist()))
    one = stage_of("remi", piano, bars="2-3", parts="left")
    assert one.region.parts == ("accompaniment",) and one.region.given(one.score) == ("melody",)
    assert one.tracks == (1,)


def test_a_key_that_is_down_stays_down():
    file = Score([(0, 2100, 60, 80, 0), (0, 480, 62, 80, 0), (3840, 480, 64, 80, 0), (5000, 300, 64, 80, 0)])
    stage = stage_of("remi", file, bars="2-2")
    music = Score([(0, 3, 60, 90, 0), (0, 12, 64, 90, 0), (3, 12, 60, 91, 0), (6, 12, 60, 92, 0)], ticks_per_quarter=12)
    whole = check_law(stage, file, music, make("remi"))
    assert [row for row in rows(whole.notes) if row[2] == 60] == [
        (0, 2100, 60, 80, 0),
        (2100, 60, 60, 91, 0),
        (2160, 480, 60, 92, 0),
    ]


def test_drums_stay_and_are_not_seen():
    kit = Track("Kit", 0, True)
    song = tune(1, notes=60).merge(tune(2, notes=60).replace(tracks=(kit,)))
    stage = stage_of("remi", song, bars="2-3")
    assert stage.tracks == (0,) and len(stage.score.tracks) == 1
    check_law(stage, song, Score([(0, 12, 60, 80, 0)], ticks_per_quarter=12), make("remi"))
    with pytest.raises(FileError, match="plays no drums, the file has only drums"):
        stage_of("remi", tune(1).replace(tracks=(kit,)), bars="1-2")


# --- a part that the file has not --------------------------------------------------------------------------------

DUO, TRIO = ["melody", "accompaniment"], ["melody", "bass", "accompaniment"]
BAND = {"ensembles": [DUO, ["melody"], ["other"], TRIO], "programs": {"melody": 11, "bass": 32, "accompaniment": 24}}
PLAYED = Score(
    [(0, 12, 40, 80, 0), (24, 12, 43, 80, 0), (480, 12, 45, 80, 0)], tracks=(Track(part="bass"),), ticks_per_quarter=12
)


def tracks_named(song, *names):
    return only_tracks(song, [n for n, track in enumerate(song.tracks) if track.name in names])


@each
@pytest.mark.parametrize(("asked", "bars"), [({}, (0, 15)), ({"bars": "3-4"}, (2, 4))])
def test_a_part_that_the_file_has_not_gets_a_track_of_its_own(name, asked, bars):
    kit = Track("Kit", 0, True, "drums")
    song = tracks_named(tune(3, notes=120, tracks=(*SONG, kit)), "Sung", "Band", "Kit")
    song = song.replace(pedals=[(0, 127, 1), (3000, 0, 1)], tempos=[(0, 500_000), (1920, 600_000)])
    stage = stage_of(name, song, parts="bass", music=BAND, **asked)
    assert stage.tracks == () and (stage.region.start, stage.region.end) == (1920 * bars[0], 1920 * bars[1])
    assert stage.region.parts == stage.only == ("bass",) and stage.region.given(stage.score) == tuple(DUO)
    whole = check_law(stage, song, PLAYED, TOKENIZERS[name])
    assert len(whole.notes) > len(song.notes) and rows(whole.pedals) == rows(song.pedals)
    assert whole.tracks == (*song.tracks, Track("bass", 32, False, "bass"))
    extras = [Extra(1, 90, b"\xb0\x07\x09"), Extra(2, 90, b"\xb0\x0a\x09")]
    before, after = (mido.MidiFile(file=BytesIO(encode(score, extras=extras))).tracks for score in (song, whole))
    assert [track[:-1] for track in after[1:-1]] == [track[:-1] for track in before[1:]]  # all but where they end
    assert len(after) == len(before) + 1


def test_a_new_part_beside_one_that_is_written_again():
    song = tracks_named(tune(3, notes=120, tracks=SONG), "Sung", "Band")
    stage = stage_of("remi", song, parts="bass melody", bars="2-3", music=BAND)
    assert stage.tracks == (0,) and stage.region.parts == ("melody", "bass")
    music = Score([(0, 12, 40, 80, 0), (0, 12, 70, 80, 1)], tracks=PLAYED.tracks + SONG[:1], ticks_per_quarter=12)
    whole = check_law(stage, song, music, make("remi"))
    assert {(1920, 480, 40, 80, 2), (1920, 480, 70, 80, 0)} <= set(map(tuple, whole.notes.tolist()))


@pytest.mark.parametrize(
    ("tracks", "parts", "ensembles", "heard"),
    [
        ((Track("Chords"),), "melody", [["other"], DUO], ["accompaniment"]),  # a whole piano, were it alone
        (HANDS, "melody", [["other"], DUO], ["accompaniment", "accompaniment"]),
        ((Track("Chords"),), "accompaniment", [["other"], DUO], ["melody"]),
        ((Track("Song", 0, False, "melody"),), "left", [["left", "right"]], ["right"]),
        (SONG[1:], "melody", [DUO, TRIO], ["accompaniment", "bass"]),
        (SONG[1:], "melody", [DUO], ["accompaniment", "accompaniment"]),
    ],
)
def test_a_new_part_is_played_to_parts_that_the_run_knows_beside_it(tracks, parts, ensembles, heard):
    lines = [tune(seed, notes=64, center=74 - 20 * seed, step=480) for seed in range(len(tracks))]
    chord = [(onset, 700, 60 + add, 60, 0) for onset in range(0, 30720, 960) for add in (0, 4, 7)]
    lines[0] = Score(chord) if tracks[0].part == "other" and len(tracks) == 1 else lines[0]
    song = lines[0].merge(*lines[1:]) if len(lines) > 1 else lines[0]
    stage = stage_of("remi", song.replace(tracks=tracks), parts=parts, music={"ensembles": ensembles})
    assert [track.part for track in stage.score.tracks] == heard and stage.tracks == ()


@each
@pytest.mark.parametrize("word", ["Strings", " strings", "3"])
def test_a_track_can_be_asked_for_by_name_or_number(name, word):
    band = (SONG[0], SONG[1], Track("Strings", 48, False, "accompaniment"), Track("Kit", 0, True, "drums"))
    song = tune(3, notes=160, tracks=band, step=240)
    stage = stage_of(name, song, parts=(word,), bars="2-3", music=BAND)
    assert stage.tracks == (2,) and stage.region.parts == stage.only == ("accompaniment",)
    whole = check_law(stage, song, Score([(0, 12, 60, 80, 0)], ticks_per_quarter=12), TOKENIZERS[name])
    assert len(whole.notes) < len(song.notes)
    with pytest.raises(
        InputError, match=r"--parts Kit: .*, or a track: 1 'Sung', 2 'Band', 3 'Strings'; this run plays"
    ):
        stage_of(name, song, parts=("Kit",), music=BAND)


def test_a_word_is_a_part_before_it_is_a_name_and_a_hand_can_be_named():
    choir = (SONG[0], Track("Bass", 52, False, "accompaniment"), Track("Low", 33, False, "bass"))
    song = tune(3, notes=120, tracks=choir)
    assert stage_of("remi", song, parts="bass").tracks == (2,) and stage_of("remi", song, parts="1,2").tracks == (0, 1)
    hands = tune(3, notes=120, tracks=(Track("Up", part="right"), Track("Down", part="left")))
    down, left = (stage_of("remi", hands, parts=word) for word in ("Down", "left"))
    assert down.tracks == left.tracks == (1,) and down.region == left.region


def test_chords_under_a_bare_melody_are_those_that_fit_to_it():
    song = tune(5, notes=64, tracks=SONG[:1])
    new, old = (stage_of("remi", song, music=BAND, **asked) for asked in ({"parts": "accompaniment"}, {"melody": "1"}))
    assert rows(new.score.chords) == rows(harmonised(song)) and new.chart == old.chart and new.head == old.head


@pytest.mark.parametrize(
    ("parts", "ensembles", "message"),
    [
        (
            "left",
            [DUO, ["other"]],
            r"--parts left: the file has no such part; .*: melody, or a track: 1 'Sung'; this run plays melody \+ acc",
        ),
        ("other", [DUO, ["other"]], r"--parts other: .*this run plays melody \+ accompaniment, other$"),
        ("bass accompaniment", [DUO, ["melody", "bass"]], "--parts bass accompaniment: the file has no such part"),
        ("bass", [], "--parts bass: the file has no such part; choose from: melody, or a track: 1 'Sung'$"),
    ],
)
def test_a_part_that_the_run_plays_to_no_others_is_refused(parts, ensembles, message):
    with pytest.raises(InputError, match=message):
        stage_of("remi", tune(5, tracks=SONG[:1]), parts=parts, music={"ensembles": ensembles})


@pytest.mark.parametrize(
    ("parts", "plays"),
    [("melody", ("melody",)), ("bass", ("melody", "bass")), ("bass, melody", ("melody", "bass"))],
)
def test_parts_alone_are_played_with_what_usually_plays_beside_them(parts, plays):
    music = {"ensembles": [["melody", "bass"], ["melody"], ["melody", "bass", "accompaniment"]]}
    stage = stage_of("remi", None, parts=parts, music=music)
    assert stage.only == plays and {*stage.kept} == {*parts.split(", ")} and not stage.region.parts
    band = tune(3, notes=64, tracks=SONG)
    assert {band.tracks[track].part for track in stage.keep(band).notes["track"]} == {*stage.kept}
    with pytest.raises(
        InputError, match=r"--parts drums: this run plays melody \+ bass, melody, melody \+ bass \+ acc"
    ):
        stage_of("remi", None, parts="drums", music=music)


def test_tokens_without_parts_play_to_nothing():
    pytest.importorskip("miditok")
    run = Run(Path("toy"), make("miditok:TSD"), {"music": BAND}, Path("toy"))
    with pytest.raises(InputError, match="miditok:TSD tokens know no parts to play to; prepare the corpus with remi"):
        set_stage(run, make_settings(None, {"prompt": tune(5, tracks=SONG[:1]), "parts": "bass", "keep_grid": True}))


def test_new_tracks_have_the_instrument_of_their_part():
    """What plays the part in the file, though it is left out of the take; else what mostly does in the corpus."""
    kit = Track("drums", 0, True, "drums")
    music = Score(
        [(0, 12, 40, 80, 0), (0, 12, 60, 80, 1), (0, 12, 38, 80, 2), (0, 12, 72, 80, 3)],
        tracks=(Track(part="bass"), Track(part="accompaniment"), kit, Track(part="other")),
        ticks_per_quarter=12,
    )
    empty = set_stage(run_of("remi", **BAND), make_settings(None, {"bars": 2}))
    told = {track.part: track[1:3] for track in finish(empty, written(empty, music), pedalled=False)[0].tracks}
    assert told == {"bass": (32, False), "accompaniment": (24, False), "drums": (0, True), "other": (0, False)}
    song = tune(3, notes=120, tracks=(SONG[0], SONG[1]._replace(program=49), SONG[2]))
    for learned in (BAND, {}):
        stage = stage_of("remi", song, melody="auto", music=learned)
        whole, alone = finish(stage, written(stage, PLAYED), pedalled=False)
        assert [track.program for track in whole.tracks] == [52, 49] and alone.tracks[0].program == 49
    stage = stage_of("remi", tracks_named(song, "Sung"), melody="auto")
    assert [track.program for track in finish(stage, written(stage, PLAYED), pedalled=False)[0].tracks] == [52, 0]


# --- after the end, and under a melody -------------------------------------------------------------------------


@each
@given(score=scores(free=False), bars=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_what_is_extended_begins_with_the_very_file(name, score, bars):
    assume(any(not track.drums for track in sounding(score)))
    stage = stage_of(name, score, bars=bars, bpm=90, metre="3/4")
    lines = stage.score.bars(stage.region.end)
    first = int(np.searchsorted(lines, stage.region.start))
    assert lines[first] == stage.region.start and len(lines) == first + bars + 1
    music = Score([(0, 12, 60, 80, 0)], ticks_per_quarter=12)
    whole, _ = finish(stage, written(stage, music), pedalled=False)
    assert rows(whole.notes[whole.notes["onset"] < stage.region.start]) == rows(score.notes)
    assert whole.metres[-1].tolist()[1:] == (3, 4) and whole.tempos[-1]["usec"] == 666_667
    assert (whole.notes["onset"] >= stage.region.start).sum() == 1


@each
@pytest.mark.parametrize("metre", ["18/8", "5/32"])
def test_a_run_plays_in_the_metre_that_it_has_learned(name, metre):
    stage = set_stage(run_of(name, metre=metre), make_settings(None, {"bars": 2}))
    assert stage.score.metres.tolist() == [(0, *map(int, metre.split("/")))] and len(stage.lines) == 3


def test_an_ending_needs_tokens_that_know_of_one():
    pytest.importorskip("miditok")
    run = Run(Path("toy"), make("miditok:REMI"), {}, Path("toy"))
    with pytest.raises(InputError, match="--ending: toy plays MidiTok's tokens"):
        set_stage(run, make_settings(None, {"bars": 2, "ending": True}))


def test_parts_that_are_kept_alone_keep_the_pedal():
    stage = set_stage(
        run_of("performance", ensembles=[DUO]), make_settings(None, {"bars": 2, "parts": "accompaniment"})
    )
    notes = [(0, 480, 72, 80, 0), (0, 480, 48, 80, 1)]
    tracks = (Track(part="melody"), Track(part="accompaniment"))
    music = written(stage, Score(notes, pedals=[(0, 127, 0), (960, 0, 0)], tracks=tracks))
    whole, _ = finish(stage, stage.keep(music), pedalled=True)
    assert whole.notes["pitch"].tolist() == [48] and rows(whole.pedals) == [(0, 127, 0), (960, 0, 0)]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_note_that_the_last_bar_line_leaves_a_moment_is_left_out_of_an_ending(name):
    stage = set_stage(run_of(name), make_settings(None, {"bars": 2, "ending": True}))
    stage = at_scene(stage, Scene(0, int(stage.lines[1])), None)
    tracks = (Track("Tune", part="melody"), Track("Kit", 0, True, "drums"))
    notes = [(0, 480, 60, 80, 0), (1800, 40, 62, 80, 0), (1800, 120, 64, 80, 0), (1880, 40, 65, 80, 0)]
    notes += [(1863, 57, 66, 80, 0), (1862, 58, 67, 80, 0)]  # heard on the bar line, and before it
    music = written(stage, Score([*notes, (1880, 40, 38, 80, 1)], tracks=tracks))
    assert without_slips(music, stage.region.end).notes["pitch"].tolist() == [60, 62, 64, 67, 38]


def test_music_goes_on_at_the_usual_tempo_after_a_ritardando_and_a_short_bar():
    notes = [(480 * quarter, 480, 60, 80, 0) for quarter in range(38)]
    slowing = [(0, 500_000), (480 * 32, 700_000), (480 * 34, 900_000)]
    song = Score(notes, tempos=slowing, metres=[(0, 4, 4), (480 * 36, 2, 4)], tracks=HANDS[:1], ticks_per_quarter=480)
    stage = stage_of("remi", song, bars=2)
    for score in (stage.file, stage.score):
        assert [list(row) for row in score.tempos.tolist()[-2:]] == [[480 * 34, 900_000], [480 * 38, 500_000]]
        assert list(score.metres.tolist()[-1]) == [480 * 38, 4, 4]
    assert stage.region == Region(480 * 38, 480 * 46)
    asked = stage_of("remi", song, bars=2, bpm=100, metre="3/4")
    assert asked.file.tempos["usec"][-1] == 600_000 and asked.region == Region(480 * 38, 480 * 44)


def test_a_file_whose_bars_are_others_goes_on_at_the_tempo_of_the_music():
    """A metronome's metre, as some files have: eight of its bars, the last of them slow, are two of the music's."""
    song = pop()
    close = int(song.bars(song.end)[-3])
    song = song.replace(tempos=[(0, 500_000), (close, 1_000_000)], metres=[(0, 1, 4)])
    stage = stage_of("remi", song, bars=2, keep_grid=False)
    assert tuple(stage.score.metres[-1])[1:] == (4, 4)
    assert stage.file.tempos["usec"][-1] == stage.score.tempos["usec"][-1] == 500_000


@each
@given(score=scores(free=False))
@settings(max_examples=15, deadline=None)
def test_a_melody_is_kept_exactly_and_nothing_else_is(name, score):
    melody = np.unique(score.notes["track"]).tolist()
    assume(any(not track.drums for track in sounding(score)))
    number = next(track for track in melody if not score.tracks[track].drums)
    named = score.replace(tracks=[t._replace(name=f"track {n}", part="other") for n, t in enumerate(score.tracks)])
    stage = stage_of(name, named, melody=f"track {number}")
    assert stage_of(name, named, melody=str(number + 1)).file == stage.file
    assert stage.region.parts == ("accompaniment",) and stage.region.start == 0
    music = Score([(0, 12, 40, 80, 0)], tracks=(Track(part="accompaniment"),), ticks_per_quarter=12)
    whole, alone = finish(stage, written(stage, music), pedalled=False)
    theirs = [note[:4] for note in rows(score.notes[score.notes["track"] == number])]
    assert sorted(note[:4] for note in rows(whole.notes[whole.notes["track"] == 0])) == sorted(theirs)
    assert [track.part for track in whole.tracks] == ["melody", "accompaniment"]
    assert len(alone.notes) == 1 and [track.part for track in alone.tracks] == ["accompaniment"]


@each
def test_the_chords_of_an_accompaniment_can_be_given_back(name):
    song = tune(5, notes=64, tracks=SONG[:1])
    heard = stage_of(name, song, melody="auto")
    assert heard.binding and heard.chart.count("|") == len(song.bars())
    asked = stage_of(name, song, melody="auto", chords=heard.chart)
    assert rows(asked.score.chords) == rows(heard.score.chords)
    stated = song.replace(chords=[(0, 0, 0, 0), (1920, 5, 0, 5), (2880, 7, 10, 11)])
    kept = stage_of(name, stated, melody="auto")
    assert rows(kept.score.chords) == rows(stated.chords) and kept.chart.startswith("| C | F G7/B | G7/B |")
    other = stage_of(name, stated, melody="auto", chords="Am | Dm")
    assert other.score.chords["root"].tolist()[:4] == [9, 2, 9, 2]


def test_a_key_asked_for_is_told_in_place_of_the_prompts():
    run = run_of("remi", head=["Played", "Density_5"])
    new = set_stage(run, make_settings(None, {"key": "B flat minor"}))
    assert new.head == ("Played", "Density_5", "Key_Bbm")
    assert all(f"Key_{key}" in run.tokenizer.index for key in ("Bbm", "F#", "Db"))
    heard, asked = (stage_of("remi", pop(), **more).head for more in ({"bars": 4}, {"bars": 4, "key": "F#"}))
    assert heard[:-1] == asked[:-1] and heard[-1].startswith("Key_") and asked[-1] == "Key_F#"


def test_bars_before_a_melody_are_an_introduction_over_its_first_chord():
    line = tune(5, notes=64, tracks=SONG[:1])
    rest, pickup = (line.replace(notes=[(n[0] + by, *n[1:]) for n in line.notes.tolist()]) for by in (3840, 1440))
    chords = stage_of("remi", rest, melody="auto").score.chords
    assert chords["tick"][0] == 0 and (chords["root"] >= 0).all() and chords["tick"][1] > 3840
    assert stage_of("remi", pickup, melody="auto").score.chords["tick"][0] == 0


def test_chords_asked_for_hold_in_the_region_only():
    song = tune(5, notes=96).replace(chords=[(0, 0, 0, 0), (7680, 5, 0, 5)])
    stage = stage_of("remi", song, bars="2-3", chords="Dm G")
    assert [row[:2] for row in rows(stage.score.chords)] == [(0, 0), (1920, 2), (3840, 7), (5760, 0), (7680, 5)]
    whole, _ = finish(stage, written(stage, Score([(0, 12, 60, 80, 0)], ticks_per_quarter=12)), pedalled=False)
    assert rows(whole.chords) == rows(stage.score.chords)
    free = stage_of("remi", song.replace(chords=()), bars="2-3")
    music = Score([(0, 12, 60, 80, 0)], chords=[(0, 2, 0, 2)], ticks_per_quarter=12)
    heard, _ = finish(free, written(free, music), pedalled=False)
    assert rows(heard.chords) == [(1920, 2, 0, 2), (5760, -1, 0, -1)]  # a file that states none is given no others
    silent = stage_of("remi", song.replace(chords=()), bars="2-3", chords="N.C. G")
    silent, _ = finish(silent, written(silent, music), pedalled=False)
    assert rows(silent.chords) == [(1920, -1, 0, -1), (3840, 7, 0, 7), (5760, -1, 0, -1)]
    assert not free.binding and stage_of("remi", song, bars="2-3").binding
    with pytest.raises(InputError, match="learned no chords"):
        stage_of("remi", song, bars="2-3", chords="C", music={"chords": False})


def test_low_notes_are_for_the_bass_of_the_file_and_who_has_none_is_named():
    song = tune(3, notes=256, tracks=(*SONG, Track("Kit", 0, True)), step=240)
    low = [(onset, 12, pitch, 80, 0) for onset in range(0, 96, 12) for pitch in (38 + onset // 12, 64, 67)]
    own = Score([*low, (48, 12, 50, 80, 1)], tracks=(SONG[1], SONG[2]), ticks_per_quarter=12)
    stage = stage_of("remi", song, bars="3-4")
    for music, bass in ((own, [38, 39, 40, 41, 50]), (own.replace(notes=low), [*range(38, 46)])):
        whole, alone = finish(stage, written(stage, music), pedalled=False)
        heard = {track.name: alone.notes["pitch"][alone.notes["track"] == n] for n, track in enumerate(alone.tracks)}
        assert heard["Low"].tolist() == bass and len(alone.notes) == len(music.notes)
        assert resting(stage, whole) == ["Sung"]  # the kit, which the run does not see, plays on
    whole, _ = finish(stage, written(stage, music.replace(notes=low[1:3])), pedalled=False)
    assert resting(stage, whole) == ["Sung", "Low"]
    beyond = stage_of("remi", song, bars=2)
    assert resting(beyond, finish(beyond, written(beyond, music), pedalled=False)[0]) == ["Sung", "Kit"]


@pytest.mark.parametrize("beats", [5, 7])
def test_a_chart_keeps_chords_on_odd_beats(beats):
    lines = np.arange(3) * beats * 480
    places = [480 * beat for beat in (0, 2, beats - 1, beats, beats + 3)]
    chords = np.array([(at, n, 0, n) for n, at in enumerate(places)], dtype=CHORD_DTYPE)
    assert rows(lay_out(parse_progression(chart(chords, lines)), lines)) == rows(chords)


def test_the_chord_that_holds_where_a_region_begins_is_that_of_what_is_written():
    song = tune(1, tracks=HANDS, notes=64).replace(chords=[(0, 0, 0, 0), (3840, 7, 0, 7)])
    stage = stage_of("remi", song, bars="2-3")
    music = written(stage, Score([(0, 12, 60, 80, 0)], ticks_per_quarter=12))
    assert rows(music.chords) == [(1920, 0, 0, 0), (3840, 7, 0, 7)]
    assert rows(finish(stage, music, pedalled=False)[0].chords) == rows(song.chords)


@given(
    lengths=st.lists(st.sampled_from([480, 960, 1440, 1920, 1000]), min_size=1, max_size=6),
    places=st.lists(st.tuples(st.floats(0, 1), CHORD), max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_a_chart_reads_back_to_the_same_chords(lengths, places):
    lines = np.cumsum([0, *lengths])
    chords = [
        (int(at * lines[-1]), root, quality if root >= 0 else 0, bass if root >= 0 else -1)
        for at, (root, quality, bass) in places
    ]
    chords = merged(Score(chords=np.array(chords, dtype=CHORD_DTYPE)).chords)
    settled = lay_out(parse_progression(chart(chords, lines)), lines)
    assert rows(lay_out(parse_progression(chart(settled, lines)), lines)) == rows(settled)
    wanted = {row[1:] for row in chords.tolist() if row[0] < lines[-1]}
    assert {row[1:] for row in settled.tolist()} <= wanted | {(-1, 0, -1)}
    apart = np.abs(settled["tick"][:, None] - chords["tick"][None, :]).min(axis=1, initial=lines[-1])
    assert (apart[1:] <= max(lengths) / 24).all()


# --- which bars ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "bars"),
    [
        ({}, 16),
        ({"chords": "C F G7 C"}, 16),
        ({"chords": "C7 F7 C7 C7 F7 F7 C7 C7 G7 F7 C7 G7"}, 24),
        ({"chords": "C Am Dm G Em A7"}, 18),
        ({"chords": "|: C | F | C | G :| F"}, 18),
        ({"chords": "C Am Dm G Em A7", "form": "AB"}, 24),
        ({"chords": "A: C Am B: F G Em", "form": "AAB"}, 7),
        ({"chords": "C7 F7 C7 C7 F7 F7 C7 C7 G7 F7 C7 G7", "bars": 10}, 10),
    ],
)
def test_by_default_chords_are_played_to_their_end(asked, bars):
    assert len(set_stage(run_of("remi"), make_settings(None, asked)).lines) == bars + 1


@each
def test_bars_and_seconds_are_counted_as_the_file_counts_them(name):
    song = tune(2, notes=80, metres=[(0, 3, 4), (1440 * 4, 4, 4)])
    for bars, ticks in (("1", (0, 1440)), ("4-5", (4320, 7680)), ("10-10", (15360, 17280))):
        stage = stage_of(name, song, bars=bars if "-" in bars else f"{bars}-{bars}")
        assert (stage.region.start, stage.region.end) == ticks
    stage = stage_of(name, song, seconds="2-5.5")
    ticks = (1440, 5760) if name == "remi" else (1920, 5280)  # whole bars where the run needs bars
    assert (stage.region.start, stage.region.end) == ticks


def test_bars_begin_where_the_music_has_them():
    """A file whose bar lines are wrong: bars are counted from the first that the music has, and the ticks stay."""
    file = moved(pop(), 700)
    stage = stage_of("remi", file, keep_grid=False, bars="2-3")
    assert (
        int(stage.prompt.to_file(stage.region.start)) == 700
        and stage.prompt.origin > 0
        and "bars are counted" in stage.prompt.remark
    )
    check_law(stage, file, Score([(0, 12, 60, 80, 0)], ticks_per_quarter=12), make("remi"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(bars="9-12"), "--bars 9-12: the file has 8 bars"),
        (dict(bars="0-3"), "--bars 0-3: write the first and the last"),
        (dict(bars="12-9"), "--bars 12-9: write the first"),
        (dict(bars="1.5-2"), r"--bars 1\.5-2: write"),
        (dict(bars="two"), "--bars two: write"),
        (dict(bars=0), "--bars 0: give 1 to 2000"),
        (dict(seconds="9-8"), "--seconds 9-8: write from when"),
        (dict(seconds="20-26"), r"--seconds 20-26: the file lasts 16\.0 s"),
        (dict(seconds="14-99"), "--seconds 14-99: the file lasts"),
        (dict(parts=""), "--parts: name at least one"),
        (dict(parts=("melody", "")), "--parts: name at least one"),
        (dict(parts=()), "--parts: name at least one"),
        (dict(parts="flute"), "--parts flute: the file has no such part; choose from: melody, bass, accompaniment"),
        (dict(parts="melody left"), "--parts left: the file has no such part"),
        (dict(parts="melody", bars=4), "--bars 4: .* name the bars to write, such as 9-12"),
        (dict(parts="melody", seconds=5), "--seconds 5: .* name the seconds to write, such as 20-26"),
        (dict(melody="Horn"), "--melody Horn: no such track; choose with --melody one of: 1 'Sung', 2 'Band', 3 'Low'"),
        (dict(melody="7"), "--melody 7: no such track"),
        (dict(melody="²"), "--melody ²: no such track"),
        (dict(melody="auto", parts="bas"), "--parts bas: choose from: melody, "),
        (dict(bars="1-2", bpm=90), "--bpm: what is written inside"),
        (dict(prompt=None, bars="1-2"), "belongs to a prompt"),
        (dict(prompt=None, parts="melody"), "--parts melody: this run has learned no parts"),
        (dict(prompt=Score()), "no notes"),
        (dict(bars="1-2", chords="H7"), "H7"),
    ],
)
def test_what_is_no_region_is_refused_by_name(asked, message):
    song = tune(3, notes=64, tracks=SONG)
    with pytest.raises((InputError, FileError), match=message):
        stage_of("remi", song, **asked)


def test_free_time_has_no_bars():
    with pytest.raises(InputError, match="--bars 1-2: the file is played freely"):
        stage_of("performance", tune(1).freed(), bars="1-2")


# --- what fits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "alone"), [("melody", {"melody": [72]}), ("melody bass", {"melody": [72]}), ("bass", {})]
)
def test_a_part_that_is_new_has_a_file_of_its_own_whatever_is_written_with_it(parts, alone):
    song = tune(3, notes=64, tracks=(SONG[1], SONG[2]))
    stage = stage_of("remi", song, parts=parts, bars="2-3", music={"ensembles": [TRIO]})
    tracks = tuple(Track(part=part) for part in parts.split())
    music = Score([(0, 12, 72 - 36 * n, 80, n) for n in range(len(tracks))], tracks=tracks, ticks_per_quarter=12)
    whole, _ = finish(stage, written(stage, music), pedalled=False)
    assert {name: one.notes["pitch"].tolist() for name, one in added(stage, whole).items()} == alone


@pytest.mark.parametrize("word", ["drums", "2", "kit"])
def test_a_part_that_the_run_does_not_play_is_not_told_to_be_missing(word):
    song = tune(3, notes=64, tracks=(SONG[0], Track("Kit", 0, True, "drums")))
    with pytest.raises(InputError, match=f"--parts {word}: this run does not play it; choose from: melody, or a track"):
        stage_of("remi", song, parts=word)


@pytest.mark.parametrize("keep_grid", [False, True])
def test_only_a_file_with_bars_can_be_believed(keep_grid):
    with pytest.raises(InputError, match="this run needs bars; take a run of played music"):
        stage_of("remi", tune(1).freed(), bars=2, keep_grid=keep_grid)


@each
@given(score=scores(), data=st.data(), room=st.integers(0, 300))
@settings(max_examples=25, deadline=None)
def test_any_prompt_fits_into_any_room(name, score, data, room):
    tokenizer = TOKENIZERS[name]
    assume(fit(score, tokenizer))
    lines = score.seams(tokenizer.end(score)).tolist()
    first = data.draw(st.integers(0, len(lines) - 2))
    region = Region(lines[first], lines[data.draw(st.integers(first + 1, len(lines) - 1))])
    cut, moved = fitted(tokenizer, score, region, room)
    assert moved.end - moved.start == region.end - region.start
    end = None if (cut.notes["onset"] >= moved.end).any() else moved.end
    ids = prompt(tokenizer, cut.replace(notes=cut.notes[cut.notes["onset"] < moved.end]), moved, end=moved.end)
    assert len(ids) <= room + 8
    assert end is None or len(prompt(tokenizer, cut, moved, end=end)) <= room + 8
    all_of_it, same = fitted(tokenizer, score, region, 10**6)
    assert same == region and len(all_of_it.notes) == len(score.notes)


def test_a_long_file_is_cut_on_both_sides_at_bars_far_from_the_region():
    tokenizer, song = TOKENIZERS["remi"], tune(1, notes=2400)
    region = Region(1920 * 150, 1920 * 154)
    cut, moved = fitted(tokenizer, song, region, 600)
    before, after = moved.start // 1920, (cut.end - moved.end) // 1920
    assert before == pytest.approx(after, abs=1) and 5 < before < 20
    at_the_end, last = fitted(tokenizer, song, Region(1920 * 298, 1920 * 300), 600)
    assert last.start // 1920 > 1.8 * before and at_the_end.end <= last.end


def test_a_tempo_and_a_metre_divide_free_time_into_bars():
    stage = stage_of("performance", tune(1).freed(), bars=3, chords="C | Am7 G7 | F", bpm=60, metre="3/4")
    assert stage.chart == "| C | Am7 G7 | F |"
    assert np.diff(stage.lines).tolist() == [3000] * 3
    first = at_scene(stage, Scene(stage.region.start, int(stage.lines[2])), None)
    assert first.region.end == stage.lines[2] and first.lines.tolist() == stage.lines[:3].tolist()


def test_bar_lines_of_free_time_are_two_seconds_apart():
    assert bar_lines(tune(1).freed(), 500, 5000).tolist() == [500, 2500, 4500, 5000]


def test_a_run_of_one_hand_or_of_drums_sees_what_it_has_learned():
    hands = (Track("Right", 0, False, "right"), Track("Left", 0, False, "left"))
    prompt = read_prompt(tune(tracks=hands), {"hands": "joined", "only_part": "left"}, keep_grid=True)
    assert prompt.seen == (1,) and prompt.parts() == ["left"]
    drums = tune(tracks=(Track("Kit", 0, True, "drums"), Track("Bass", 33, False, "bass")))
    assert read_prompt(drums, {"only_part": "drums"}, keep_grid=True).parts() == ["drums"]
    assert read_prompt(drums, {"drums": True}, keep_grid=True).parts() == ["bass", "drums"]
    assert read_prompt(drums, {}, keep_grid=True).parts() == ["bass"]


def test_read_prompt_takes_paths_and_says_what_is_wrong(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_prompt(tmp_path / "nothing.mid", {})
    with pytest.raises(FileError, match=r"plays melody, the file has only other"):
        read_prompt(
            tune(1).merge(tune(2, center=40)).replace(tracks=(Track(part="other"),) * 2), {"only_part": "melody"}
        )


# --- parts that play together ------------------------------------------------------------------------------------


def band(**notes):
    """A Score with a track for each part and the given pitches on it, one a quarter."""
    rows = [(480 * n, 480, pitch, 80, t) for t, row in enumerate(notes.values()) for n, pitch in enumerate(row)]
    return Score(rows, tracks=tuple(Track(part, 0, part == "drums", part) for part in notes))


@pytest.mark.parametrize(
    ("ensembles", "there", "notes", "expected"),
    [
        ([DUO], {}, {"melody": [72, 74], "left": [50]}, {"melody": [50, 72, 74]}),
        (
            [DUO],
            {},
            {"melody": [72] * 3, "accompaniment": [50], "other": [55, 80]},
            {"melody": [72, 72, 72, 80], "accompaniment": [50, 55]},
        ),
        ([DUO], {}, {"melody": [72], "accompaniment": [50], "other": [50]}, {"melody": [72], "accompaniment": [50]}),
        ([DUO], {}, {"melody": [72], "drums": [38, 42, 38]}, {"melody": [72]}),
        ([DUO, ["drums"]], {}, {"melody": [72], "drums": [38, 42, 38]}, {"melody": [72]}),
        ([DUO, [*DUO, "drums"]], {}, {"melody": [72], "drums": [38, 42]}, {"melody": [72], "drums": [38, 42]}),
        ([DUO], {}, {"left": [50], "right": [70]}, {"left": [50], "right": [70]}),
        ([DUO, ["other"]], {"melody": [60]}, {"melody": [72], "other": [50, 52]}, {"melody": [50, 52, 72]}),
        ([DUO, TRIO], {"bass": [40]}, {"melody": [72], "bass": [40]}, {"melody": [72], "bass": [40]}),
        ([DUO], {"bass": [40], "left": [40]}, {"melody": [72], "bass": [40]}, {"melody": [72], "bass": [40]}),
        ([], {}, {"melody": [72], "left": [50]}, {"melody": [72], "left": [50]}),
        ([DUO], {}, {}, {}),
    ],
)
def test_notes_of_parts_that_do_not_go_together_go_to_the_nearest(ensembles, there, notes, expected):
    """`there` are notes on the stage already."""
    stage = Stage(None, band(**there), band(**there), Region(0, 1920))
    made = in_ensemble(stage, band(**notes), ensembles)
    found = {track.part: made.notes["pitch"][made.notes["track"] == n].tolist() for n, track in enumerate(made.tracks)}
    assert {part: sorted(pitches) for part, pitches in found.items() if pitches} == expected
    asked = replace(stage, region=Region(0, 1920, ("bass",)))
    assert in_ensemble(asked, band(**notes), ensembles) == band(**notes)
