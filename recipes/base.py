"""Make a base model from the data folder: `python recipes/base.py DATA WORK --name piano`.

Every stage is kept in WORK, and done once, so that the same command goes on after any interruption:

    WORK/music/       the files to learn from, with table.csv: set, split and weight of each
    WORK/NAME/corpus  `woodshed prepare` on them
    WORK/NAME/run     `woodshed train` on that, for MINUTES in all; Ctrl-C saves and ends a piece of it

`--on-from BASE` begins with the weights of a base of the package, where WORK is lost or rows are to be longer
(`--max-seq-len 2048`; as many ids in a step).

`--pack FILE.zip` writes the corpus to one file and stops; given instead of DATA it brings the corpus to a machine
without the data (one with a GPU, say). `--cool MINUTES` lets the rate of the newest checkpoint fall to nothing within
so many minutes, in WORK/NAME/cooled-STEP, so that an unfinished run can be used and still go on. `--publish` writes the
weights of the newest checkpoint, cooled, or of a finished run into the package, as the next version of NAME.

DATA holds POP909, OpenScore Lieder, Mutopia, OpenEWLD and GiantMIDI beside a manifest.csv of sets, splits and licences.
Nothing of it enters the repository.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import zipfile
from pathlib import Path

from woodshed.cli.train import train_with_bar
from woodshed.errors import InputError
from woodshed.files import built, found_from, read_object, write_object
from woodshed.log import read_log
from woodshed.symbolic import bases
from woodshed.symbolic.data.corpus import Corpus, open_corpus
from woodshed.symbolic.data.prepare import prepare
from woodshed.symbolic.learning.course import DECAY
from woodshed.symbolic.run import FACTS, Run, checkpoints, open_run, read_facts

MINUTES = 480
TOKENIZERS = {"piano": "remi", "piano-played": "performance"}
# How often the ids of a set are drawn: small sets more often, other versions of songs that are there already less.
WEIGHTS = {"pop909": 1.5, "versions": 0.6, "lieder": 1.0, "mutopia": 1.5, "openewld": 2.0, "giantmidi": 4.0}
# Left out, so that adapting can be measured: all of Chaminade's songs, and these composers as GiantMIDI's pianists play
# them. (Lieder holds songs of Schubert's and Debussy's.)
HELD_OUT = {"lieder": ("Chaminade,_Cécile",), "giantmidi": ("Debussy", "Scarlatti", "Schubert")}
SOURCES = {  # and their licences
    "pop909": "POP909 and its other versions | MIT (Music X Lab 2020)",
    "lieder": "OpenScore Lieder, without Cécile Chaminade | CC0 1.0",
    "mutopia": "Mutopia, keyboard music | public domain, CC BY",
    "openewld": "OpenEWLD | MIT",
    "giantmidi": "GiantMIDI-Piano (Qiuqiang Kong et al.), without Debussy, Scarlatti and Schubert | CC BY 4.0",
}
TABLE = ("midi_filename", "canonical_composer", "split", "weight")
PREPARE = dict(
    augment=True, keep=("near-duplicate", "short"), continue_share=0.1, accompany_share=0.15, fill_share=0.15
)
TRAIN = dict(
    size="6m",
    model_args=("max_position_embeddings=2048",),
    max_seq_len=1024,
    batch_size=4,
    learning_rate=1.5e-3,
    warmup=100,
    training_args=("weight_decay=0.1", "adam_beta2=0.98"),
    eval_steps=500,
    eval_rows=96,
    patience=0,
)
COOLED = "cooled-"  # and the step since which the rate falls
LARGEST = 28 * 2**20  # bytes of weights that the package should carry


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data folder, or a file made with --pack")
    parser.add_argument("work", type=Path)
    parser.add_argument("--name", choices=TOKENIZERS, default="piano")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of training in all")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--on-from", metavar="BASE", help="a base of the package to begin with")
    parser.add_argument("--max-seq-len", type=int, help="ids in a row, with --on-from")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--pack", type=Path, metavar="FILE.zip")
    what.add_argument("--cool", type=float, metavar="MINUTES")
    what.add_argument("--publish", action="store_true")
    options = parser.parse_args(arguments)
    if options.max_seq_len and not options.on_from:
        parser.error("--max-seq-len is for a run that begins --on-from a base")
    folder = options.work / options.name
    if options.publish:
        print(publish(folder, options.name))
        return
    corpus = make_corpus(options.data, options.work / "music", TOKENIZERS[options.name], folder / "corpus")
    if options.pack:
        shutil.make_archive(str(options.pack.with_suffix("")), "zip", corpus.folder)
    elif options.cool:
        cool(corpus, folder, options.cool, options.threads)
    else:
        run = folder / "run"
        length = options.max_seq_len or TRAIN["max_seq_len"]
        fresh = started(options.on_from, folder, length) if options.on_from else TRAIN
        more = {"resume": True, "patience": 0} if (run / FACTS).exists() else fresh
        train_with_bar(corpus, run, max_minutes=options.minutes, threads=options.threads, **more)


# --- data ------------------------------------------------------------------------------------------------------


def make_corpus(data: Path, music: Path, tokenizer: str, out: Path) -> Corpus:
    """The corpus: as it is there, unpacked from one file, or prepared from the data folder."""
    if not out.exists() and data.suffix == ".zip":
        with zipfile.ZipFile(data) as archive, built(out) as temporary:
            archive.extractall(temporary)
    elif not out.exists():
        if not (music / "table.csv").exists():
            gather(data, music)
        prepare(music, out, tokenizer=tokenizer, metadata=music / "table.csv", **PREPARE)
    return open_corpus(out)


def gather(data: Path, music: Path) -> None:
    """Copy what is to be learned from, and write the table beside it last."""
    with (data / "manifest.csv").open(encoding="utf-8") as file:
        rows = [found for row in csv.DictReader(file) for found in entries(data, row)]
    for row in rows:
        target = music / row["midi_filename"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / row["midi_filename"], target)
    with (music / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, TABLE)
        writer.writeheader()
        writer.writerows(rows)


def entries(data: Path, row: dict) -> list[dict]:
    """The rows of our table for a row of the manifest: none, one, or a POP909 song with its other versions."""
    kind, path = row["set"], row["file"]
    if kind not in WEIGHTS or any(name in path for name in HELD_OUT.get(kind, ())):
        return []
    versions = sorted((data / path).parent.glob("versions/*.mid")) if kind == "pop909" else []
    found = [(kind, path), *(("versions", version.relative_to(data).as_posix()) for version in versions)]
    return [dict(zip(TABLE, (path, kind, row["split"], WEIGHTS[kind]), strict=True)) for kind, path in found]


def started(name: str, folder: Path, length: int) -> dict:
    """The settings to go on from a base with rows of `length` ids: a copy of it, whose limit is that; its positions are
    rotary and have no weights. What is cooled and begins anew wants a lower rate than what has never been cooled."""
    base = open_run(name).folder
    if not (start := folder / f"{base.name}-{length}").exists():
        with built(start) as temporary:
            shutil.copytree(base, temporary, dirs_exist_ok=True)
            config = read_object(temporary / "config.json") | {"max_position_embeddings": length}
            write_object(temporary / "config.json", config)
    kept = {setting: value for setting, value in TRAIN.items() if setting not in ("size", "model_args")}
    rows = max(1, TRAIN["batch_size"] * TRAIN["max_seq_len"] // length)
    changed = dict(max_seq_len=length, batch_size=rows, learning_rate=TRAIN["learning_rate"] * 2 / 3)
    return kept | changed | dict(base=str(start), adapter="none")


# --- weights ---------------------------------------------------------------------------------------------------


def cool(corpus: Corpus, folder: Path, minutes: float, threads: int | None) -> None:
    """A copy of the run at its newest checkpoint, resumed as if only so many minutes were left: the rate falls from
    where it was to nothing within them."""
    run, newest = folder / "run", max(checkpoints(folder / "run"), default=0)
    facts = read_facts(run)
    if not newest or facts["finished"]:
        raise InputError(
            f"{run}: {'finished, --publish it' if newest else 'no checkpoint yet, train on'}; nothing to cool"
        )
    if not (cooled := folder / f"{COOLED}{newest}").exists():
        with built(cooled) as temporary:
            shutil.copytree(run, temporary, dirs_exist_ok=True)
    spent = max(line.get("seconds", 0) for line in read_log(run / "log.jsonl") if line.get("step", 0) <= newest) / 60
    rate = height(spent, facts["settings"]["max_minutes"]) * facts["settings"]["learning_rate"]
    rate /= height(spent, spent + minutes)
    how = dict(resume=True, patience=0, learning_rate=rate, threads=threads)
    train_with_bar(corpus, cooled, max_minutes=spent + minutes, **how)


def height(spent: float, limit: float) -> float:
    """The share of its peak that the rate of a run has, after so many of its minutes."""
    return min(1.0, (1 - spent / limit) / DECAY)


def finished(folder: Path) -> Run:
    """The run to publish: cooled since its newest checkpoint, or at its end."""
    run = folder / "run"
    cooled = folder / f"{COOLED}{max(checkpoints(run), default=0)}"
    found = open_run(cooled if cooled.exists() else run)
    if not found.facts["finished"]:
        raise InputError(f"{found.folder}: not finished; go on to the end, or --cool MINUTES first")
    return found


def publish(folder: Path, name: str) -> Path:
    """The weights in bfloat16 as the package's next version of a base, with its facts and a model card."""
    run, latest = finished(folder), bases.find(name)
    version = int(latest.name.rpartition("-")[2]) + 1 if latest else 1
    with built(out := bases.FOLDER / f"{name}-{version}") as temporary:
        write_base(run, open_corpus(folder / "corpus"), temporary, out.name)
    return out


