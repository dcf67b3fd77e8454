"""Lyrics by Whisper, from a folder of its weights: nothing is downloaded, and nothing leaves the machine.

    heard = Transcriber("faster-whisper-large-v3")("song.mp3")     heard.lyrics, heard.language

A folder in CTranslate2's format holds model.bin, config.json, tokenizer.json and vocabulary.json. What Whisper hears in
singing is a draft: read it through. https://github.com/SYSTRAN/faster-whisper; A. Radford et al., "Robust Speech
Recognition via Large-Scale Weak Supervision" (2022).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import InputError, MissingExtra, RunError
from ..wave import stream
from .dataset import INSTRUMENTAL
from .lyrics import clean

SAMPLE_RATE = 16000
GAP = 4.0  # seconds without singing between two verses
SILENT, UNLIKELY = 0.6, -1.0  # Whisper's own thresholds: probability of no speech, mean log probability of a token
REPEATS = 3  # lines alike, one after the other, after which it is taken to be stuck
_NOISE = re.compile(
    r"[♪♫🎵🎶]|[\[(*](?:music|applause|laughter|silence|blank_audio|instrumental music)[^\])*]*[\])*]", re.I
)


class Line(NamedTuple):
    """A sung line and its seconds."""

    start: float
    end: float
    text: str


class Transcript(NamedTuple):
    """Lyrics ("[Instrumental]" where nobody sings) and their language ("en"; "" where unknown)."""

    lyrics: str
    language: str


class Transcriber:
    """Whisper, loaded once; call it with the path of a recording and, where known, its language ("en", "de" ...).

    Raises InputError for a `language` of all recordings that Whisper does not know; what it does not know of a single
    one, it hears.
    """

    def __init__(self, folder: str | Path, *, device: str = "auto", language: str = ""):
        folder = Path(folder)
        if not (folder / "model.bin").is_file():
            convert = "ct2-transformers-converter makes one from a model of transformers"
            raise InputError(
                f"--whisper {folder}: give a folder with a faster-whisper model (model.bin ...); {convert}"
            )
        try:
            from faster_whisper import WhisperModel
        except ImportError:
            raise MissingExtra("faster-whisper", "lyrics") from None
        try:
            self.model = WhisperModel(str(folder), device=device, local_files_only=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise RunError(folder, f"not a Whisper model that can be read: {error}") from None
        self.language, known = language, self.model.supported_languages
        if language and language not in known:
            raise InputError(f"--language {language}: Whisper knows {', '.join(sorted(known))}")

    def __call__(self, path: str | Path, language: str = "") -> Transcript:
        """Raises FileError for a file that cannot be read."""
        pieces = stream(path, sample_rate=SAMPLE_RATE, channels=1)
        sound = np.concatenate([piece.samples[:, 0] for piece in pieces])
        known = language if language in self.model.supported_languages else None
        # text carried over makes Whisper repeat refrains for ever; at temperature 0 the same song gives the same lyrics
        segments, facts = self.model.transcribe(
            sound, language=self.language or known, temperature=0.0, condition_on_previous_text=False
        )
        lines = [
            Line(s.start, s.end, s.text) for s in segments if s.no_speech_prob < SILENT or s.avg_logprob > UNLIKELY
        ]
        lyrics = as_lyrics(lines)
        return Transcript(lyrics, "" if lyrics == INSTRUMENTAL else facts.language)


def as_lyrics(lines: Iterable[Line]) -> str:
    """A line each, an empty one where nobody sings for a while; structure tags stay, [Music] and notes go."""
    text: list[str] = []
    last = None
    for line in lines:
        words = clean(_NOISE.sub(" ", line.text)).strip()
        if not words or text[-REPEATS:] == [words] * REPEATS:
            continue
        if last is not None and line.start - last > GAP:
            text.append("")
        text.append(words)
        last = line.end
    return clean("\n".join(text)) or INSTRUMENTAL
