"""Transcription and captions by services on the network: OpenAI, ElevenLabs, Gemini. Only where somebody asks for one.

    hear = lyrics_service("openai")          reads OPENAI_API_KEY from the environment
    words = hear("song.mp3", language="en")

A recording is sent as mp3 in one channel. OPENAI_BASE_URL, ELEVENLABS_BASE_URL and GEMINI_BASE_URL name another host;
the key goes to no other than that one.
https://platform.openai.com/docs/api-reference, https://elevenlabs.io/docs/api-reference, https://ai.google.dev/api
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from ...errors import FileError, InputError, WoodshedError
from ...files import parsed
from ..wave import probe, read_audio, write_audio
from .captions import PROMPT, one_line
from .dataset import read_language
from .lyrics import clean
from .transcribe import Line, Transcript, as_lyrics

SENT_RATE = 24000
MAX_SECONDS = 1500.0  # at most 9 MB of mp3
TRIES, WAIT, TIMEOUT = 5, 2.0, 300.0  # seconds; each wait is twice the last
Answer = TypeVar("Answer")
PAUSE = 0.7  # seconds between words that end a line
OURSELVES = ("localhost", "127.0.0.1", "::1")  # hosts to which a key may go without encryption


@dataclass(frozen=True)
class Service:
    """Where a service is and which models of it are asked where nobody names one."""

    key: str
    base: str
    url: str
    lyrics: str
    captions: str = ""  # of one that writes any


SERVICES = {
    "openai": Service("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1", "whisper-1", "gpt-audio"),
    "elevenlabs": Service("ELEVENLABS_API_KEY", "ELEVENLABS_BASE_URL", "https://api.elevenlabs.io", "scribe_v2"),
    "gemini": Service(
        "GEMINI_API_KEY",
        "GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com",
        "gemini-2.5-flash",
        "gemini-2.5-flash",
    ),
}
LYRICS_PROMPT = (
    "Write down the lyrics that are sung in this recording, a line for each sung line, in the language of the song. "
    "Put tags such as [Intro], [Verse 1], [Chorus], [Bridge] or [Outro] on lines of their own where a part begins. No "
    "time stamps, no remarks. If nobody sings, answer [Instrumental]."
)


class ServiceError(WoodshedError):
    """A service refused, or gave no answer. `lasting` says that the next recording will fare no better."""

    def __init__(self, message: str, *, lasting: bool = False):
        self.lasting = lasting
        super().__init__(message)


def lyrics_service(name: str, model: str = "") -> Callable[..., Transcript]:
    """A function of a path and a language ("" or "en", "de" ...) that answers what is sung. The key is read at once.

    Raises InputError without a key; the function raises ServiceError.
    """
    service, key = _opened(name)
    hear = {"openai": _openai_lyrics, "elevenlabs": _elevenlabs_lyrics, "gemini": _gemini_lyrics}[name]
    calls = _Calls(name, service, key)
    return lambda path, language="": _asked(name, lambda: hear(calls, model or service.lyrics, path, language))


def caption_service(name: str, model: str = "") -> Callable[[str | Path], str]:
    """A function of a path that answers a caption."""
    service, key = _opened(name)
    describe = {"openai": _openai_caption, "gemini": _gemini_caption}[name]
    calls = _Calls(name, service, key)
    return lambda path: _asked(name, lambda: one_line(describe(calls, model or service.captions, path)))


def _opened(name: str) -> tuple[Service, str]:
    service = SERVICES[name]
    key = os.environ.get(service.key, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(f"{name} needs a key: put it into the environment as {service.key}=...")
    return replace(service, url=_address(service)), key


def _address(service: Service) -> str:
    """The URL that is asked, of its environment variable or its own. An InputError where all could read the key."""
    address = os.environ.get(service.base) or service.url
    try:
        parts = urllib.parse.urlsplit(address)
        host, scheme = parts.hostname, parts.scheme
    except ValueError:
        host, scheme = None, ""
    if not host or not (scheme == "https" or (scheme == "http" and host in OURSELVES)):
        raise InputError(
            f"{service.base}={address}: give an address with https://, or http://localhost on this machine"
        )
    return address.rstrip("/")


def _asked(name: str, ask: Callable[[], Answer]) -> Answer:
    """What `ask` makes of an answer; one of another form is a ServiceError."""
    try:
        return ask()
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ServiceError(f"{name}: its answer has another form ({type(error).__name__}: {error})") from None


# --- the services ----------------------------------------------------------------------------------------------


def _openai_lyrics(calls: _Calls, model: str, path: str | Path, language: str) -> Transcript:
    segments = model == "whisper-1"  # the newer models answer with text alone
    fields = {"model": model, "response_format": "verbose_json" if segments else "json"}
    fields |= {"language": language} if language else {}
    data = calls.upload("/audio/transcriptions", fields, path)
    lines = [Line(item["start"], item["end"], item["text"]) for item in data.get("segments") or []]
    text = as_lyrics(lines) if lines else clean(data["text"])
    return Transcript(text, read_language(data.get("language") or language))


def _openai_caption(calls: _Calls, model: str, path: str | Path) -> str:
    sound = {"type": "input_audio", "input_audio": {"data": _base64(path), "format": "mp3"}}
    message = {"role": "user", "content": [{"type": "text", "text": PROMPT}, sound]}
    data = calls.post("/chat/completions", {"model": model, "modalities": ["text"], "messages": [message]})
    return data["choices"][0]["message"]["content"]


def _elevenlabs_lyrics(calls: _Calls, model: str, path: str | Path, language: str) -> Transcript:
    fields = {"model_id": model, "timestamps_granularity": "word", "tag_audio_events": "false"}
    fields |= {"language_code": language} if language else {}
    data = calls.upload("/v1/speech-to-text", fields, path)
    words = [word for word in data.get("words") or [] if word.get("type", "word") == "word"]
    text = as_lyrics(_lines(words)) if words else clean(data["text"])
    return Transcript(text, read_language(data.get("language_code") or language))


def _gemini_lyrics(calls: _Calls, model: str, path: str | Path, language: str) -> Transcript:
    told = LYRICS_PROMPT + (f" The language is {language}." if language else "")
    return Transcript(clean(_gemini(calls, model, path, told)), language)


def _gemini_caption(calls: _Calls, model: str, path: str | Path) -> str:
    return _gemini(calls, model, path, PROMPT)


def _gemini(calls: _Calls, model: str, path: str | Path, prompt: str) -> str:
    parts = [{"text": prompt}, {"inline_data": {"mime_type": "audio/mp3", "data": _base64(path)}}]
    data = calls.post(f"/v1beta/models/{model}:generateContent", {"contents": [{"parts": parts}]})
    return "".join(part.get("text", "") for part in data["candidates"][0]["content"]["parts"])


def _lines(words: list[dict]) -> list[Line]:
    """Words with times as lines, which end at a pause or a full stop."""
    lines: list[Line] = []
    for word in words:
        ended = lines and (word["start"] - lines[-1].end > PAUSE or lines[-1].text.endswith((".", "!", "?")))
        if not lines or ended:
            lines.append(Line(word["start"], word["end"], word["text"].strip()))
        else:
            lines[-1] = Line(lines[-1].start, word["end"], f"{lines[-1].text} {word['text'].strip()}")
    return lines


# --- what is sent ----------------------------------------------------------------------------------------------


def _sent(path: str | Path) -> bytes:
    """A recording as mp3 in one channel."""
    seconds = probe(path).seconds
    if seconds > MAX_SECONDS:
        length = f"{seconds / 60:.0f} minutes, {MAX_SECONDS / 60:.0f} are taken"
        raise FileError(path, f"too long for a service ({length}); cut it into pieces")
    with TemporaryDirectory(prefix="woodshed-") as folder:
        made = Path(folder) / "sound.mp3"
        write_audio(made, read_audio(path, sample_rate=SENT_RATE, channels=1))
        return made.read_bytes()


def _base64(path: str | Path) -> str:
    return base64.b64encode(_sent(path)).decode()


@dataclass(frozen=True)
class _Calls:
    """Requests to one service, made again after a while where it is busy."""

    name: str
    service: Service
    key: str

    def post(self, place: str, data: dict) -> dict:
        return self._ask(place, json.dumps(data).encode(), "application/json")

    def upload(self, place: str, fields: dict[str, str], path: str | Path) -> dict:
        """multipart/form-data, RFC 7578."""
        mark = f"woodshed-{secrets.token_hex(16)}"
        lines = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="sound.mp3"\r\n'
        head += "Content-Type: audio/mpeg\r\n\r\n"
        body = "".join([*lines, head]).encode() + _sent(path) + f"\r\n--{mark}--\r\n".encode()
        return self._ask(place, body, f"multipart/form-data; boundary={mark}")

    def _ask(self, place: str, body: bytes, kind: str) -> dict:
        """The answer as JSON. Raises ServiceError: at once where asking again is no use, else after TRIES."""
        told = ""
        for trial in range(TRIES):
            try:
                return self._once(place, body, kind)
            except _Busy as busy:
                told = str(busy)
                if trial < TRIES - 1:
                    time.sleep(max(WAIT * 2**trial, min(busy.after, 60 * WAIT)))
        raise ServiceError(f"{self.name}: {told}, {TRIES} times; try again later")

    def _once(self, place: str, body: bytes, kind: str) -> dict:
        base = self.service.url
        request = urllib.request.Request(base + place, body, {"Content-Type": kind} | self._headers())
        try:
            with urllib.request.build_opener(_Here).open(request, timeout=TIMEOUT) as answer:
                return parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                told = f"{error.code} {_reason(error.read())}".strip()
            if error.code in (408, 409, 425, 429) or error.code >= 500:
                raise _Busy(told, error.headers.get("Retry-After")) from None
            if error.code in (401, 403):
                raise ServiceError(f"{self.name}: {told}; is {self.service.key} right?", lasting=True) from None
            if error.code in range(300, 400):
                told += f" and sends on to {error.headers.get('Location')}; is {base} right?"
                raise ServiceError(f"{self.name}: {told}", lasting=True) from None
            raise ServiceError(f"{self.name}: {told}", lasting=error.code == 404) from None
        except ValueError as error:  # also what is no URL
            raise ServiceError(f"{self.name}: its answer is not JSON ({error}); is {base} right?") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Busy(
                f"no answer from {base}: {getattr(error, 'reason', None) or error or type(error).__name__}"
            ) from None

    def _headers(self) -> dict[str, str]:
        return {
            "openai": {"Authorization": f"Bearer {self.key}"},
            "elevenlabs": {"xi-api-key": self.key},
            "gemini": {"x-goog-api-key": self.key},
        }[self.name]


class _Here(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would send the key on to whatever host that names."""

    def redirect_request(self, *asked) -> None:
        return None


class _Busy(Exception):
    """It may answer later, after so many seconds."""

    def __init__(self, told: str, after: str | None = None):
        self.after = float(after) if after and after.isdecimal() else 0.0
        super().__init__(told)


def _reason(body: bytes) -> str:
    """What a service says about an error, in one line."""
    try:
        data = parsed(body)
    except ValueError:
        return " ".join(body.decode("utf-8", "replace").split())[:200]
    for name in ("error", "detail", "message"):
        if isinstance(data, dict) and name in data:
            data = data[name]
    return " ".join(str(data).split())[:200]
