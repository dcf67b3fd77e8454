"""The names of pitch classes in a key: places on the line of fifths, ... Bb F C G D ..., on which C is 0."""

from __future__ import annotations

C_MAJOR = (0, "major")
FLATTEST, SHARPEST = -6, 10  # from Gb to A#; beyond, a plain name is easier to read than Cb or B#


def pitch_name(pitch_class: int, key: tuple[int, str] = C_MAJOR) -> str:
    """The name of a pitch class in a key, its tonic (0-11) and "major" or "minor": Db in C major, C# in E major."""
    return _name(_near(pitch_class, _tonic(*key) - 5))


def bass_name(bass: int, root: int, key: tuple[int, str] = C_MAJOR) -> str:
    """The name of a chord tone in the bass, by that of the root: E/G#, Cm/Eb, Bm7b5/F."""
    return _name(_near(bass, _near(root, _tonic(*key) - 5) - 6))


def signature(tonic: int, mode: str) -> int:
    """The sharps of a key, or below 0 its flats: 2 in D major, -6 in Eb minor."""
    return _tonic(tonic, mode) - 3 * (mode == "minor")


def _tonic(tonic: int, mode: str) -> int:
    """The place of a tonic: major keys from Db to F#, minor ones from Eb to G#."""
    flattest = -5 if mode == "major" else -3
    return flattest + (7 * tonic - flattest) % 12


def _near(pitch_class: int, lowest: int) -> int:
    """The place of a pitch class among the twelve from `lowest` on, or where that has no plain name the other one."""
    place = lowest + (7 * pitch_class - lowest) % 12
    return place + 12 * ((place < FLATTEST) - (place > SHARPEST))


def _name(place: int) -> str:
    signs, letter = divmod(place + 1, 7)
    return "FCGDAEB"[letter] + ("b" * -signs or "#" * signs)