def write_base(run: Run, corpus: Corpus, folder: Path, name: str) -> None:
    """The files of a base in an empty folder."""
    model = run.model(merge=True).bfloat16()
    model.config.max_position_embeddings = run.facts["settings"]["max_seq_len"]  # as far as it has been trained
    model.save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    size = weights.stat().st_size
    if size > LARGEST:
        raise InputError(f"{run.folder}: {size / 2**20:.1f} MiB of weights; a base may have {LARGEST // 2**20}")
    for file in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(run.folder / file, folder / file)
    made_for = f"made by recipes/base.py for {name.rpartition('-')[0]}"
    facts = run.facts | {"style": name, "base": None, "corpus": made_for}
    facts.pop("corpus_folder", None)  # a folder of the machine that trained it
    if run.folder.name.startswith(COOLED):  # whose rate and minutes are only how it was done
        own = read_facts(run.folder.with_name("run"))["settings"]
        facts["settings"] |= {setting: own[setting] for setting in ("learning_rate", "max_minutes")}
        facts["cooled_since"] = int(run.folder.name.removeprefix(COOLED))
    if facts["settings"]["base"]:
        before = read_facts(found_from(run.folder, facts["settings"]["base"]))
        facts["settings"]["base"] = before["style"]
        facts["before"] = [*before.get("before", []), {key: before[key] for key in ("style", "step", "seconds")}]
    sets = {piece.path.split("/")[0] for piece in corpus.pieces if piece.split == "train"}
    for text, content in ((FACTS, json.dumps(facts, indent=1)), ("README.md", card(name, facts, sets))):
        (folder / text).write_text(content, encoding="utf-8")


