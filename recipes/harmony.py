"""Learn the harmony model of `woodshed/symbolic/music/harmonise.py` from songs with written chords: `harmony.py DATA`

DATA holds OpenEWLD's lead sheets and POP909 (melody track and annotated chords) beside manifest.csv; only its training
split is learned from. Counts become tables, and a small network learns the odds of chords; both go into
`woodshed/symbolic/music/harmonise.safetensors`, numbers only. The same DATA and versions give the same file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from leadsheets import scores, written_pickup

from woodshed.files import write_file
from woodshed.symbolic.music.chords import QUALITY_NAMES, REDUCED, TONES
from woodshed.symbolic.music.harmonise import CHORDS, FILE, QUALITIES, hear_keys, span
from woodshed.symbolic.music.keys import estimate_key
from woodshed.symbolic.music.melody import (
    BARS,
    CHANNELS,
    FACTS,
    GAPS,
    NEIGHBOURS,
    OWN,
    PLACES,
    SIZES,
    Slots,
    features,
    make_slots,
    melody_line,
    metric,
)
from woodshed.symbolic.music.score import Score

KINDS = len(QUALITIES)
FOLDED = {"sus2": "maj", "maj6": "maj", "min6": "min", "minmaj7": "min", "dim": "dim7", "7sus4": "sus4"}
WEIGHTS = {"openewld": 2.0, "pop909": 1.0}  # of a song's counts: there are fewer lead sheets, and they are shorter
BACK_OFF = 10.0  # chords after each that are taken to be as common as they are at all
NEVER = 1e-4  # of a count: float16 holds its logarithm
HIDDEN, EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 96, 4, 512, 1e-2, 0.05, 0.15
EXCERPTS = (1, 2, 4, 8, 16, 24)  # bars, one of each length from every song
MAIN_PLACES, OTHERS = (0, 1, 2, 5, 7), 0.1
ABOUT = (
    "Parameters of woodshed.symbolic.harmonise, made by recipes/harmony.py from the training split of OpenEWLD (MIT) "
    "and of POP909's main files with their chords (MIT, Music X Lab 2020). Licence: MIT."
)


class Song(NamedTuple):
    """A melody with its chords: N slots."""

    kind: str  # openewld or pop909
    line: np.ndarray
    slots: Slots
    whole: Slots  # the bars before and after included
    channels: np.ndarray  # (N, CHANNELS, 12)
    facts: np.ndarray  # (N, FACTS)
    chords: np.ndarray  # (N,) root * KINDS + quality, -1 for none


# --- songs ----------------------------------------------------------------------------------------------------


def make_song(kind: str, score: Score, pickup: int) -> Song:
    """The features and chords of a score, from the bar in which its melody begins to that in which it ends."""
    line, slots = melody_line(score), make_slots(score, pickup)
    channels, facts = features(line, slots)
    part, chords = span(line, slots), written_chords(score, slots)
    inner = Slots(slots.edges[part.start : part.stop + 1], slots.place[part], slots.bar[part] - slots.bar[part.start])
    return Song(kind, line, inner, slots, channels[part].astype(np.float16), facts[part], chords[part])


def excerpts(kind: str, score: Score, pickup: int, rng: np.random.Generator) -> Iterator[Song]:
    """Bars of a score from anywhere as songs of their own: melodies may be short, and no song is known by heart."""
    slots = make_slots(score, pickup)
    lines = np.append(slots.edges[slots.starts], slots.edges[-1])
    for bars in EXCERPTS:
        first = int(rng.integers(max(len(lines) - bars, 1)))
        last = min(first + bars, len(lines) - 1)
        piece = score.slice(int(lines[first]), int(lines[last]), cut=True)
        if len(melody_line(piece)) and len(piece.chords):
            yield make_song(kind, piece, 0 if first else pickup)


def written_chords(score: Score, slots: Slots) -> np.ndarray:
    """The chord that sounds in the middle of each slot: root * KINDS + quality, -1 for none."""
    middle = (slots.edges[:-1] + slots.edges[1:]) // 2
    row = np.searchsorted(score.chords["tick"], middle, side="right") - 1
    chords = score.chords[np.maximum(row, 0)]
    names = [QUALITY_NAMES[quality] for quality in range(REDUCED.max() + 1)]
    folded = np.array([QUALITIES.index(FOLDED.get(name, name)) for name in names])
    written = chords["root"].astype(np.int64) * KINDS + folded[REDUCED[chords["quality"]]]
    return np.where((row < 0) | (chords["root"] < 0), -1, written)


# --- tables ---------------------------------------------------------------------------------------------------


def make_tables(songs: list[Song]) -> dict[str, np.ndarray]:
    """All counts, as log probabilities but for `changes`."""
    keys = [np.full(len(song.chords), overall_key(song)) for song in songs]
    tables = key_tables(songs, keys)
    keys = [key_changes(song, key[0], tables) for song, key in zip(songs, keys, strict=True)]
    tables = key_tables(songs, keys) | chord_tables(songs, keys)
    return tables | {"changes": change_table(songs), "metric": metric_table(songs)}


def overall_key(song: Song) -> int:
    """The one key of a song by melody and chords."""
    tones = np.array([TONES[QUALITY_NAMES.index(name)] for name in QUALITIES])
    root, quality = np.divmod(song.chords[song.chords >= 0], KINDS)
    heard = song.channels[:, OWN].sum(0, dtype=np.float64)
    heard += sum(np.roll(tones[q], r) for r, q in zip(root, quality, strict=True)) + np.bincount(root, minlength=12)
    notes = [(0, round(100 * time), 60 + pitch, 64, 0) for pitch, time in enumerate(heard)]
    tonic, mode, _ = estimate_key(Score(notes))
    return tonic + 12 * (mode == "minor")


def key_changes(song: Song, key: int, tables: dict[str, np.ndarray]) -> np.ndarray:
    """The key of every slot: that of the song but where notes and chords have another signature (N,).

    A key and its relative are not told apart bar by bar: left to itself, the chain would call most songs minor.
    """
    found = hear_keys(song.channels[:, OWN].astype(np.float64), one_hot(song.chords), song.slots, tables)
    signature = (found + 3 * (found >= 12)) % 12
    return np.where(signature == (key + 3 * (key >= 12)) % 12, key, found)


def one_hot(chords: np.ndarray) -> np.ndarray:
    """(N, CHORDS), zeros for no chord."""
    return np.eye(CHORDS)[np.maximum(chords, 0)] * (chords >= 0)[:, None]


def key_tables(songs: list[Song], keys: list[np.ndarray]) -> dict[str, np.ndarray]:
    """How notes and chords lie in the keys of each mode, and how keys follow each other from bar to bar."""
    notes, chords, moves = np.ones((2, 12)), np.full((2, CHORDS), 0.5), np.full((2, 2, 12), 0.2)
    for song, key in zip(songs, keys, strict=True):
        weight, sung = WEIGHTS[song.kind], song.channels[:, OWN].astype(np.float64)
        for one in np.unique(key).tolist():
            mode, tonic = divmod(one, 12)
            notes[mode] += weight * np.roll(sung[key == one].sum(0), -tonic)
            chords[mode] += weight * np.roll(one_hot(song.chords[key == one]).sum(0), -tonic * KINDS)
        bars = key[song.slots.starts]
        np.add.at(moves, (bars[:-1] // 12, bars[1:] // 12, (bars[1:] - bars[:-1]) % 12), weight)
    moves = np.log(moves / moves.sum((1, 2), keepdims=True))
    one, other = np.divmod(np.arange(24 * 24), 24)
    changes = moves[one // 12, other // 12, (other - one) % 12].reshape(24, 24)
    modes = logs(np.bincount([key[0] // 12 for key in keys], minlength=2) + 1.0)
    return {"modes": modes, "key_notes": logs(notes), "key_chords": logs(chords), "key_changes": changes}


def chord_tables(songs: list[Song], keys: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Which chord follows which, begins and ends, in the keys of each mode; a rare chord backs off to how often the
    next one is at all."""
    follows = np.zeros((2, CHORDS, CHORDS))
    first, last = np.zeros((2, 2, CHORDS))
    for song, key in zip(songs, keys, strict=True):
        begin = np.flatnonzero(np.diff(song.chords, prepend=-2))
        chord, mode, tonic = song.chords[begin], *np.divmod(key[begin], 12)
        before, after = (in_key(chord[:-1], tonic[1:]), in_key(chord[1:], tonic[1:]))
        named = (chord[:-1] >= 0) & (chord[1:] >= 0)
        np.add.at(follows, (mode[1:][named], before[named], after[named]), WEIGHTS[song.kind])
        for table, place in ((first, 0), (last, -1)):
            if chord[place] >= 0:
                table[mode[place], in_key(chord, tonic)[place]] += WEIGHTS[song.kind]
    often = follows.sum(1) + 0.5
    often /= often.sum(1, keepdims=True)
    other = np.broadcast_to(often[:, None], follows.shape) * (1 - np.eye(CHORDS))
    follows += BACK_OFF * other / other.sum(2, keepdims=True)
    follows[:, np.eye(CHORDS, dtype=bool)] = NEVER
    return {"transitions": logs(follows), "first": logs(first + often), "last": logs(last + often)}


