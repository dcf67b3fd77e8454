"""Annotation: what a person wrote stays, what is written is true, models are real (and tiny), services are local."""

import json
import os
import shutil
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from folders import model_with_code
from sounds import song, songs_folder, tone

from woodshed.audio.features import Features, describe
from woodshed.audio.labels import annotate as module
from woodshed.audio.labels import services
from woodshed.audio.labels.annotate import Annotation, annotate
from woodshed.audio.labels.captions import PROMPT, Captioner, caption
from woodshed.audio.labels.dataset import load_dataset
from woodshed.audio.labels.scan import scan
from woodshed.audio.labels.services import ServiceError, caption_service, lyrics_service
from woodshed.audio.labels.transcribe import Line, Transcriber, as_lyrics
from woodshed.audio.wave import read_audio, write_audio
from woodshed.cli import main
from woodshed.cli.audio.annotate import told
from woodshed.errors import FileError, InputError, RunError


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Three unlabelled songs of 90, 100 and 110 bpm, and their dataset."""
    folder = songs_folder(tmp_path_factory.mktemp("annotate") / "songs", 3, labelled=False, sample_rate=11025)
    scan(folder, out=folder / "dataset.json")
    return folder


@pytest.fixture
def path(songs, tmp_path):
    """The dataset of a copy of the songs."""
    return Path(shutil.copytree(songs, tmp_path / "songs")) / "dataset.json"


def edit(path, number, **values):
    data = json.loads(path.read_text())
    data["samples"][number] |= values
    path.write_text(json.dumps(data))


def samples(path):
    return load_dataset(path).samples


# --- what stays ------------------------------------------------------------------------------------------------


def test_blank_fields_are_filled_and_a_second_call_has_nothing_to_do(path):
    found = annotate(load_dataset(path), path)
    assert found.written == {"bpm": 3, "keyscale": 3, "caption": 3} and not found.failed and found.done == 3
    for sample, bpm in zip(samples(path), (90, 100, 110), strict=True):
        assert sample.bpm == bpm and sample.caption and sample.labeled
        assert sample.keyscale == describe(read_audio(sample.path_in(path.parent))).key
        note = sample.extra["woodshed"]
        assert note["bpm"]["value"] == sample.bpm and 0 <= note["bpm"]["sure"] <= 1
        assert note["caption"] == {"value": sample.caption, "by": "woodshed"}
    before = path.read_text()
    assert annotate(load_dataset(path), path).total == 0 and path.read_text() == before


def test_what_a_person_wrote_stays_even_with_again(path):
    edit(path, 0, bpm=33, caption="mine")
    annotate(load_dataset(path), path)
    edit(path, 1, keyscale="B major")  # measured, then put right
    edit(path, 2, caption="")  # written, then taken out
    written = [sample.caption for sample in samples(path)]
    annotate(load_dataset(path), path, again=True, seed=1)
    first, second, third = samples(path)
    assert (first.bpm, first.caption) == (33, "mine") and first.keyscale
    assert second.keyscale == "B major" and second.bpm == 100
    assert second.caption != written[1] and second.caption == second.extra["woodshed"]["caption"]["value"]
    assert third.caption


def test_what_was_taken_out_is_not_written_again_unasked(path):
    annotate(load_dataset(path), path)
    edit(path, 0, caption="", bpm=None)
    assert annotate(load_dataset(path), path).total == 0
    assert samples(path)[0].caption == "" and samples(path)[0].bpm is None


def test_what_somebody_writes_meanwhile_stays(path):
    def meanwhile(now):
        if now.text == "song 1.wav":
            edit(path, 1, bpm=61)
            edit(path, 2, caption="written meanwhile")

    annotate(load_dataset(path), path, report=meanwhile)
    _, second, third = samples(path)
    assert second.bpm == 61 and third.caption == "written meanwhile" and third.bpm == 110


def test_lyrics_of_a_person_are_never_heard_again(path, monkeypatch):
    edit(path, 0, lyrics="[Verse 1]\nmine", is_instrumental=False)
    edit(path, 1, raw_lyrics="[Instrumental]")
    asked = []

    def hear(file, language):
        asked.append(file.name)
        return services.Transcript("[Chorus]\nla la", "fr")

    monkeypatch.setattr(module, "Transcriber", lambda folder, **more: hear)
    found = annotate(load_dataset(path), path, whisper=path, measure=False, captions=False)
    first, second, third = samples(path)
    assert asked == ["song 2.wav"] and found.written == {"lyrics": 1, "language": 1}
    assert first.lyrics == "[Verse 1]\nmine" and second.is_instrumental
    assert (third.lyrics, third.language, third.is_instrumental) == ("[Chorus]\nla la", "fr", False)


def test_whisper_is_told_a_language_by_its_code(path, monkeypatch):
    edit(path, 0, language="pt-BR", keyscale="  ")
    edit(path, 1, language="German")
    told = []
    monkeypatch.setattr(
        module,
        "Transcriber",
        lambda *_, **more: lambda file, language: told.append(language) or module.Transcript("la", ""),
    )
    annotate(load_dataset(path), path, whisper=path, measure=False)
    assert told == ["pt", "de", ""] and all(sample.caption for sample in samples(path))
    annotate(load_dataset(path), path, whisper=path, language="English", again=True, measure=False)
    assert told[3:] == ["en"] * 3


def test_all_recordings_are_annotated_where_the_file_is_written_elsewhere(path, tmp_path):
    found = annotate(load_dataset(path), tmp_path / "copy.json", captions=False)
    assert found.done == 3 and [sample.bpm for sample in samples(tmp_path / "copy.json")] == [90, 100, 110]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_comes_after_a_command_that_was_stopped_does_not_begin(path, monkeypatch, capsys, number, status):
    real = module.describe
    monkeypatch.setattr(module, "describe", lambda *how: signal.raise_signal(number) or real(*how))
    with pytest.raises(SystemExit, match=str(status)):
        main(["audio", "annotate", str(path)])
    assert f"stopped by {number.name} after 1 of 3" in capsys.readouterr().out
    monkeypatch.setattr(module, "describe", real)
    main(["audio", "annotate", str(path)])


def test_ctrl_c_keeps_what_is_done_and_the_next_call_goes_on(path):
    def interrupt(now):
        if now.text == "song 1.wav":
            os.kill(os.getpid(), signal.SIGINT)

    found = annotate(load_dataset(path), path, report=interrupt)
    assert found.stopped == "SIGINT" and (found.done, found.total) == (2, 3)
    assert [bool(sample.caption) for sample in samples(path)] == [True, True, False]
    assert annotate(load_dataset(path), path).done == 1 and samples(path)[2].bpm == 110


def test_a_broken_recording_is_named_and_the_others_go_on(path):
    (path.parent / "song 0.wav").write_bytes(b"RIFF")
    (path.parent / "song 1.wav").unlink()
    found = annotate(load_dataset(path), path)
    assert [name for name, _ in found.failed] == ["song 0.wav", "song 1.wav"]
    assert "no such file" in found.failed[1][1] and found.written["bpm"] == 1
    assert annotate(load_dataset(path), path).total == 2  # they are tried again


def test_settings_that_cannot_work(path):
    with pytest.raises(InputError, match="not both"):
        annotate(load_dataset(path), path, whisper=path, lyrics_service="openai")
    for what in ("caption", "lyrics"):
        with pytest.raises(InputError, match=f"--{what}-model is a model of a service; add --{what}-service"):
            annotate(load_dataset(path), path, **{f"{what}_model": "any"})
    with pytest.raises(InputError, match="did you mean 'captions'"):
        annotate(load_dataset(path), path, caption=False)
    with pytest.raises(InputError, match="--seed -1"):
        annotate(load_dataset(path), path, seed=-1)
    with pytest.raises(InputError, match=r"model\.bin"):
        annotate(load_dataset(path), path, whisper=path.parent)
    with pytest.raises(InputError, match=r"config\.json"):
        annotate(load_dataset(path), path, captioner=path.parent)


def test_the_command(path, capsys, tmp_path):
    path.unlink()
    (path.parent / "broken.wav").write_bytes(b"RIFF")
    (path.parent / "gone.caption.txt").write_text("a caption")
    main(["audio", "annotate", str(path.parent)])
    told = capsys.readouterr().out
    assert "left out: broken.wav: " in told and "gone.caption.txt: there is no recording of that name" in told
    assert "3 recordings annotated: 3 bpm, 3 keyscale, 3 caption" in told
    main(["audio", "annotate", str(path)])
    assert "nothing to annotate" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["audio", "annotate", str(tmp_path / "nothing")])
    assert "no such file or folder" in capsys.readouterr().err


# --- captions --------------------------------------------------------------------------------------------------

DARK = Features(60, -16, 14, 64.0, 0.9, "A minor", 0.9, 300, 0.001, 0.8, 0.01, 0.5)
BRIGHT = Features(60, -16, 1.5, 176.0, 0.9, "D major", 0.9, 2600, 0.01, 7.0, 0.6, 0.02)
WORDS = {
    "dark": ("dark", "mellow", "warm", "muted", "treble"),
    "bright": ("bright", "crisp", "brilliant", "highs", "treble"),
}


@pytest.mark.parametrize("found", [DARK, BRIGHT])
def test_captions_are_true_and_varied(found):
    said = [caption(found, np.random.default_rng(seed)) for seed in range(60)]
    assert len(set(said)) > 50 and all("\n" not in text and 10 < len(text) < 200 for text in said)
    right, wrong = (("minor", "slow"), ("major", "fast")) if found is DARK else (("major", "fast"), ("minor", "slow"))
    assert not any(word in text for text in said for word in wrong)
    assert all(right[0] in text for text in said)
    false = set(WORDS["bright" if found is DARK else "dark"]) - {"treble"}
    assert not any(word in text for text in said for word in false)
    true = WORDS["dark" if found is DARK else "bright"]
    assert sum(any(word in text for word in true) for text in said) > 30


def test_captions_believe_the_person_and_tell_nothing_that_is_not_sure():
    unsure = Features(60, -16, 4, 64.0, 0.1, "A minor", 0.1, 750, 0.001, 2.4, 0.1, 0.14)
    for seed in range(20):
        text = caption(unsure, np.random.default_rng(seed))
        assert "slow" not in text and "minor" not in text
        text = caption(DARK, np.random.default_rng(seed), bpm=180, key="E major", sung=True)
        assert "slow" not in text and "major" in text


def test_a_caption_takes_for_known_only_what_a_person_wrote(path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "caption", lambda found, rng, **known: asked.append(known) or "a piece")
    edit(path, 0, bpm=33)
    annotate(load_dataset(path), path)
    assert [(known["bpm"], known["key"]) for known in asked] == [(33, ""), (None, ""), (None, "")]


def test_an_audio_language_model_describes(tmp_path):
    folder, recording = tiny_captioner(tmp_path / "captioner"), tmp_path / "song.wav"
    write_audio(recording, song(seconds=2))
    text = Captioner(folder, device="cpu")(recording)
    assert text and "\n" not in text
    assert Captioner(folder, device="cpu")(recording) == text
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(RunError, match="not an audio language model"):
        Captioner(folder)


def test_a_captioner_that_is_cut_short_or_too_large_is_one_line(tmp_path, monkeypatch):
    import torch

    folder, recording = tiny_captioner(tmp_path / "captioner"), tmp_path / "song.wav"
    write_audio(recording, song(seconds=2))
    tell = Captioner(folder, device="cpu")

    def full(*args, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tell.model, "generate", full)
    with pytest.raises(InputError, match="out of GPU memory for the captioner; choose a smaller one"):
        tell(recording)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="not an audio language model"):
        Captioner(folder, device="cpu")


def test_a_captioner_brings_no_code_and_no_pickle(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    folder = model_with_code(tmp_path / "strange")
    with pytest.raises(RunError, match=r"not an audio language model that can be read: .*custom code"):
        Captioner(folder, device="cpu")
    assert not (folder / "ran").exists()
    folder = tiny_captioner(tmp_path / "captioner")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(RunError, match=r"not an audio language model that can be read: .*model\.safetensors"):
        Captioner(folder, device="cpu")


def test_music_flamingo_loads_by_its_own_class():
    from transformers import AutoModelForMultimodalLM, AutoModelForSeq2SeqLM, MusicFlamingoConfig, Qwen2_5OmniConfig

    from woodshed.audio.labels.captions import _auto_class

    assert _auto_class(MusicFlamingoConfig()) is AutoModelForSeq2SeqLM
    assert _auto_class(Qwen2_5OmniConfig()) is AutoModelForMultimodalLM


# --- lyrics by Whisper -----------------------------------------------------------------------------------------


def test_whisper_hears_from_a_folder(tmp_path):
    folder, recording = tiny_whisper(tmp_path), tmp_path / "song.wav"
    write_audio(recording, song(seconds=2))
    hear = Transcriber(folder, device="cpu")
    heard = hear(recording)
    assert heard.lyrics
    assert hear(recording, "xx") == heard
    with pytest.raises(InputError, match="--language xx: Whisper knows"):
        Transcriber(folder, device="cpu", language="xx")
    (folder / "model.bin").write_bytes(b"not a model")
    with pytest.raises(RunError, match="not a Whisper model"):
        Transcriber(folder)


def test_lines_become_lyrics():
    lines = [Line(0, 2, " [Music]"), Line(2, 4, " ♪ One for the money ♪"), Line(4, 6, "two for the show")]
    lines += [Line(15, 16, "[Chorus] go"), Line(16, 17, "(applause)")] + [Line(17 + k, 18 + k, "cat") for k in range(9)]
    assert as_lyrics(lines) == "One for the money\ntwo for the show\n\n[Chorus] go\ncat\ncat\ncat"
    assert as_lyrics([]) == as_lyrics([Line(0, 1, "[Music]")]) == "[Instrumental]"


def test_names_move_no_cursor(tmp_path):
    lines = told(Annotation(total=1, done=1, failed=[("a\x1b[2J.wav", "gone")]), tmp_path / "dataset.json")
    assert "failed: a\\x1b[2J.wav: gone" in lines


# --- services --------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    """A service on this machine: answers what stands in `server.answers`, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.asked.append((self.path, self.headers, body))
            status, headers, answer = self.server.answers.pop(0)
            if answer is None:  # hangs
                self.server.waiting.wait(5)
                return
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answers, server.waiting = [], [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(services, "WAIT", 0.001)
    for name in services.SERVICES.values():
        monkeypatch.setenv(name.base, f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv(name.key, "a-key")
    yield server
    server.waiting.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def recording(tmp_path):
    write_audio(tmp_path / "song.wav", tone(0.5))
    return tmp_path / "song.wav"


def fields(headers, body):
    """The parts of a multipart body by name."""
    mark = b"--" + headers["Content-Type"].partition("boundary=")[2].encode()
    parts = [part.removeprefix(b"\r\n").removesuffix(b"\r\n") for part in body.split(mark)]
    assert parts[0] == b"" and parts[-1] == b"--"
    heads = [part.partition(b"\r\n\r\n") for part in parts[1:-1]]
    return {head.split(b'name="')[1].split(b'"')[0].decode(): value for head, _, value in heads}


def test_openai_writes_lyrics(server, recording, tmp_path):
    segments = [{"start": 0.0, "end": 1.0, "text": " Hello"}, {"start": 9.0, "end": 10.0, "text": " again"}]
    server.answers = [(200, {}, {"text": "Hello again", "language": "english", "segments": segments})]
    assert lyrics_service("openai")(recording, "en") == ("Hello\n\nagain", "en")
    path, headers, body = server.asked[0]
    sent = fields(headers, body)
    assert path == "/audio/transcriptions" and headers["Authorization"] == "Bearer a-key"
    assert (sent["model"], sent["language"], sent["response_format"]) == (b"whisper-1", b"en", b"verbose_json")
    (tmp_path / "sent.mp3").write_bytes(sent["file"])
    audio = read_audio(tmp_path / "sent.mp3")
    assert audio.channels == 1 and audio.seconds == pytest.approx(0.5, abs=0.1)
    assert describe(audio).centroid == pytest.approx(440, rel=0.05)
    server.answers = [(200, {}, {"text": "[Verse 1]\n[00:12.00]Hello"})]
    assert lyrics_service("openai", "gpt-4o-transcribe")(recording) == ("[Verse 1]\nHello", "")


def test_elevenlabs_ends_lines_at_pauses(server, recording):
    times = {"One": 0, "two": 0.5, "three": 2}
    words = [{"text": text, "start": start, "end": start + 0.4} for text, start in times.items()]
    words.insert(1, {"text": " ", "start": 0.4, "end": 0.5, "type": "spacing"})
    server.answers = [(200, {}, {"text": "One two three", "language_code": "eng", "words": words})]
    assert lyrics_service("elevenlabs")(recording) == ("One two\nthree", "en")
    path, headers, body = server.asked[0]
    assert path == "/v1/speech-to-text" and headers["xi-api-key"] == "a-key"
    assert fields(headers, body)["model_id"] == b"scribe_v2"


def test_gemini_writes_both(server, recording):
    def said(text):
        return (200, {}, {"candidates": [{"content": {"parts": [{"text": text}]}}]})

    server.answers = [said("[Chorus]\n[00:01.00]la la\n"), said('"A bright\nsong"')]
    assert lyrics_service("gemini")(recording, "it") == ("[Chorus]\nla la", "it")
    assert caption_service("gemini")(recording) == "A bright song"
    path, headers, body = server.asked[0]
    assert path == "/v1beta/models/gemini-2.5-flash:generateContent" and headers["x-goog-api-key"] == "a-key"
    assert "it" in json.loads(body)["contents"][0]["parts"][0]["text"]


def test_openai_writes_captions(server, recording):
    server.answers = [(200, {}, {"choices": [{"message": {"content": "slow  piano\n"}}]})]
    assert caption_service("openai")(recording) == "slow piano"
    content = json.loads(server.asked[0][2])["messages"][0]["content"]
    assert content[0]["text"] == PROMPT  # a captioner here is told the same
    assert content[1]["input_audio"]["format"] == "mp3"


def test_a_busy_service_is_asked_again(server, recording):
    busy = [(429, {"Retry-After": "\xb2"}, {"error": {"message": "slow down"}}), (503, {}, b"<html>gone</html>")]
    server.answers = [*busy, (200, {}, {"text": "hi"})]
    assert lyrics_service("openai", "gpt-transcribe")(recording).lyrics == "hi"
    server.answers = [busy[0]] * 5
    with pytest.raises(ServiceError, match="openai: 429 slow down, 5 times") as caught:
        lyrics_service("openai")(recording)
    assert not caught.value.lasting and len(server.asked) == 8


@pytest.mark.parametrize(
    ("answer", "told", "lasting"),
    [
        ((401, {}, {"error": {"message": "bad key"}}), "401 bad key; is OPENAI_API_KEY right", True),
        ((400, {}, {"error": {"message": "no such format"}}), "400 no such format", False),
        ((200, {}, b"<html>"), "not JSON", False),
        ((200, {}, {"nothing": 1}), "another form", False),
        ((200, {}, []), "another form", False),
        ((200, {}, b"[" * 10**5), "not JSON .* too deep", False),
        ((400, {}, b"[" * 10**5), r"400 \[\[", False),
    ],
)
def test_an_answer_that_is_none_is_one_line(server, recording, answer, told, lasting):
    server.answers = [answer]
    with pytest.raises(ServiceError, match=told) as caught:
        lyrics_service("openai", "gpt-transcribe")(recording)
    assert caught.value.lasting is lasting and "\n" not in str(caught.value) and len(server.asked) == 1


def test_a_service_that_hangs_or_is_not_there(server, recording, monkeypatch):
    monkeypatch.setattr(services, "TIMEOUT", 0.05)
    monkeypatch.setattr(services, "TRIES", 2)
    server.answers = [(200, {}, None)] * 2
    with pytest.raises(ServiceError, match=r"no answer from .*timed out, 2 times"):
        lyrics_service("openai")(recording)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceError, match=r"no answer from http://127\.0\.0\.1:9"):
        lyrics_service("openai")(recording)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_key_is_not_sent_on_to_another_host(server, recording, status):
    server.answers = [(status, {"Location": f"http://localhost:{server.server_port}/caught"}, b"")]
    with pytest.raises(
        ServiceError, match=rf"openai: {status} and sends on to http://localhost.*; is http://127.* right"
    ):
        lyrics_service("openai")(recording)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "base", ["http://example.org/v1", "ftp://localhost", "localhost:80", "https://", "https://[", "file:///x"]
)
def test_a_key_goes_out_encrypted_or_not_at_all(server, recording, monkeypatch, base):
    monkeypatch.setenv("OPENAI_BASE_URL", base)
    with pytest.raises(InputError, match=r"OPENAI_BASE_URL=.*: give an address with https://"):
        lyrics_service("openai")
    assert not server.asked


