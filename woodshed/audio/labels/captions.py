"""Captions: from what was measured, in the words musicians use; or by an audio language model from a folder.

    caption(describe(audio), np.random.default_rng(0))
    -> "slow, sparse piece in a minor key, dark and mellow, with smooth, sustained sounds"
    Captioner("models/Qwen2-Audio-7B-Instruct")("song.mp3")

What was measured says how fast, bright, dense, percussive and even a recording is. It knows neither instruments nor
genre: add those by hand, or leave them to a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import FileError, InputError, MissingExtra, RunError, first_line
from ...jobs import enough_memory, find_device
from ..features import Features, load_librosa
from ..wave import probe, read_audio

PROMPT = (
    "Describe this recording for a music generator in one line of 20 to 40 words: genre, instruments, voice if there "
    "is one, mood, texture, production. Only what is heard; no names of artists, no tempo, no key."
)
HEARD = 30.0  # seconds that a captioner hears, from the middle: what Qwen2-Audio takes
MAX_NEW_TOKENS = 96
SMALLER = "choose a smaller one, or add --device cpu"  # where the GPU is too small
TOLD = 4  # traits in a caption
NOISE = 0.15  # of flatness; drums have 0.1
STRIKING = 0.35  # how much a trait must strike to be told
STEADY = 0.35  # how sure a tempo must be to be told


class Trait(NamedTuple):
    """One thing that strikes: how much (1 is clear), as adjectives, as what the piece has, in several wordings."""

    strength: float
    adjectives: tuple[str, ...]
    phrases: tuple[str, ...]


class Words(NamedTuple):
    """What a caption is put together from; empty what is not known."""

    pace: str
    adjectives: list[str]
    noun: str
    mode: str
    phrases: list[str]


# --- from what was measured ------------------------------------------------------------------------------------

# measure, its middle, the ratio to it that is striking; wordings where it is below, and where it is above
SCALES = (
    (
        "centroid",
        750.0,
        1.7,
        (("dark", "mellow", "warm"), ("a dark, rounded tone", "little treble", "a warm, muted sound")),
        (("bright", "crisp", "brilliant"), ("a bright, open sound", "crisp highs", "plenty of treble")),
    ),
    (
        "onset_rate",
        2.4,
        1.7,
        (
            ("sparse", "spacious", "unhurried"),
            ("few notes and much space", "room between the notes"),
        ),
        (("busy", "dense", "driving"), ("a busy, detailed texture", "many quick notes", "constant motion")),
    ),
    (
        "dynamic_range",
        4.0,
        2.0,
        (("even", "level", "steady"), ("an even level throughout", "little change in volume", "steady dynamics")),
        (
            ("dynamic", "expressive"),
            ("wide swings from soft to loud", "large dynamic contrasts", "swells and drops"),
        ),
    ),
    (
        "percussive",
        0.07,
        5.0,
        (("smooth", "sustained", "legato"), ("smooth, sustained sounds", "soft attacks", "flowing, connected lines")),
        (
            ("percussive", "punchy", "rhythmic"),
            ("hard, percussive attacks", "punchy hits up front"),
        ),
    ),
    (
        "bass",
        0.14,
        2.6,
        (("light",), ("very little low end", "a light, thin bottom", "hardly any bass")),
        (("bass-heavy", "deep"), ("a heavy low end", "deep, full bass", "a strong bass foundation")),
    ),
)
PACES = (  # bpm up to which they hold
    (60, ("very slow", "drawn-out")),
    (80, ("slow", "slow-moving")),
    (100, ("relaxed", "moderately slow", "laid-back")),
    (120, ("mid-tempo", "moderately paced")),
    (140, ("upbeat", "lively", "brisk")),
    (170, ("fast", "quick")),
    (np.inf, ("very fast", "racing")),
)
NOISY = Trait(1.5, ("noisy", "airy"), ("much noise and air in the sound", "a noise-like, breathy texture"))
FREE = ("free-flowing, without a clear beat", "beatless", "without a steady pulse")
NOUNS = ("piece", "piece of music", "track", "recording")


def caption(
    found: Features, rng: np.random.Generator, *, bpm: float | None = None, key: str = "", sung: bool = False
) -> str:
    """One line on a recording, true to what was measured and worded by `rng`: pace, mode, and what strikes most.

    `bpm` and `key` are those that are known; without them, what was measured counts where it is sure enough.
    """
    tempo = bpm or (found.tempo if found.tempo_confidence >= STEADY else None)
    key = key or (found.key or "" if found.key_confidence >= STEADY else "")
    adjectives, phrases = _divided(_traits(found), rng)
    pace = _pick(next(words for limit, words in PACES if tempo <= limit), rng) if tempo else ""
    noun = _pick(("song", "vocal track") if sung else NOUNS, rng)
    drums = found.percussive > 0.4 and not key
    noun = _pick(("drum groove", "percussion pattern", "beat"), rng) if drums and not sung else noun
    words = Words(pace, adjectives, noun, _mode(key, rng), phrases if tempo else [*phrases, _pick(FREE, rng)])
    return _SHAPES[rng.integers(len(_SHAPES))](words)


def _traits(found: Features) -> list[Trait]:
    """What strikes, most first."""
    traits = []
    for name, middle, ratio, below, above in SCALES:
        away = np.log(max(getattr(found, name), 1e-3) / middle) / np.log(ratio)
        adjectives, phrases = above if away > 0 else below
        traits.append(Trait(abs(float(away)), adjectives, phrases))
    if found.flatness > NOISE:
        traits.append(NOISY)
    traits = [trait for trait in traits if trait.strength >= STRIKING]
    return sorted(traits, key=lambda trait: -trait.strength)[:TOLD]


def _divided(traits: list[Trait], rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Some traits as adjectives, the others as phrases; about as many of each."""
    order = rng.permutation(len(traits))
    half = (len(traits) + int(rng.integers(2))) // 2
    adjectives = [_pick(traits[at].adjectives, rng) for at in order[:half]]
    return adjectives, [_pick(traits[at].phrases, rng) for at in order[half:]]


