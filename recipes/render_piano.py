"""Recordings to learn from, made of MIDI: `python recipes/render_piano.py DATA OUT --soundfont FILE.sf2 --hours 4`.

Renders pieces of the data folder, which holds a manifest.csv of sets, splits and lengths, and copies the MIDI beside
each:

    OUT/train/SET/NAME.flac and .mid    the hours asked for
    OUT/validation/..., OUT/test/...    a tenth as much of each, of the manifest's own splits
    OUT/table.csv                       file, split, set, composer, seconds

Pieces are drawn in an order that only --seed decides, so that more hours keep what is there; what is there already is
not rendered again, and the same command goes on after any interruption. Choose by `--sets giantmidi mutopia` and
`--composers Mozart Haydn` (found in file names and composers). The soundfont of Debian's package fluid-soundfont-gm
(MIT) is a piano in stereo; without one Woodshed's own piano plays.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import numpy as np

from woodshed import WoodshedError, read_midi, render
from woodshed.audio.codecs import LOUDNESS
from woodshed.audio.wave import Audio, probe, write_audio
from woodshed.cli.terminal import bar
from woodshed.progress import Progress

SETS = ("giantmidi", "pop909", "mutopia")
SPLITS = {"train": 1.0, "validation": 0.1, "test": 0.1}  # of the hours
SAMPLE_RATE = 44100
TABLE = ("file", "split", "set", "composer", "seconds")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data folder")
    parser.add_argument("out", type=Path, help="where the recordings go: outside of the repository")
    parser.add_argument("--soundfont", type=Path)
    parser.add_argument("--hours", type=float, default=4.0, help="of the train split")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--composers", nargs="+", default=(), help="words of the file name or the composer")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rows = choose(options.data, options.sets, options.composers, hours=options.hours, seed=options.seed)
    done = []
    with bar("rendering") as report:
        for number, row in enumerate(rows):
            try:
                done.append(record(row, options.data, options.out, options.soundfont))
            except WoodshedError as error:
                report(Progress(message=f"left out: {error}"))
            report(Progress((number + 1) / len(rows), row["file"]))
    write_table(done, options.out / "table.csv")
    for split in SPLITS:
        seconds = [row["seconds"] for row in done if row["split"] == split]
        print(f"{options.out / split}: {len(seconds)} recordings, {sum(seconds) / 3600:.2f} h")


def choose(data: Path, sets: tuple[str, ...], composers: tuple[str, ...], *, hours: float, seed: int) -> list[dict]:
    """Rows of the manifest, in an order of the seed's: of each split so many that they last for its share of hours."""
    with (data / "manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] in sets]
    words = [word.lower() for word in composers]
    rows = [row for row in rows if not words or any(word in f"{row['file']} {row['info']}".lower() for word in words)]
    rng = np.random.default_rng(seed)
    chosen = []
    for split, share in SPLITS.items():
        ours = [row for row in rows if row["split"] == split]
        ours = [ours[number] for number in rng.permutation(len(ours))]
        seconds = np.cumsum([0.0, *(float(row["seconds"]) for row in ours)])
        chosen += [row for row, before in zip(ours, seconds, strict=False) if before < share * hours * 3600]
    return chosen


def record(row: dict, data: Path, out: Path, soundfont: Path | None) -> dict:
    """Render a piece and copy its MIDI, unless that was done before; its row of the table."""
    name = row["file"].removeprefix(f"{row['set']}/").replace("/", "-")
    target = (out / row["split"] / row["set"] / name).with_suffix(".flac")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        samples = render(read_midi(data / row["file"]), soundfont, sample_rate=SAMPLE_RATE, target=LOUDNESS)
        shutil.copyfile(data / row["file"], target.with_suffix(".mid"))
        write_audio(target, Audio(samples, SAMPLE_RATE))
    told = (target.relative_to(out).as_posix(), row["split"], row["set"], row["info"], probe(target).seconds)
    return dict(zip(TABLE, told, strict=True))


def write_table(rows: list[dict], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, TABLE)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
