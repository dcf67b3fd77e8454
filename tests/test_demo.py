"""woodshed demo: chorales as they are written, and the whole pipeline on a few of them."""

from itertools import islice

import numpy as np
import pytest
from mido import MidiFile

from woodshed.cli import main
from woodshed.cli.demo import TICKS, chorale, chorales

music21 = pytest.importorskip("music21")


def opening(score, track):
    """Onsets and lengths in quarters, and pitches, of the first notes of a track."""
    notes = score.notes[score.notes["track"] == track][:5]
    return [(onset / TICKS, length / TICKS, pitch) for onset, length, pitch, _, _ in notes.tolist()]


def test_the_first_two_chorales_have_their_voices_pickup_and_bars():
    """Bwv 1.6, which has horns besides, comes before them and is no four-part chorale."""
    (magnificat, one), (vater_unser, other) = islice(chorales(), 2)
    assert (magnificat, vater_unser) == ("bwv10-7", "bwv101-7")
    for score in (one, other):
        told = [(track.name, track.part) for track in score.tracks]
        assert told[:2] == [("Soprano", "melody"), ("Alto", "accompaniment")]
        assert told[2:] == [("Tenor", "accompaniment"), ("Bass", "bass")]
        heights = [score.notes["pitch"][score.notes["track"] == track].mean() for track in range(4)]
        assert heights == sorted(heights, reverse=True)
    assert one.metres.tolist() == [(0, 4, 4)] and (one.bars() / TICKS).tolist() == [*range(0, 92, 4)]
    assert opening(one, 0) == [(0, 2, 74), (2, 2, 77), (4, 1, 74), (5, 1, 74), (6, 1, 74)]
    assert other.metres.tolist() == [(0, 1, 4), (TICKS, 4, 4)] and (other.bars() / TICKS).tolist() == [
        0,
        *range(1, 50, 4),
    ]
    assert opening(other, 0) == [(0, 1, 69), (1, 1, 69), (2, 1, 65), (3, 1, 67), (4, 1, 69)]
    assert opening(other, 3)[:3] == [(0, 1, 50), (1, 1, 49), (2, 1, 50)]


def written(*measures, metre="3/4"):
    """Four voices of measures so many quarters long, of one note each."""
    stream = music21.stream.Score()
    for number, name in enumerate(("Soprano", "Alto", "Tenor", "Bass")):
        part, start = music21.stream.Part(), 0
        part.partName = name
        for length in measures:
            measure = music21.stream.Measure()
            if not start:
                measure.timeSignature = music21.meter.TimeSignature(metre)
            measure.append(music21.note.Note(72 - 7 * number, quarterLength=length))
            part.insert(start, measure)
            start += length
        stream.insert(0, part)
    return stream


@pytest.mark.parametrize(
    ("measures", "metres"),
    [
        ((3, 3, 3), [(0, 3, 4)]),
        ((1, 3, 3), [(0, 1, 4), (1, 3, 4)]),
        ((0.5, 3, 3), [(0, 2, 16), (0.5, 3, 4)]),
        ((1, 3, 2, 1, 3), [(0, 1, 4), (1, 3, 4)]),  # a repeat inside a bar
        ((1, 3, 2, 3, 3), [(0, 1, 4), (1, 3, 4), (6, 3, 4)]),  # and one that leaves a bar short
    ],
)
def test_every_whole_bar_begins_on_a_bar_line(measures, metres):
    score = chorale(written(*measures))
    assert [(tick / TICKS, *metre) for tick, *metre in score.metres.tolist()] == metres
    starts = np.cumsum((0, *measures[:-1]))
    whole = {start for start, length in zip(starts.tolist(), measures, strict=True) if length == 3}
    assert whole <= set((score.bars() / TICKS).tolist())
    assert np.bincount(score.notes["track"]).tolist() == [len(measures)] * 4


@pytest.mark.parametrize("name", ["bwv4.8", "bwv304", "bwv17.7"])
def test_bar_lines_of_real_chorales_with_repeats(name):
    stream = music21.corpus.parse(name)
    lines = set((chorale(stream).bars() / TICKS).tolist())
    measures = list(stream.parts[0].getElementsByClass("Measure"))
    whole = [
        measure.offset for measure in measures if measure.duration.quarterLength >= measure.barDuration.quarterLength
    ]
    assert len(whole) > 8 and {float(start) for start in whole} <= lines


@pytest.mark.slow
def test_the_whole_pipeline_on_four_chorales(capsys, tmp_path):
    main(f"demo --out {tmp_path / 'demo'} --pieces 4 --minutes 0.05 --takes 2".split())
    folder, takes = tmp_path / "demo" / "001", tmp_path / "demo" / "001" / "bach" / "takes" / "001"
    told = capsys.readouterr().out
    assert "4 of 4 files" in told and f"The takes lie in {takes}: open" in told
    assert len(list((folder / "midi").glob("bwv*.mid"))) == 4
    files = list(takes.glob("*.mid"))
    assert len(files) == len(list(takes.glob("*.wav"))) == 2
    for file in files:
        assert MidiFile(file).length > 16 and sum(message.type == "note_on" for message in MidiFile(file)) > 50