def in_key(chord: np.ndarray, tonic: np.ndarray) -> np.ndarray:
    """Chords with their roots counted from a tonic."""
    return (chord - tonic * KINDS) % CHORDS


def change_table(songs: list[Song]) -> np.ndarray:
    """The probability that a chord ends at a place of the bar, after so many bars, begun with a bar or not."""
    ends, all_ = np.zeros((2, 2, PLACES, 4))
    for song in songs:
        bar, place, weight = song.slots.bar, song.slots.place, WEIGHTS[song.kind]
        downbeat, begin = np.diff(bar, prepend=-1) > 0, np.diff(song.chords, prepend=-2) != 0
        since = np.maximum.accumulate(np.where(begin, np.arange(len(bar)), 0))  # where the chord of each slot began
        slot = np.flatnonzero((song.chords >= 0)[:-1]) + 1
        old = since[slot - 1]
        cell = downbeat[old].astype(int), place[slot], np.minimum(bar[slot] - bar[old], 3)
        np.add.at(all_, cell, weight)
        np.add.at(ends, cell, weight * begin[slot])
    return (ends + 0.5) / (all_ + 5)


def metric_table(songs: list[Song]) -> np.ndarray:
    """How notes are spread over the bar and how long they wait for the next, in bars of each size."""
    table = np.ones((PLACES, 2, len(GAPS) + 1))
    for song in songs:
        if song.kind == "openewld":
            np.add.at(table, tuple(metric(song.line, song.whole).T), 1)
    for first, stop in SIZES:
        table[first:stop] /= table[first:stop].sum()
    return np.log(table)