def test_what_is_too_long_is_not_sent(server, recording, monkeypatch):
    monkeypatch.setattr(services, "MAX_SECONDS", 0.4)
    for ask in (lyrics_service("elevenlabs"), caption_service("openai")):
        with pytest.raises(FileError, match=r"too long for a service .* cut it into pieces"):
            ask(recording)
    assert not server.asked


def test_nothing_is_sent_unless_a_flag_says_so(server, path):
    annotate(load_dataset(path), path)
    assert not server.asked
    server.answers = [(200, {}, {"text": "la"})] * 3
    annotate(load_dataset(path), path, lyrics_service="openai", lyrics_model="gpt-transcribe", measure=False)
    assert len(server.asked) == 3 and all(sample.lyrics == "la" for sample in samples(path))


def test_where_nobody_sings_a_service_is_asked_once(server, path):
    lyrics = {"lyrics_service": "openai", "lyrics_model": "gpt-transcribe", "measure": False, "captions": False}
    server.answers = [(200, {}, {"text": text, "language": "english"}) for text in ("", " \n", "[instrumental]")]
    assert annotate(load_dataset(path), path, **lyrics).written["lyrics"] == 0
    assert all(sample.lyrics == "[Instrumental]" and sample.language == "unknown" for sample in samples(path))
    assert annotate(load_dataset(path), path, **lyrics).total == 0 and len(server.asked) == 3


