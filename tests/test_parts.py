"""Parts: from names in several languages, from register and texture; hands joined or kept."""

import csv
from pathlib import Path

import numpy as np
import pytest

from woodshed.errors import InputError
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.parts import assign_parts
from woodshed.symbolic.music.score import PARTS, Score, Track

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "manifest.csv").exists(), reason="shared data is not here")


def score(*tracks, lines=None):
    """One track for each name or Track, higher ones first; chords of three notes where `lines` is False."""
    tracks = [Track(track) if isinstance(track, str) else track for track in tracks]
    lines = [True] * len(tracks) if lines is None else lines
    notes = []
    for index, line in enumerate(lines):
        pitch = 76 - 40 * index // max(len(tracks) - 1, 1)
        for beat in range(8):
            chord = (0,) if line else (0, 4, 7)
            notes += [(480 * beat, 480, pitch + step + beat % 3, 80, index) for step in chord]
    return Score(notes, tracks=tracks)


def parts(music, hands="kept"):
    return [track.part for track in assign_parts(music, hands=hands).tracks]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("MELODY", "BRIDGE", "PIANO"), ["melody", "accompaniment", "accompaniment"]),
        (("Singstimme\nVoice", "Pianoforte"), ["melody", "accompaniment"]),
        (("Chant\n\n   Voice", "Piano\n  ou\nOrgue"), ["melody", "accompaniment"]),
        (("Gesang.", "Klavier"), ["melody", "accompaniment"]),
        (("Ténor", "Piano"), ["melody", "accompaniment"]),
        (("Flöte", "Cembalo"), ["melody", "accompaniment"]),
        (("Soprano", "Alto", "Tenor", "Bass"), ["melody", "accompaniment", "accompaniment", "bass"]),
        (("S", "A", "T", "B"), ["melody", "accompaniment", "accompaniment", "bass"]),
        (("Lead", "Guitar", "Kontrabass"), ["melody", "accompaniment", "bass"]),
        (("R.H.", "L.H."), ["right", "left"]),
        (("main droite", "main gauche"), ["right", "left"]),
        (("rechte Hand", "linke Hand"), ["right", "left"]),
        (("upper:", "lower:"), ["right", "left"]),
        (("dessus:", "basse:"), ["right", "left"]),
        (("1:pianoUpper", "2:tenorPiano"), ["right", "left"]),
        (("up:", "mid:", "down:"), ["right", "left", "left"]),
        (("Piano", "Piano"), ["right", "left"]),
        (("Voice", "Piano", "Piano"), ["melody", "right", "left"]),
    ],
)
def test_names(names, expected):
    music = score(*names)
    assert parts(music) == expected


def test_the_higher_of_two_unnamed_staves_is_the_right_hand():
    music = score("", "")
    swapped = music.notes.copy()
    swapped["track"] = 1 - swapped["track"]
    assert parts(music) == ["right", "left"]
    assert parts(music.replace(notes=swapped)) == ["left", "right"]


def test_texture_tells_unnamed_tracks_apart():
    assert parts(score("", "", "", lines=[True, False, True])) == ["melody", "accompaniment", "bass"]
    assert parts(score("", Track(program=33))) == ["melody", "bass"]
    assert parts(score("x", lines=[True])) == ["melody"]
    assert parts(score("Piano", lines=[False])) == ["other"]


def test_drums_by_their_flag():
    assert parts(score("Bass", Track("Kit", drums=True))) == ["bass", "drums"]


@pytest.mark.parametrize("title", ["My song", "Piano concerto", "Melody of love", "All about that bass", "Drum song"])
def test_a_title_says_nothing_of_the_channels_that_bear_it(title):
    channels = [Track(title, 73), Track(title, 0), Track(title, 33), Track(title, drums=True)]
    music = score(*channels, lines=[True, False, True, True])
    assert parts(music) == ["melody", "accompaniment", "bass", "drums"]
    assert [track.name for track in assign_parts(music).tracks] == [title] * 4


@pytest.mark.parametrize("part", [part for part in PARTS if part != "other"])
@pytest.mark.parametrize("hands", ["joined", "kept"])
def test_a_stated_part_is_kept(part, hands):
    music = score(Track("Voice", part=part), Track("upper", part=part))
    assert assign_parts(music, hands=hands) == music


def test_joined_hands_are_one_track_and_keep_what_sounds():
    music = score("right", "left").replace(pedals=[(0, 127, 1), (960, 0, 1)])
    joined = assign_parts(music)
    assert [track.part for track in joined.tracks] == ["other"]
    for name in ("onset", "duration", "pitch", "velocity"):
        assert np.array_equal(np.sort(joined.notes[name]), np.sort(music.notes[name]))
    assert len(joined.pedals) == 2 and set(joined.pedals["track"]) == {0}


def test_hands_beside_a_voice_join_into_the_accompaniment():
    music = score("upper", "Voice", Track("", drums=True), "lower")
    joined = assign_parts(music)
    assert [track.part for track in joined.tracks] == ["accompaniment", "melody", "drums"]
    for old, new in ((0, 0), (1, 1), (2, 2), (3, 0)):
        mine = music.notes[music.notes["track"] == old][["onset", "pitch"]].tolist()
        assert set(mine) <= set(joined.notes[joined.notes["track"] == new][["onset", "pitch"]].tolist())


def test_a_key_both_hands_strike_sounds_once():
    notes = [(480 * i, 480, 60, 80, 0) for i in range(8)] + [
        (480 * i, 240, pitch, 80, 1) for i in range(8) for pitch in (60, 40)
    ]
    joined = assign_parts(Score(notes, tracks=(Track("up"), Track("down"))))
    both = joined.notes[joined.notes["pitch"] == 60]
    assert len(both) == 8 and set(both["duration"]) == {480}


@pytest.mark.parametrize("hands", ["joined", "kept"])
def test_odd_scores_get_parts(hands):
    for music in (
        Score(),
        score("upper", ""),
        Score([(0, 1, 0, 1, 2)], tracks=(Track("lower"), Track("upper"), Track())),
    ):
        found = assign_parts(music, hands=hands)
        assert all(track.part in PARTS for track in found.tracks)
        assert len(found.notes) == len(music.notes)


def test_hands_must_be_joined_or_kept():
    with pytest.raises(InputError, match="hands is 'both'; choose from: joined, kept"):
        assign_parts(Score(), hands="both")


@needs_data
def test_real_files():
    with (DATA / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].endswith(".mid")]
    seen = {}
    for row in rows[::40]:
        music = read_midi(DATA / row["file"])
        for hands in ("joined", "kept"):
            found = assign_parts(music, hands=hands)
            assert assign_parts(found, hands=hands) == found
            assert all(track.part in PARTS for track in found.tracks)
            if hands == "kept":
                assert np.array_equal(found.notes, music.notes)
        seen.setdefault(row["set"], set()).update(track.part for track in found.tracks)
    assert seen["pop909"] == {"melody", "accompaniment"}
    assert {"melody", "accompaniment"} <= seen["lieder"]
    assert {"right", "left"} <= seen["mutopia"]
    assert seen["openewld"] == {"melody"} and seen["giantmidi"] == {"other"} and seen["groove"] == {"drums"}
