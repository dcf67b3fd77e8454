"""diagnose(): runs that were made ill, each in one way, and a healthy one that is left alone."""

import ast
import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import tyro
from toys import ADAPTER, LENGTH, TINY, ToyCorpus, ToyRows, steps_of

from woodshed.cli import main
from woodshed.errors import InputError, RunError
from woodshed.log import append_log, read_log
from woodshed.symbolic.data.corpus import find_corpus, open_corpus
from woodshed.symbolic.data.inspect import InspectSettings
from woodshed.symbolic.data.prepare import PrepareSettings, prepare
from woodshed.symbolic.data.unigram import for_comparison
from woodshed.symbolic.judging import diagnoses, take_diagnoses
from woodshed.symbolic.judging.diagnosis import Remedy
from woodshed.symbolic.judging.doctor import diagnose, lines
from woodshed.symbolic.judging.evidence import Evidence, compare, played_before, repeated_figures, values
from woodshed.symbolic.learning.settings import TrainSettings, resolve
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.music.score import Score, Track
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.playing.settings import GenerateSettings
from woodshed.symbolic.run import read_facts
from woodshed.symbolic.tokenizers import make

SETTINGS = {
    "train": TrainSettings,
    "prepare": PrepareSettings,
    "generate": GenerateSettings,
    "inspect": InspectSettings,
}


def named(found, name):
    """The diagnosis of that name, which must be there."""
    assert name in [diagnosis.name for diagnosis in found.diagnoses], lines(found)
    return next(diagnosis for diagnosis in found.diagnoses if diagnosis.name == name)


def flags_of(diagnosis) -> str:
    return " ".join(remedy.flags for remedy in diagnosis.remedies)


def parsed(remedy: Remedy):
    """The flags of a remedy as the command line reads them."""
    how = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
    return tyro.cli(SETTINGS[remedy.verb], args=remedy.flags.split(), config=how)


class Noise(ToyCorpus):
    """Ids 10 to 19 at random: nothing can be learned but which ids there are. `count` rows, again and again."""

    settings: ClassVar[dict] = {"augment": False}
    skipped = ()

    def __init__(self, count: int | None = None):
        self.count = count

    def training_rows(self, max_seq_len, seed=0):
        corpus = self

        class Rows(ToyRows):
            def __getitem__(self, index):
                rng = np.random.default_rng([self.seed, index % (corpus.count or 1 << 30)])
                ids = rng.integers(10, 20, self.length)
                return {**super().__getitem__(index), "input_ids": ids, "labels": ids.copy()}

        return Rows(corpus.count or 24, max_seq_len, seed)

    def evaluation_rows(self, split, max_seq_len):
        rows = type(self)().training_rows(max_seq_len, seed=99)
        rows.count, rows.notes, rows.seconds = self.validation, 100, 50.0
        return rows


class Plain(Noise):
    """Every second id is 50, the others are any of ten: soon learned, and then there is nothing more to learn."""

    def training_rows(self, max_seq_len, seed=0):
        rows = super().training_rows(max_seq_len, seed)

        class Rows(type(rows)):
            def __getitem__(self, index):
                row = super().__getitem__(index)
                row["input_ids"][::2] = 50
                return row | {"labels": row["input_ids"].copy()}

        return Rows(rows.count, max_seq_len, seed)


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("woodshed.symbolic.learning.callbacks.draw_loss", lambda log, picture: None)
        yield


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    out = tmp_path_factory.mktemp("doctor") / "healthy"
    train(Plain(), out, max_steps=140, eval_steps=20, **TINY)
    return out


# --- how it was trained ------------------------------------------------------------------------------------------


def test_a_healthy_run_gets_no_diagnosis_and_the_figures_are_told(healthy):
    found = diagnose(healthy)
    assert found.diagnoses == (), lines(found)
    assert lines(found)[0] == "Nothing wrong found."
    losses = [line["loss"] for line in read_log(healthy / "log.jsonl") if "loss" in line]
    assert found.figures["training loss"].startswith(f"{np.mean(losses[:14]):.3f} to {np.mean(losses[-14:]):.3f} nats")
    assert "in 140 steps" in found.figures["training loss"]
    assert found.figures["for comparison"] == for_comparison(Plain.tokenizer.fingerprint, None, {}) != ""