def test_a_refused_key_ends_the_work_and_keeps_what_was_measured(server, path):
    server.answers = [(401, {}, {"error": "no"})]
    with pytest.raises(ServiceError, match="OPENAI_API_KEY"):
        annotate(load_dataset(path), path, lyrics_service="openai")
    assert [sample.bpm for sample in samples(path)] == [90, None, None] and len(server.asked) == 1


def test_a_service_may_fail_a_recording_but_not_three_running(server, path):
    bad, good = (400, {}, {"error": "cannot hear it"}), (200, {}, {"text": "la"})
    server.answers = [bad, good, bad]
    lyrics = {"lyrics_service": "openai", "lyrics_model": "gpt-transcribe", "measure": False, "captions": False}
    found = annotate(load_dataset(path), path, **lyrics)
    assert [name for name, _ in found.failed] == ["song 0.wav", "song 2.wav"] and found.written["lyrics"] == 1
    songs_folder(path.parent / "more", 1, labelled=False)
    scan(path.parent, out=path)
    server.answers = [bad] * 3
    with pytest.raises(ServiceError, match="cannot hear it"):
        annotate(load_dataset(path), path, **lyrics)


def test_no_key_is_said_before_the_work_begins(path, monkeypatch):
    for value in ("", "  ", "schlüssel"):
        monkeypatch.setenv("GEMINI_API_KEY", value)
        with pytest.raises(InputError, match="GEMINI_API_KEY="):
            annotate(load_dataset(path), path, lyrics_service="gemini")
    assert samples(path)[0].bpm is None


