"""MIDI files as ids and words, and ids as MIDI files: as a library and as a command."""

import json

import pytest
from conftest import HANDS
from folders import tune

import woodshed
from woodshed.cli import main
from woodshed.errors import FileError, InputError
from woodshed.symbolic.data.token_files import read_tokens, tokenise
from woodshed.symbolic.music.midi import read_midi, write_midi
from woodshed.symbolic.music.score import FREE_TICKS, Score


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.mid"
    write_midi(tune(3, notes=64, tracks=HANDS), path)
    return path


@pytest.fixture
def free(tmp_path):
    """One chord, half a second long, under a chord symbol."""
    notes = [(0, FREE_TICKS, pitch, 80, 0) for pitch in (60, 64)]
    path = tmp_path / "free.mid"
    write_midi(Score(notes, chords=[(0, 0, 0, 0)], ticks_per_quarter=FREE_TICKS, free=True), path)
    return path


@pytest.mark.parametrize("name", ["remi", "performance"])
def test_ids_go_to_a_file_and_come_back_as_music(song, tmp_path, name):
    tokens = tokenise(song, name, keep_grid=True)
    assert tokens.words[0] == "BOS" and tokens.words[-1] == "EOS"
    tokens.save(tmp_path / "ids.json")
    again = read_tokens(tmp_path / "ids.json")
    assert again.ids == tokens.ids and again.tokenizer.fingerprint == tokens.tokenizer.fingerprint
    write_midi(again.score(), tmp_path / "again.mid")
    assert tokenise(tmp_path / "again.mid", name, keep_grid=True).ids == tokens.ids
    assert again.score() == tokens.tokenizer.quantize(woodshed.assign_parts(read_midi(song)))


def test_a_chord_stands_in_the_stream_as_published(free):
    tokens = tokenise(free)
    words = "BOS CHORD_C:maj VELOCITY_20 NOTE_ON_60 NOTE_ON_64 TIME_SHIFT_500ms NOTE_OFF_60 NOTE_OFF_64 EOS"
    assert [word for word in tokens.words if not word.startswith("Part")] == words.split()
    ids = dict(zip(tokens.words, tokens.ids, strict=True))
    assert (ids["NOTE_ON_60"], ids["NOTE_OFF_60"], ids["TIME_SHIFT_500ms"], ids["VELOCITY_20"]) == (63, 191, 308, 379)
    assert "CHORD_C:maj" not in tokenise(free, chords="none").words


def test_the_command_shows_writes_and_reads(song, tmp_path, capsys):
    main(["tokens", str(song), "--keep-grid"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["1", "BOS"] and "ids of remi" in lines[-1]
    ids, out = tmp_path / "ids.json", tmp_path / "back.mid"
    main(["tokens", str(song), "--tokenizer", "performance", "--json", str(ids)])
    assert len(capsys.readouterr().out.splitlines()) == 1
    main(["tokens", str(ids), "--out", str(out)])
    assert len(read_midi(out).notes) == 64
    with pytest.raises(SystemExit):
        main(["tokens", str(ids), "--out", str(out)])
    assert f"--out {out} exists already" in capsys.readouterr().err
    for flags in (["--chords", "none"], ["--keep-grid"]):
        with pytest.raises(SystemExit):
            main(["tokens", str(ids), *flags])
        assert f"--chords and --keep-grid are for a MIDI file, {ids} holds ids" in capsys.readouterr().err


def test_a_mere_list_of_ids_is_read_by_the_name_of_its_tokenizer(tmp_path):
    path = tmp_path / "ids.json"
    path.write_text("[1, 379, 63, 308, 191, 2]")
    score = read_tokens(path, "performance").score()
    assert score.notes[["onset", "duration", "pitch"]].tolist() == [(0, 500, 60)]
    for text, name, error, told in [
        ("[1, 379]", None, InputError, "does not say whose ids these are; give --tokenizer"),
        ("[1, 9999]", "performance", InputError, "the id 9999 is none of performance, which has 0 to"),
        ("[1, true]", "remi", FileError, "no list of ids"),
        ("{}", "remi", FileError, "no list of ids"),
        ("[" * 100_000, "remi", FileError, "no ids in JSON"),
        ('{"ids": [1], "tokenizer": {"name": "remi", "settings": [1]}}', None, FileError, r"the settings \[1\]"),
        ("[1,", "remi", FileError, "no ids in JSON"),
        (
            '{"ids": [1], "tokenizer": {"name": "remi", "fingerprint": "x"}}',
            None,
            InputError,
            "its ids are remi x, not",
        ),
        ("[1]", "rem", InputError, "choose from: miditok, performance, remi"),
    ]:
        path.write_text(text)
        with pytest.raises(error, match=told):
            read_tokens(path, name)


def test_what_cannot_be_spelled_says_what_to_do(free, tmp_path):
    with pytest.raises(InputError, match=r"free.mid: no bars to trust, which remi needs; take --tokenizer performance"):
        tokenise(free, "remi")
    with pytest.raises(InputError, match="--chords some"):
        tokenise(free, chords="some")
    with pytest.raises(FileError, match=r"nowhere.mid"):
        tokenise(tmp_path / "nowhere.mid")


def test_the_library_has_them_by_name(song):
    tokenizer = woodshed.make_tokenizer("performance")
    assert isinstance(tokenizer, woodshed.Tokenizer)
    assert tokenizer.decode(tokenizer.encode(woodshed.read_midi(song))).free
    assert json.dumps(woodshed.tokenise(song).ids)