def test_over_fitting(tmp_path):
    train(Noise(2), tmp_path / "run", max_steps=40, eval_steps=5, patience=0, **TINY)
    found = named(diagnose(tmp_path / "run"), "over-fitting")
    best = read_facts(tmp_path / "run")["best_step"]
    assert f"best at step {best}," in found.symptom and best < 40 and found.severity == 2
    assert flags_of(found) == f"--augment --base piano-played --max-steps {best}"


def test_a_run_that_ended_by_itself_is_good_to_know(tmp_path):
    train(Noise(2), tmp_path / "run", max_steps=400, eval_steps=5, **TINY)
    found = diagnose(tmp_path / "run")
    told = named(found, "nothing better came")
    assert told.severity == 1 and "back to step" in told.symptom
    assert flags_of(told) == "--augment --base piano-played "
    assert not {"over-fitting", "too short a training"} & {diagnosis.name for diagnosis in found.diagnoses}


@pytest.mark.parametrize("rate", [1e-7, 30.0])
def test_a_loss_that_does_not_fall_and_nothing_to_validate_with(tmp_path, rate):
    corpus, better = Noise(), resolve(TrainSettings(base=None)).learning_rate
    corpus.validation = 0
    train(corpus, tmp_path / "run", max_steps=24, **TINY | {"learning_rate": rate})
    found = diagnose(tmp_path / "run")
    assert flags_of(named(found, "nothing to validate with")) == "--fractions 0.8,0.2"
    found = named(found, "the loss does not fall")
    assert found.severity == 3
    assert ("too low" if rate < better else "too high") in found.cause
    assert parsed(found.remedies[0]).learning_rate == pytest.approx(better)


def test_a_loss_that_stays_at_what_counting_gives(tmp_path):
    train(Noise(), tmp_path / "run", max_steps=60, patience=0, **TINY)
    found = named(diagnose(tmp_path / "run", Noise()), "the loss does not fall")
    counted = float(re.search(r"counting ids alone gives ([\d.]+)", found.symptom)[1])
    assert counted == pytest.approx(np.log(10), abs=0.01)
    assert "would count" not in found.symptom and "nothing to learn" in found.cause
    assert not diagnose(tmp_path / "run").diagnoses  # without the corpus there is nothing to compare with


def test_a_rate_that_makes_it_diverge(tmp_path):
    rows = ToyCorpus().training_rows(LENGTH)

    class Poisoned(ToyCorpus):
        """Labels that nothing tells, of ids never met before, at the 12th step when it is first drawn."""

        times = 1

        def training_rows(self, max_seq_len, seed=0):
            corpus = self

            class Rows(ToyRows):
                def __getitem__(self, index):
                    row = super().__getitem__(index)
                    if index == 48 and corpus.times:
                        corpus.times = 0
                        return row | {"labels": np.random.default_rng(0).integers(300, 600, self.length)}
                    return row

            return Rows(len(rows), max_seq_len, seed)

    settings = {**TINY, "batch_size": 1, "learning_rate": 2e-2}
    train(Poisoned(), tmp_path / "run", max_steps=60, eval_steps=40, **settings)
    found = named(diagnose(tmp_path / "run"), "diverging")
    assert "at step 49 the loss was" in found.symptom
    assert parsed(found.remedies[0]).learning_rate == pytest.approx(1e-2)
    facts = read_facts(tmp_path / "run")
    facts["settings"]["learning_rate"] = 1e-2  # it has gone on at that
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    assert "diverging" not in [one.name for one in diagnose(tmp_path / "run").diagnoses]