def _pick(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[rng.integers(len(words))]


def _mode(key: str, rng: np.random.Generator) -> str:
    if not key:
        return ""
    mode = key.rsplit(maxsplit=1)[-1]
    return _pick((f"in {key}", f"in a {mode} key"), rng)


def _joined(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _having(phrases: list[str]) -> str:
    """What is had after "with", what stands for itself after a comma."""
    had = [phrase for phrase in phrases if phrase not in FREE]
    alone = [phrase for phrase in phrases if phrase in FREE]
    return ", ".join([f"with {_joined(had)}"] * bool(had) + alone)


def _filled(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _spaced(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _sentence(words: Words) -> str:
    before = ", ".join([words.pace] * bool(words.pace) + words.adjectives)
    return _filled(_spaced(before, words.noun, words.mode), _having(words.phrases))


def _led(words: Words) -> str:
    named = _spaced(words.pace, words.noun, words.mode)
    return _filled(_joined(words.adjectives), named, _having(words.phrases))


def _trailed(words: Words) -> str:
    named = _spaced(words.pace, words.noun, words.mode)
    return _filled(named, _having(words.phrases), _joined(words.adjectives))


def _listed(words: Words) -> str:
    mode = words.mode.removeprefix("in ").removeprefix("a ")
    return _filled(words.pace, *words.adjectives, mode, *words.phrases) or words.noun


_SHAPES = (_sentence, _led, _trailed, _listed)


# --- by an audio language model --------------------------------------------------------------------------------


class Captioner:
    """An audio language model of transformers, loaded once; call it with the path of a recording."""

    def __init__(self, folder: str | Path, *, device: str = "auto"):
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise InputError(f"--captioner {folder}: give a folder with an audio language model (config.json ...)")
        try:
            from safetensors import SafetensorError
            from transformers import AutoConfig, AutoProcessor

            where = find_device(device)
        except ImportError as error:
            raise MissingExtra(error.name or "transformers", "audio") from None
        load_librosa()  # transformers makes spectra with it
        try:
            safe = {"local_files_only": True, "trust_remote_code": False}
            kind = _auto_class(AutoConfig.from_pretrained(folder, **safe))
            self.processor = AutoProcessor.from_pretrained(folder, **safe)
            model = kind.from_pretrained(folder, dtype="auto", use_safetensors=True, **safe).eval()
            with enough_memory("for the captioner", SMALLER):
                model = model.to(where)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise RunError(folder, f"not an audio language model that can be read: {first_line(error)}") from None
        self.model = getattr(model, "thinker", model)  # Qwen2.5-Omni speaks with another part
        if not hasattr(self.processor, "feature_extractor"):
            raise RunError(folder, "its processor takes no sound; choose a model that hears")

    def __call__(self, path: str | Path) -> str:
        """A caption in one line. Raises FileError for a recording that cannot be read or of which nothing is said."""
        rate = self.processor.feature_extractor.sampling_rate
        start = max(0.0, (probe(path).seconds - HEARD) / 2)
        sound = read_audio(path, sample_rate=rate, channels=1, start=start, seconds=HEARD).samples[:, 0]
        content = [{"type": "audio", "audio": str(path)}, {"type": "text", "text": PROMPT}]
        chat = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = self.processor(text=[text], audio=[sound], sampling_rate=rate, return_tensors="pt")
        with enough_memory("for the captioner", SMALLER):
            inputs = inputs.to(self.model.device, self.model.dtype)
            ids = self.model.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        said = self.processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
        line = one_line(said)
        if not line:
            raise FileError(path, "the captioner said nothing about it")
        return line


def one_line(said: str) -> str:
    """What a model said, without its line breaks and quotes."""
    return " ".join(said.split()).strip('" ')


def _auto_class(config):
    """The class of transformers that loads a model which hears and writes."""
    from transformers import AutoModelForMultimodalLM, AutoModelForSeq2SeqLM

    hears = type(config) in AutoModelForMultimodalLM._model_mapping
    return AutoModelForMultimodalLM if hears else AutoModelForSeq2SeqLM
