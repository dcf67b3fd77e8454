"""ACE-Step plays: takes that their seed makes again, covers, repaints; what the adapter did."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from ace_toys import SAMPLE_RATE, base, guided_base  # noqa: E402, F401
from test_ace_adapters import trained, write  # noqa: E402

from woodshed.audio.ace import difference as differences  # noqa: E402
from woodshed.audio.ace.adapters import load_adapters, unload_adapters  # noqa: E402
from woodshed.audio.ace.difference import Difference, log_spectral_distance, verdict  # noqa: E402
from woodshed.audio.ace.generate import PlaySettings, generate, resolve, spliced  # noqa: E402
from woodshed.audio.ace.layouts import read_adapter  # noqa: E402
from woodshed.audio.ace.pipeline import fingerprint, open_pipeline  # noqa: E402
from woodshed.audio.features import describe  # noqa: E402
from woodshed.audio.wave import Audio, read_audio, write_audio  # noqa: E402
from woodshed.cli import main  # noqa: E402
from woodshed.cli.audio.ace import generate as door  # noqa: E402
from woodshed.cli.audio.ace.generate import parse_adapter  # noqa: E402
from woodshed.errors import FileError, InputError  # noqa: E402

SHORT = PlaySettings("slow waltz for piano", seconds=1.0, steps=2, takes=1)


@pytest.fixture(scope="module")
def pipe(base):  # noqa: F811
    return open_pipeline(base)


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):  # noqa: F811
    """An adapter as a run of ours."""
    over = open_pipeline(base)
    folder = write(tmp_path_factory.mktemp("runs") / "mine", over, trained(over, "lora"))
    captions = ["mystyle, piano, slow", "mystyle, strings", "mystyle, slow, piano"]
    facts = {"base": "tiny", "base_fingerprint": fingerprint(base), "captions": captions}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """Three seconds of two tones in stereo."""
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    sound = np.stack([0.3 * np.sin(2 * np.pi * hertz * time) for hertz in (220, 331)], axis=1)
    path = tmp_path_factory.mktemp("songs") / "song é.wav"
    write_audio(path, Audio(sound.astype(np.float32), SAMPLE_RATE))
    return path


def only(pipe, settings=SHORT, **keywords):
    (take,) = generate(pipe, settings, **keywords)
    return take


# --- takes -----------------------------------------------------------------------------------------------------


def test_a_take_is_a_function_of_its_seed_however_many_there_are(pipe):
    three = list(generate(pipe, SHORT, takes=3, seed=7))
    assert [take.seed for take in three] == [7, 8, 9]
    torch.manual_seed(99)
    assert np.array_equal(only(pipe, seed=8).audio.samples, three[1].audio.samples)
    assert not np.array_equal(three[0].audio.samples, three[1].audio.samples)
    again = only(pipe, PlaySettings(**three[2].settings))
    assert np.array_equal(again.audio.samples, three[2].audio.samples)


@pytest.mark.parametrize("seconds", [0.5, 0.73, 1.31])
def test_a_take_is_as_long_as_was_asked(pipe, seconds):
    audio = only(pipe, seconds=seconds).audio
    assert len(audio.samples) == round(seconds * SAMPLE_RATE)
    assert audio.channels == 2
    assert np.isfinite(audio.samples).all() and audio.samples.std() > 0


def test_all_that_is_asked_reaches_the_model(pipe, tmp_path, monkeypatch):
    """The prompt is that of training, and each setting changes it."""
    heard = []
    encode = type(pipe).encode_prompt
    monkeypatch.setattr(type(pipe), "encode_prompt", lambda self, **given: heard.append(given) or encode(self, **given))
    (tmp_path / "words.txt").write_text("[ar:Somebody]\n[Verse]\n[00:12.00]la la", encoding="utf-16")
    only(pipe, bpm="127.6", key="am", metre="3/4", language="German", lyrics=tmp_path / "words.txt")
    assert {name: heard[0][name] for name in ("bpm", "keyscale", "timesignature", "vocal_language", "lyrics")} == {
        "bpm": 128, "keyscale": "A minor", "timesignature": "3", "vocal_language": "de", "lyrics": "[Verse]\nla la"
    }  # fmt: skip
    only(pipe)
    assert heard[1]["lyrics"] == "[Instrumental]" and heard[1]["bpm"] is None


def test_the_defaults_are_those_of_the_model(pipe, guided_base):  # noqa: F811
    settings, _ = resolve(pipe, PlaySettings("piano"))
    assert (settings.steps, settings.guidance, settings.shift, settings.seconds) == (8, 1, 3, 30)
    settings, remarks = resolve(pipe, PlaySettings("piano", guidance=5.0))
    assert settings.guidance == 1 and any("--guidance" in remark for remark in remarks)
    guided = open_pipeline(guided_base)
    settings, _ = resolve(guided, PlaySettings("piano"))
    assert (settings.steps, settings.guidance, settings.shift) == (50, 7, 1)
    loose, tight = (only(guided, guidance=guidance).audio.samples for guidance in (1.0, 7.0))
    assert not np.array_equal(loose, tight)


WRONG = {
    "--prompt": {"prompt": " "},
    "--takes 0": {"takes": 0},
    "--seed 9223372036854775808": {"seed": 2**63},
    "--steps 0": {"steps": 0},
    "--seconds 900": {"seconds": 900.0},
    "--seconds 0": {"seconds": 0.0},
    "--shift 0": {"shift": 0.0},
    "--guidance 0": {"guidance": 0.0},
    "bpm 3000": {"bpm": 3000},
    "key 'H minor'": {"key": "H minor"},
    "timesignature '5'": {"metre": "5"},
    "--cover-strength 2": {"cover_strength": 2.0},
    "--cover-strength: it is for --cover": {"cover_strength": 0.3},
    "--from and --to": {"start": 1.0},
    "no such file": {"reference": Path("absent.wav")},
    "there is no such file": {"lyrics": Path("absent.txt")},
    "has no setting 'tempo'": {"tempo": 3},
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_cannot_work_is_refused_with_its_flag(pipe, reason):
    with pytest.raises((InputError, FileError), match=reason):
        list(generate(pipe, SHORT, **WRONG[reason]))


def test_lyrics_that_are_no_text(pipe, tmp_path):
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe\x00caf\xe9")
    with pytest.raises(FileError, match="cannot be read as text"):
        only(pipe, lyrics=tmp_path / "words.txt")
    (tmp_path / "empty.txt").write_bytes(b"\xef\xbb\xbf\n")
    assert np.array_equal(only(pipe, lyrics=tmp_path / "empty.txt").audio.samples, only(pipe).audio.samples)


# --- from a song -----------------------------------------------------------------------------------------------


def test_a_cover_is_as_long_as_its_song_and_its_strength_counts(pipe, song):
    settings = replace(SHORT, seconds=None, cover=song)
    close, loose = only(pipe, settings).audio, only(pipe, settings, cover_strength=0.3).audio
    assert len(close.samples) == len(loose.samples) == 3 * SAMPLE_RATE
    assert not np.array_equal(close.samples, loose.samples)
    assert np.array_equal(close.samples, only(pipe, settings).audio.samples)


def test_a_base_without_audio_tokens_plays_no_covers(base, song):  # noqa: F811
    bare = open_pipeline(base)
    bare.audio_tokenizer = None
    with pytest.raises(InputError, match="no audio tokenizer"):
        only(bare, seconds=None, cover=song)


def test_a_repaint_leaves_the_rest_as_it_is(pipe, song):
    before = read_audio(song).samples
    after = only(pipe, seconds=None, repaint=song, start=1.0, end=2.0).audio.samples
    first, last = SAMPLE_RATE, 2 * SAMPLE_RATE
    assert np.array_equal(after[:first], before[:first]) and np.array_equal(after[last:], before[last:])
    inside = slice(first + SAMPLE_RATE // 10, last - SAMPLE_RATE // 10)
    assert np.abs(after[inside] - before[inside]).mean() > 0.01
    to_the_end = only(pipe, seconds=None, repaint=song, start=2.5).audio.samples
    assert not np.array_equal(to_the_end[-100:], before[-100:]) and len(to_the_end) == len(before)


def test_a_repaint_has_rate_channels_and_depth_of_its_song(pipe, tmp_path):
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, 3 * 44100)
    soundfile.write(tmp_path / "song.wav", sound, 44100, subtype="PCM_24")
    take = only(pipe, seconds=None, repaint=tmp_path / "song.wav", start=1.0, end=2.0)
    path = take.save(tmp_path / "take")
    facts = soundfile.info(path)
    assert (facts.samplerate, facts.channels, facts.subtype) == (44100, 1, "PCM_24")
    before, after = (soundfile.read(file, dtype="int32")[0] for file in (tmp_path / "song.wav", path))
    assert len(after) == len(before) and np.array_equal(after == before, np.repeat([True, False, True], 44100))


@pytest.mark.parametrize(("start", "end"), [(2.0, 1.0), (2.0, 2.0), (-1.0, 2.0), (1.0, 9.0), (4.0, None)])
def test_a_stretch_that_is_not_in_the_song(pipe, song, start, end):
    with pytest.raises(InputError, match=r"which lasts 3\.0 seconds"):
        only(pipe, seconds=None, repaint=song, start=start, end=end)


def test_a_splice_is_made_as_loud_as_what_is_around_it_and_has_no_clicks():
    song = Audio(np.full((8000, 1), 0.5, np.float32), 8000)
    played = Audio(np.full((8000, 1), 0.1, np.float32), 8000)
    assert np.allclose(spliced(song, played, 0.25, 0.75).samples, 0.5)
    tone = Audio(np.sin(np.arange(8000) / 3).astype(np.float32)[:, None] / 9, 8000)
    steps = np.abs(np.diff(spliced(song, tone, 0.25, 0.75).samples[:, 0]))
    assert steps[1999:2001].max() < 0.02 and steps[5998:6001].max() < 0.02
    silent = Audio(np.zeros((7000, 1), np.float32), 8000)
    assert np.array_equal(spliced(song, silent, 0.5, None).samples[4200:], np.zeros((3800, 1)))


def test_lyrics_that_are_too_long_are_remarked_on(pipe, tmp_path):
    (tmp_path / "words.txt").write_text("la la " * 2000)
    (remark,) = only(pipe, lyrics=tmp_path / "words.txt").remarks
    assert "ACE-Step reads the first 2,048, up to" in remark and "shorten them" in remark
    assert only(pipe).remarks == ()


def test_a_reference_is_heard(pipe, song):
    one, again = (only(pipe, reference=song).audio.samples for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, only(pipe).audio.samples)


# --- does it do anything ---------------------------------------------------------------------------------------


def noise(seed: int, level: float = 0.1) -> Audio:
    return Audio((level * np.random.default_rng(seed).standard_normal((22050, 1))).astype(np.float32), 22050)


def test_the_log_spectral_distance():
    one = noise(0)
    assert log_spectral_distance(one, one) == 0
    louder = Audio(one.samples * np.float32(10**0.3), one.sample_rate)
    assert log_spectral_distance(one, louder) == pytest.approx(6, abs=0.01)
    assert log_spectral_distance(one, noise(1)) == pytest.approx(log_spectral_distance(noise(1), one))
    silence = Audio(np.zeros((22050, 1), np.float32), 22050)
    assert log_spectral_distance(silence, silence) == 0
    assert log_spectral_distance(silence, one) > 20


def found(bare, adapted) -> Difference:
    return differences.difference(bare, adapted)


def test_the_verdict_names_what_is_the_matter(run, base):  # noqa: F811
    adapter, here, one = read_adapter(run), fingerprint(base), noise(0)
    near = Audio(one.samples * np.float32(1.001), one.sample_rate)
    assert verdict([found(one, noise(5))], [(adapter, 1.0)], [0.5], prompt="x") == ["There is an audible difference."]
    told = verdict([found(one, one)] * 2, [(adapter, 0.0)], [0.5], prompt="mystyle", base=here)
    assert "not one sample differs" in told[0] and told[1:] == [f"- {run} has the scale 0; give {run}:1"]
    told = verdict([found(one, near)], [(adapter, 0.5)], [0.01], prompt="piano", base="0" * 12)
    assert "below what an ear can tell" in told[0]
    for part in ("by 0.50% only; train longer", "was called 'mystyle', which", "trained on another base, tiny"):
        assert any(part in line for line in told), told
    assert "try another prompt" in verdict([found(one, near)], [(adapter, 1.0)], [0.3], prompt="Mystyle", base=here)[1]


def test_the_table_tells_both_sides():
    one, other = noise(0), noise(1, 0.2)
    rows = {row[0]: row[1:] for row in differences.table([found(one, other)])}
    assert float(rows["loudness, LUFS"][2]) == pytest.approx(
        describe(other).loudness - describe(one).loudness, abs=0.01
    )
    assert float(rows["loudness, LUFS"][2]) == pytest.approx(6.02, abs=0.2)
    assert rows["key"][0] == (describe(one).key or "-")
    silent = Audio(np.zeros((22050, 1), np.float32), 22050)
    assert {row[0]: row[1] for row in differences.table([found(silent, silent)])}["tempo, bpm"] == "-"
    assert differences.between_seeds([one, other]) == pytest.approx(log_spectral_distance(one, other))


# --- the command -------------------------------------------------------------------------------------------------


def play(*words) -> None:
    main(["audio", "ace", "generate", *map(str, words), "--prompt", "piano", "--seconds", "0.6", "--steps", "2"])


def test_the_command_writes_takes_to_the_next_free_number(base, run, tmp_path, capsys):  # noqa: F811
    for _ in range(2):
        play(base, "--adapter", run, "--adapter", f"{run}:0.5", "--takes", 2, "--out", tmp_path / "out")
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == [f"00{n}/take-{k}.{kind}" for n in (1, 2) for k in (1, 2) for kind in ("json", "wav")]
    facts = json.loads((tmp_path / "out/001/take-2.json").read_text())
    assert facts["seed"] == 1 and facts["base_fingerprint"] == fingerprint(base)
    assert [(each["path"], each["scale"]) for each in facts["adapters"]] == [(str(run), 1.0), (str(run), 0.5)]
    assert facts["adapters"][0]["digest"] == read_adapter(run).digest
    with soundfile.SoundFile(tmp_path / "out/001/take-2.wav") as file:
        told = json.loads(file.comment)
    assert told["settings"] == facts["settings"] and file.frames == round(0.6 * SAMPLE_RATE)
    assert (told["base"], told["adapters"][0]["path"]) == (Path(base).name, run.name)
    one, two = ((tmp_path / f"out/00{number}/take-1.wav").read_bytes() for number in (1, 2))
    assert one == two
    with pytest.raises(FileError, match="exists already"):
        only(open_pipeline(base)).save(tmp_path / "out/001/take-1")
    assert "take-2.wav: 0.6 s, seed 1" in capsys.readouterr().out


def test_the_takes_of_a_run_go_into_it(base, run):  # noqa: F811
    play(base, "--adapter", run, "--takes", 1)
    assert (run / "takes/001/take-1.wav").exists()
    newest = run / "checkpoint-000005"
    newest.mkdir()
    for file in run.glob("adapter_*"):
        shutil.copy(file, newest)
    play(base, "--adapter", newest, "--takes", 1)  # where older checkpoints are removed, takes do not belong
    assert (run / "takes/002/take-1.wav").exists() and not (newest / "takes").exists()


def test_the_command_says_whether_one_hears_the_adapter(base, run, tmp_path, capsys):  # noqa: F811
    play(base, "--adapter", f"{run}:0", "--takes", 2, "--compare-base", "--out", tmp_path / "a")
    told = capsys.readouterr().out
    assert "There is no audible difference: not one sample differs." in told and "has the scale 0" in told
    assert sorted(path.name for path in (tmp_path / "a/001").glob("*.wav")) == [
        "take-1-base.wav", "take-1.wav", "take-2-base.wav", "take-2.wav"
    ]  # fmt: skip
    play(base, "--adapter", f"{run}:3", "--takes", 1, "--compare-base", "--out", tmp_path / "b")
    told = capsys.readouterr().out
    assert "There is an audible difference." in told and "spectral distance, dB" in told
    facts = json.loads((tmp_path / "b/001/take-1.json").read_text())
    assert facts["audible"] and facts["spectral_distance_to_base"] > 1
    assert not json.loads((tmp_path / "b/001/take-1-base.json").read_text())["adapters"]


def test_takes_of_the_base_are_kept_where_the_adapter_breaks_off(base, run, tmp_path, monkeypatch):  # noqa: F811
    def broken_off(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "difference", broken_off)
    with pytest.raises(SystemExit, match="130"):
        play(base, "--adapter", run, "--takes", 1, "--compare-base", "--out", tmp_path / "a")
    assert (tmp_path / "a/001/take-1-base.json").exists()


def test_the_command_refuses_before_anything_is_loaded(base, guided_base, run, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    for words, reason in (
        ((base, "--compare-base"), "nothing to compare"),
        ((base, "--takes", 0), "--takes 0"),
        ((base, "--adapter", "absent"), "no such adapter"),
        ((guided_base, "--adapter", run), "trained on tiny"),
        (("absent/folder/x",), "--base absent/folder/x"),
    ):
        with pytest.raises(SystemExit, match="1"):
            play(*words)
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
        assert not (run / "takes/999").exists() and not any(tmp_path.iterdir())
    play(guided_base, "--adapter", run, "--any-base", "--takes", 1, "--out", tmp_path / "out")
    assert (tmp_path / "out/001/take-1.wav").exists()


def test_paths_and_scales():
    assert parse_adapter("mine") == ("mine", 1.0)
    assert parse_adapter("mine:0.5") == ("mine", 0.5)
    assert parse_adapter("C:/runs/mine") == ("C:/runs/mine", 1.0)
    assert parse_adapter("C:/runs/mine:-1") == ("C:/runs/mine", -1.0)
    for scale in ("nan", "inf"):
        with pytest.raises(InputError, match=f"--adapter mine:{scale}: give a finite number as its scale"):
            parse_adapter(f"mine:{scale}")


def test_the_export_command(run, tmp_path, capsys):
    main(["audio", "ace", "export", str(run), "--layout", "comfyui", "--out", str(tmp_path / "mine")])
    assert "mine.safetensors: lora over 20 modules, for comfyui" in capsys.readouterr().out
    assert read_adapter(tmp_path / "mine.safetensors").kind == "lora"


def test_adapters_change_what_is_played_and_no_more_when_they_are_gone(pipe, run):
    bare = only(pipe).audio.samples
    load_adapters(pipe, [(read_adapter(run), 1.0)])
    assert not np.array_equal(only(pipe).audio.samples, bare)
    unload_adapters(pipe)
    assert np.array_equal(only(pipe).audio.samples, bare)