def test_out_of_memory(tmp_path, monkeypatch):
    from woodshed.symbolic.learning.callbacks import Learner

    real = Learner.training_step

    def small(self, model, inputs, num_items_in_batch=None):
        if len(inputs["input_ids"]) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")
        return real(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(Learner, "training_step", small)
    train(ToyCorpus(), tmp_path / "run", max_steps=3, **TINY)
    found = named(diagnose(tmp_path / "run"), "out of memory")
    assert "out of memory 2 times: 1 rows of 64 ids went through at once, 4 were asked" in found.symptom
    same = parsed(found.remedies[0])
    assert (same.batch_size, same.gradient_accumulation) == (1, 4) and found.severity == 1


CHECKPOINTING = "--training-args gradient_checkpointing=true"


@pytest.mark.parametrize(
    ("settings", "adapter", "flags"),
    [
        ({}, False, f"--base none --size 2m {CHECKPOINTING}"),
        ({"base": "piano-3"}, False, f"--adapter lora {CHECKPOINTING}"),
        ({"base": "piano-3"}, True, f"--load-in-4bit {CHECKPOINTING}"),
        ({"base": "piano-3", "load_in_4bit": True}, True, CHECKPOINTING),
        ({"base": "piano-3", "training_args": ["gradient_checkpointing=true"]}, True, "--load-in-4bit"),
    ],
)
def test_out_of_memory_names_nothing_that_is_on_already(settings, adapter, flags):
    asked = {"batch_size": 4, "max_seq_len": 64, "gradient_accumulation": 1} | settings
    event = {"event": "out of memory", "message": "out of memory: 2 rows at once instead of 4"}
    found = diagnoses.out_of_memory(Evidence({"settings": asked, "adapter": adapter, "finished": True}, [event]))
    assert flags_of(found) == f"--batch-size 2 --gradient-accumulation 2 --max-seq-len 32 {flags}"
    assert all(parsed(remedy) for remedy in found.remedies)


def test_out_of_memory_with_a_single_row(tmp_path, monkeypatch):
    from woodshed.symbolic.learning.callbacks import Learner

    def never(self, model, inputs, num_items_in_batch=None):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")

    monkeypatch.setattr(Learner, "training_step", never)
    with pytest.raises(InputError, match="out of memory with a single row of 64 ids"):
        train(ToyCorpus(), tmp_path / "run", max_steps=3, **TINY)
    found = diagnose(tmp_path / "run")
    assert {diagnosis.name for diagnosis in found.diagnoses} >= {"out of memory", "failed"}
    memory = named(found, "out of memory")
    assert memory.symptom == "it ran out of memory with a single row of 64 ids" and memory.severity == 3
    assert parsed(memory.remedies[0]).max_seq_len == 32
    assert "with an error: out of memory with a single row" in named(found, "failed").symptom
    append_log(tmp_path / "run" / "log.jsonl", {"step": 0, "event": "process", "message": "took 3 s"})
    assert "failed" in {diagnosis.name for diagnosis in diagnose(tmp_path / "run").diagnoses}


def test_stopped_by_a_signal_and_killed(healthy, tmp_path):
    sent = []

    def stop(progress):
        if progress.step == 22 and not progress.message and not sent:  # a second signal would end the process
            sent.append(progress)
            signal.raise_signal(signal.SIGTERM)

    out = tmp_path / "stopped"
    train(ToyCorpus(), out, report=stop, max_steps=26, **TINY)
    found = diagnose(out)
    assert [diagnosis.name for diagnosis in found.diagnoses] == ["stopped early"]
    assert found.diagnoses[0].symptom == "training ended at step 23 of 26, by SIGTERM"
    assert parsed(found.diagnoses[0].remedies[0]).resume
    train(ToyCorpus(), out, resume=True)
    assert "stopped early" not in [diagnosis.name for diagnosis in diagnose(out).diagnoses]

    killed = tmp_path / "killed"
    shutil.copytree(healthy, killed)
    text = (killed / "log.jsonl").read_text()
    (killed / "log.jsonl").write_text(text[: len(text) // 2])
    (killed / "run.json").write_text(json.dumps(read_facts(killed) | {"finished": False}))
    (killed / "model.safetensors").unlink()
    assert "by nothing that was logged" in named(diagnose(killed), "killed").symptom


def test_too_short(tmp_path):
    train(ToyCorpus(), tmp_path / "few", max_steps=3, **TINY)
    found = named(diagnose(tmp_path / "few"), "too short a training")
    assert parsed(found.remedies[0]).max_steps == 6
    train(ToyCorpus(), tmp_path / "steep", max_steps=32, eval_steps=4, **TINY | {"learning_rate": 2e-3})
    found = named(diagnose(tmp_path / "steep"), "too short a training")
    assert parsed(found.remedies[0]).max_steps == 64
    assert int(re.search(r"(\d+)%\) for each doubling", found.symptom)[1]) >= 5


@pytest.mark.parametrize(("songs", "flags"), [("aab", "--fractions 0.8,0.2"), ("aa", "")])
def test_steps_count_though_few_are_logged_and_what_to_validate_with_goes_by_the_songs(songs, flags):
    log = [{"step": step, "loss": 2.0, "learning_rate": 1e-3} for step in range(50, 401, 50)]
    facts = {"settings": dataclasses.asdict(resolve(TrainSettings(base=None, max_steps=400))), "finished": True}
    corpus = SimpleNamespace(fingerprint="c", own=[SimpleNamespace(song=song) for song in songs])
    seen = Evidence(facts | {"corpus": "c"}, log, corpus)
    assert diagnoses.too_short(seen) is None
    found = diagnoses.nothing_to_validate(seen)
    assert "in 400 steps" in found.symptom and flags_of(found) == flags


def test_an_adapter_that_learns_too_slowly(healthy, tmp_path):
    common = {name: TINY[name] for name in ("max_seq_len", "batch_size", "threads")}
    common |= {"base": str(healthy), "adapter": "lora", "max_steps": 24, "eval_steps": 8}
    train(ToyCorpus(), tmp_path / "slow", learning_rate=1e-6, **common)
    found = named(diagnose(tmp_path / "slow"), "the adapter learns too slowly")
    assert parsed(found.remedies[0]).learning_rate == 2e-3
    train(ToyCorpus(), tmp_path / "fast", learning_rate=2e-2, **common)
    names = [one.name for one in diagnose(tmp_path / "fast").diagnoses]
    assert not {"the adapter learns too slowly", "the adapter is no better than its base"} & {*names}


@pytest.mark.parametrize(("adapter", "rate"), [("lora", 2e-2), ("none", 4e-3)])
def test_a_run_that_is_no_better_than_its_base(healthy, tmp_path, adapter, rate):
    """Two rows, which it learns by heart: others become only stranger."""
    settings = ADAPTER | {"learning_rate": rate, "adapter": adapter, "max_steps": 24, "eval_steps": 8, "patience": 0}
    train(Plain(2), tmp_path / "run", base=str(healthy), **settings)
    found = diagnose(tmp_path / "run")
    one = named(found, f"the {'adapter' if adapter == 'lora' else 'run'} is no better than its base")
    base, *later = [line["nats_per_note"] for line in steps_of(tmp_path / "run", "validation").values()]
    assert f"was {base:.3f} nats a note before the first step and at best {min(later):.3f} after it" in one.symptom
    assert min(later) > 0.99 * base
    assert adapter == "lora" or "does not hold for those kept back" in one.cause  # an adapter may learn nothing at all
    other = "none" if adapter == "lora" else "lora"
    assert flags_of(one) == f"--learning-rate {rate / 4:g} --augment --adapter {other} "
    assert parsed(one.remedies[0]).learning_rate == pytest.approx(rate / 4)
    assert not {"over-fitting", "the adapter learns too slowly"} & {diagnosis.name for diagnosis in found.diagnoses}


def test_tokens_without_a_base_are_compared_with_counting(tmp_path):
    corpus, told = Noise(), []
    corpus.tokenizer = make("performance", pedal="drop")
    train(corpus, tmp_path / "run", report=told.append, max_steps=3, **TINY)
    a_note = corpus.validation * 63 / 100  # tokens
    compared = f"counting ids alone gives {np.log(10):.2f} nats a token and {np.log(10) * a_note:.2f} nats a note"
    assert f"for comparison: {compared}" in [line.message for line in told]
    assert diagnose(tmp_path / "run", corpus).figures["for comparison"] == compared
    assert "for comparison" not in diagnose(tmp_path / "run").figures


# --- how it plays ------------------------------------------------------------------------------------------------


def song(seed: int) -> Score:
    """32 bars in C major: block chords C Am F G below, above them a melody of chord tones in phrases that come back."""
    rng = np.random.default_rng(seed)
    triads = np.array([[48, 52, 55], [45, 48, 52], [41, 45, 48], [43, 47, 50]])
    steps = [rng.integers(0, 3, 32) for _ in range(3)]
    notes = []
    for bar in range(32):
        chord, phrase = triads[bar % 4], steps[(bar // 4) % 3]
        notes += [(1920 * bar, 1920, int(pitch), 70, 1) for pitch in chord]
        for beat in range(8):
            pitch = int(chord[phrase[8 * (bar % 4) + beat]]) + 24 + (rng.random() < 0.1)
            notes.append((1920 * bar + 240 * beat, 240, pitch, 80 + int(rng.integers(10)), 0))
    hands = (Track("Melody", 0, False, "melody"), Track("Piano", 0, False, "accompaniment"))
    return Score(notes, tracks=hands)


@pytest.fixture(scope="module")
def playing(tmp_path_factory):
    """A run that has hardly begun to learn, beside the corpus of a dozen songs; one more song is in free time."""
    folder = tmp_path_factory.mktemp("playing")
    (folder / "midi").mkdir()
    for seed in range(12):
        write_midi(song(seed), folder / "midi" / f"song {seed}.mid")
    prepare(folder / "midi", folder / "corpus", tokenizer="remi", keep_grid=True, keep=("near-duplicate",))
    settings = {**TINY, "max_seq_len": 512, "batch_size": 2, "max_steps": 24}
    train(folder / "corpus", folder / "run", **settings)
    return folder / "run"


def test_takes_that_are_too_random_and_ignore_their_chords(playing):
    found = diagnose(playing, takes=3, temperature="1.5", seed=1)
    random = named(found, "too random")
    safer = parsed(random.remedies[0])
    assert float(safer.temperature) < 1.5 and safer.top_p == 0.9
    assert "scale consistency" in random.symptom and "(real " in random.symptom
    ignored = named(found, "the chords are ignored")
    inside, rotated, gain, real = map(float, re.findall(r"\d\.\d\d|-\d\.\d\d", ignored.symptom))
    assert gain == pytest.approx(inside - rotated, abs=0.02) and gain < real / 3
    assert "too repetitive" not in [diagnosis.name for diagnosis in found.diagnoses]


def test_takes_that_are_too_repetitive_are_read_from_the_run(playing, tmp_path):
    run = shutil.copytree(playing, tmp_path / "run")
    takes = generate(run, chords="C Am F G", bars=16, takes=3, temperature="0.05", seed=2)
    (run / "takes" / "001").mkdir()
    for take in takes:
        take.write(run / "takes" / "001" / f"take-{take.seed}")
    found = diagnose(run, playing.parent / "corpus")
    wilder = parsed(named(found, "too repetitive").remedies[0])
    assert float(wilder.temperature) >= 1.0
    assert "too random" not in [diagnosis.name for diagnosis in found.diagnoses]


def test_takes_that_are_damaged_or_of_macos_are_passed_over(playing, tmp_path):
    run = shutil.copytree(playing, tmp_path / "run")
    midi = write_midi(song(1), run / "takes" / "a.mid") or (run / "takes" / "a.mid")
    facts = {"settings": {}, "temperature": 1.0, "measures": dict.fromkeys(("chord_adherence", "rotated_adherence"))}
    (run / "takes" / "a.json").write_text(json.dumps(facts))
    for name, text in {"b": "{", "c": "[]", "d": '{"settings": null}', "._a": json.dumps(facts)}.items():
        shutil.copyfile(midi, run / "takes" / f"{name}.mid")
        (run / "takes" / f"{name}.json").write_text(text)
    assert len(list(played_before(run))) == 1


def test_chords_count_only_where_nothing_but_the_model_kept_to_them(playing, tmp_path):
    run = shutil.copytree(playing, tmp_path / "run")
    for harmony, seen in (("strict", False), ("free", True)):
        shutil.rmtree(run / "takes", ignore_errors=True)
        for take in generate(run, chords="C Am F G", bars=16, takes=3, temperature="1.0", seed=2, harmony=harmony):
            (run / "takes" / "001").mkdir(parents=True, exist_ok=True)
            take.write(run / "takes" / "001" / f"take-{take.seed}")
        rows = compare(list(played_before(run)), open_corpus(playing.parent / "corpus"))[0]
        assert bool(len(values(rows, "adherence_gain"))) == seen


def test_too_little_data(playing):
    found = named(diagnose(playing), "too little data")  # its corpus was found beside it
    assert "12 files, 13 minutes" in found.symptom
    assert "--augment" in flags_of(found) and "--base piano" in flags_of(found)
    assert find_corpus(playing, {"corpus": "0" * 16}) is None


def test_of_a_corpus_that_it_was_not_trained_on_nothing_is_said(playing):
    found = diagnose("piano", playing.parent / "corpus")
    assert found.diagnoses == () and found.figures["corpus"].startswith("12 files")
    assert any("is not the corpus it was trained on: takes are judged by that music, and n" in t for t in found.remarks)


def test_figures_that_come_back_are_counted():
    theme = [60, 62, 64, 65, 67, 69, 71, 72]

    def melody(pitches):
        return Score([(240 * at, 240, int(pitch), 80, 0) for at, pitch in enumerate(pitches)])

    assert repeated_figures(melody(theme)) == 0
    assert repeated_figures(melody(theme * 20)) > 0.9
    assert repeated_figures(melody([*theme, 40, *(pitch + 5 for pitch in theme)])) > 0  # transposed counts
    assert np.isnan(repeated_figures(melody(theme[:4])))


# --- what is told ------------------------------------------------------------------------------------------------


def test_every_flag_that_is_named_exists():
    """All Remedy(verb, flags, ...) as they stand in the source, the constant parts of f-strings among them."""
    calls = [
        node
        for module in (diagnoses, take_diagnoses)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Remedy"
    ]
    assert len(calls) > 20
    for call in calls:
        verb, text = call.args[0].value, ast.unparse(call.args[1])
        fields = {"--" + field.name.replace("_", "-") for field in dataclasses.fields(SETTINGS[verb])}
        assert set(re.findall(r"--[a-z0-9-]+", text)) <= fields, text
    for limit in ("max_minutes", "max_steps", "epochs"):
        longer = Evidence({"settings": {limit: 500_000}}, [{"step": 1}]).longer()
        assert getattr(parsed(Remedy("train", longer, "")), limit) == 1_000_000


def test_a_run_without_a_log_is_no_run_to_go_on_with():
    longer = Evidence({"settings": {"max_minutes": 64.0}}, []).longer()
    assert Remedy("train", longer, "").line("piano") == "woodshed train CORPUS --out NEW --base piano"


def test_the_command_prints_them_the_worst_first_and_writes_json(playing, tmp_path, capsys):
    main(["doctor", str(playing), "--json", str(tmp_path / "found.json")])
    out = capsys.readouterr().out
    told = json.loads((tmp_path / "found.json").read_text())
    severities = [found["severity"] for found in told["diagnoses"]]
    assert severities == sorted(severities, reverse=True) and len(severities) > 0
    for found in told["diagnoses"]:
        assert found["name"] in out and all(remedy["command"] in out for remedy in found["remedies"])


def test_a_base_model_is_told_to_have_no_log_and_bad_input_is_refused(playing, tmp_path, songs):
    found = diagnose("piano")
    assert found.diagnoses == () and len(found.remarks) == 1
    assert "no log" in lines(found)[0] and "--takes 5 --corpus CORPUS" in lines(found)[0]
    with pytest.raises(RunError, match="not a run"):
        diagnose(tmp_path)
    with pytest.raises(InputError, match="--takes -1"):
        diagnose(playing, takes=-1)
    with pytest.raises(InputError, match="--temperature is for takes that are played now; add --takes 5"):
        diagnose(playing, temperature="0.8")
    prepare(songs, tmp_path / "other", tokenizer="performance")
    with pytest.raises(RunError, match="give the corpus it was trained on"):
        diagnose(playing, tmp_path / "other")