def logs(counts: np.ndarray) -> np.ndarray:
    """Log probabilities along the last axis."""
    return np.log(counts / counts.sum(-1, keepdims=True))


# --- network --------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Features to the scores of all chords. Each root hears the pitch classes above it, all with the same weights."""

    def __init__(self, channels: torch.Tensor, facts: torch.Tensor):
        super().__init__()
        self.scale = channels.float().square().mean((0, 2)).sqrt()[:, None]
        self.mean, self.spread = facts.mean(0), facts.std(0).clamp(min=0.05)
        self.channels = nn.Linear(CHANNELS * 12, HIDDEN, bias=False)
        self.facts, self.hidden = nn.Linear(FACTS, HIDDEN), nn.Linear(HIDDEN, HIDDEN // 2)
        self.out, self.dropout = nn.Linear(HIDDEN // 2, KINDS), nn.Dropout(DROPOUT)
        self.turned = (torch.arange(12)[:, None] - torch.arange(12)) % 12  # pitch classes (down) above roots (across)

    def forward(self, channels: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        """(B, CHANNELS, 12) and (B, FACTS) to (B, CHORDS)."""
        weight = self.channels.weight.view(HIDDEN, CHANNELS, 12)[:, :, self.turned].permute(1, 2, 3, 0)
        heard = (channels / self.scale).flatten(1) @ weight.reshape(CHANNELS * 12, 12 * HIDDEN)
        first = torch.relu(heard.view(-1, 12, HIDDEN) + self.facts((facts - self.mean) / self.spread)[:, None])
        return self.out(torch.relu(self.hidden(self.dropout(first)))).flatten(1)

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as `harmonise.chord_odds` takes them, with the scaling of the features inside."""
        scale = self.scale.expand(CHANNELS, 12).reshape(-1, 1)
        facts = self.facts.weight / self.spread
        found = {
            "channels": self.channels.weight.T / scale,
            "facts": facts.T,
            "bias": self.facts.bias - facts @ self.mean,
            "hidden": self.hidden.weight.T,
            "hidden_bias": self.hidden.bias,
            "out": self.out.weight.T,
            "out_bias": self.out.bias,
        }
        return {name: value.detach().numpy() for name, value in found.items()}


def train_network(songs: list[Song]) -> Network:
    """A network that has seen all slots with a chord in bars that are sung."""
    rows = [trained_on(song, np.random.default_rng(number)) for number, song in enumerate(songs)]
    channels = torch.from_numpy(np.concatenate([song.channels[keep] for song, keep in zip(songs, rows, strict=True)]))
    facts = torch.from_numpy(np.concatenate([song.facts[keep] for song, keep in zip(songs, rows, strict=True)]))
    chords = torch.from_numpy(np.concatenate([song.chords[keep] for song, keep in zip(songs, rows, strict=True)]))
    weight = torch.cat([torch.full((len(keep),), WEIGHTS[song.kind]) for song, keep in zip(songs, rows, strict=True)])
    network = Network(channels, facts)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    steps = len(chords) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, EPOCHS * steps, pct_start=0.1)
    for epoch in range(EPOCHS):
        losses = []
        for batch in torch.randperm(len(chords))[: steps * BATCH].split(BATCH):
            scores = network(channels[batch].float(), facts[batch])
            loss = nn.functional.cross_entropy(scores, chords[batch], reduction="none")
            loss = (loss * weight[batch]).sum() / weight[batch].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: {np.mean(losses):.3f} nats a slot", flush=True)
    return network.eval()


def trained_on(song: Song, rng: np.random.Generator) -> np.ndarray:
    """The slots to learn from: where a bar or its second half begins, and a few of the others, which differ little."""
    sung = song.channels[:, len(NEIGHBOURS) + 1 : len(NEIGHBOURS) + 1 + len(BARS)].any((1, 2))
    main = np.isin(song.slots.place, MAIN_PLACES) | (rng.random(len(song.chords)) < OTHERS)
    return np.flatnonzero((song.chords >= 0) & sung & main)


# --- the file -------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng, songs, short = np.random.default_rng(0), [], []
    for kind, _, score in scores(options.data, "train"):
        pickup = written_pickup(score) if kind == "openewld" else 0
        songs.append(make_song(kind, score, pickup))
        short += excerpts(kind, score, pickup, rng)
    found = make_tables(songs) | train_network(songs + short).arrays()
    found = {name: np.ascontiguousarray(value, dtype=np.float16) for name, value in found.items()}
    write_file(options.out, save(found, {"about": ABOUT}))


if __name__ == "__main__":
    main()