def card(name: str, facts: dict, sets: set[str]) -> str:
    """The model card, with the sets of music that it has learned from."""
    told = ", ".join(f"{value:.3f} {unit.replace('_', ' ')}" for unit, value in facts["validation"].items())
    before, length = facts["settings"]["base"], facts["settings"]["max_seq_len"]
    minutes, cooled = facts["settings"]["max_minutes"], facts.get("cooled_since")
    on = f" --on-from {before} --max-seq-len {length}" if before else ""
    on += f" --minutes {minutes:g}" if before and minutes and not cooled else ""
    since = f", at a falling rate from step {cooled:,} on (`--cool`)" if cooled else ""
    learned = "\n".join(f"| {source} |" for kind, source in SOURCES.items() if kind in sets)
    return f"""---
license: mit
library_name: transformers
tags: [music, midi, woodshed]
---
# {name}

A base model of Woodshed: piano music, {facts["parameters"]:,} parameters, a stock Llama in bfloat16. `tokenizer.json`
says what its ids mean. Validation: {told}. Made by
`python recipes/base.py DATA WORK --name {name.rpartition("-")[0]}{on}`{since}.

| learned from | licence |
|---|---|
{learned}

Anyone may use it, for anything, under the licence of Woodshed.
"""


if __name__ == "__main__":
    main()