# --- tiny models -----------------------------------------------------------------------------------------------


def byte_tokenizer(special):
    """A tokenizer of single bytes and these words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer


def tiny_captioner(folder):
    """Qwen2-Audio with one layer of 16 and random weights."""
    import torch
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    sound = {"audio_token": "<|AUDIO|>", "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(["<|end|>", *sound.values()]), eos_token="<|end|>", pad_token="<|end|>", **sound
    )
    template = (
        "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'audio' %}"
        "<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    extractor = WhisperFeatureExtractor(feature_size=16)
    Qwen2AudioProcessor(extractor, tokenizer, chat_template=template).save_pretrained(folder)
    ears = {"num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16}
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "model_type": "qwen2"}
    audio_id = tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    torch.manual_seed(0)
    config = Qwen2AudioConfig(audio_config=ears, text_config=text | heads, audio_token_index=audio_id)
    model = Qwen2AudioForConditionalGeneration(config)
    model.generation_config.pad_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    return folder


def tiny_whisper(folder):
    """Whisper with one layer of 16 and random weights, as faster-whisper reads it."""
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

    tasks = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"]
    tasks += ["<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"] + [f"<|{0.02 * k:.2f}|>" for k in range(1501)]
    end = dict.fromkeys(("eos_token", "bos_token", "unk_token", "pad_token"), "<|endoftext|>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(tasks), **end)
    sizes = {
        f"{side}_{what}": size for side in ("encoder", "decoder") for what, size in (("layers", 1), ("ffn_dim", 32))
    }
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 16, "num_mel_bins": 80}
    ids = {f"{name}_id": tokenizer.eos_token_id for name in end if name != "unk_token"}
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    torch.manual_seed(0)
    ids |= {"suppress_tokens": None, "begin_suppress_tokens": None}  # the defaults lie beyond this vocabulary
    config = WhisperConfig(vocab_size=len(tokenizer), decoder_start_token_id=start, **sizes, **ids)
    WhisperForConditionalGeneration(config).save_pretrained(folder / "transformers")
    tokenizer.save_pretrained(folder / "transformers")
    converter = TransformersConverter(str(folder / "transformers"), copy_files=["tokenizer.json"])
    converter.convert(str(folder / "whisper"))
    return folder / "whisper"
