"""Folders of MIDI for the tests: made up, hostile, and real."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from strategies import DATA

from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.music.score import Score, Track

PIANO = (Track("Piano", 0, False, "other"),)


def tune(seed=0, notes=240, tracks=PIANO, step=240, center=62, **changes) -> Score:
    """Eighth notes that wander around `center`, accents on the bar, the tracks taking turns."""
    rng = np.random.default_rng(seed)
    pitch = np.clip(center + np.cumsum(rng.integers(-4, 5, notes)) % 25 - 12, 0, 127)
    onset = np.arange(notes) * step
    velocity = np.where(onset % 1920 == 0, 100, rng.integers(50, 80, notes))
    rows = zip(onset, np.full(notes, step), pitch, velocity, np.arange(notes) % len(tracks), strict=True)
    return Score(list(rows), tracks=tracks, **changes)


def folder(tmp_path, **scores):
    for name, score in scores.items():
        write_midi(score, tmp_path / f"{name}.mid")
    return tmp_path


def songs_folder(tmp_path, count=10, **more):
    (tmp_path / "midi").mkdir(exist_ok=True)
    return folder(tmp_path / "midi", **{f"song {seed}": tune(seed) for seed in range(count)}, **more)


BAND = (Track("Piano", 0, False, "accompaniment"), Track("Bass", 33, False, "bass"))
FAULTS = {
    "drums": tune(tracks=(Track("Kit", 0, True, "drums"),)),
    "programs": tune(tracks=BAND),
    "short": tune(notes=8),
    "dense": tune(notes=2000, step=10),
    "range": tune(center=5, notes=300).replace(notes=[(480 * k, 480, k % 12, 70, 0) for k in range(60)]),
}


def hostile(tmp_path):
    """A folder of everything: nested, odd names, broken, left out, and two good pieces."""
    for name in ("deep/er", "Übung", "[bold]x[/bold]"):
        (tmp_path / name).mkdir(parents=True)
    write_midi(tune(1), tmp_path / "deep" / "er" / "good.mid")
    write_midi(tune(2), tmp_path / "Übung" / "Dvořák 夜.MID")
    write_midi(FAULTS["drums"], tmp_path / "[bold]x[/bold]" / "drums.midi")
    write_midi(FAULTS["programs"], tmp_path / "band.mid")
    (tmp_path / "text.mid").write_text("hello")
    (tmp_path / "zero.mid").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no MIDI")
    (tmp_path / "folder.mid").mkdir()
    return tmp_path


def real(tmp_path, pattern, count):
    found = sorted(DATA.glob(pattern))[:count]
    if not found:
        pytest.skip("the shared data is not here")
    for path in found:
        target = tmp_path / path.relative_to(DATA)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return tmp_path


def model_with_code(folder: Path) -> Path:
    """A model of nobody's making, with Python files that leave the file `ran` beside them when they are run."""
    folder.mkdir()
    places = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M", "AutoProcessor": "code.P"}
    (folder / "config.json").write_text(json.dumps({"model_type": "strange", "auto_map": places}))
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    (folder / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    return folder
