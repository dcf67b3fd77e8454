"""Base models by name: which there are, which fits, and what a damaged or foreign one is told."""

import json
import shutil
from pathlib import Path

import pytest
from toys import TINY

from woodshed.errors import InputError, RunError
from woodshed.jobs import quiet
from woodshed.symbolic import bases
from woodshed.symbolic.data.prepare import prepare
from woodshed.symbolic.data.unigram import for_comparison
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.playing.engines import LlamaStep, make_step
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.run import load_model, open_run
from woodshed.symbolic.tokenizers import make, open_tokenizer


@pytest.fixture
def shelf(tmp_path, monkeypatch, run):
    """A folder of bases: two versions of `toy`, one of `toy-played`."""
    for name in ("toy-1", "toy-10", "toy-2", "toy-played-1"):
        ignore = shutil.ignore_patterns("checkpoint-*", "takes", "log.jsonl")
        shutil.copytree(run, tmp_path / name, ignore=ignore)
    (tmp_path / "empty-1").mkdir()
    for name in (".toy-11", "toy-2-old"):  # half written, or put aside
        shutil.copytree(run, tmp_path / name, ignore=ignore)
    monkeypatch.setattr(bases, "FOLDER", tmp_path)
    return tmp_path


def test_a_plain_name_is_the_newest_version(shelf):
    assert bases.names() == ["toy-1", "toy-2", "toy-10", "toy-played-1"]
    assert bases.find("toy") == shelf / "toy-10"
    assert bases.find("toy-2") == shelf / "toy-2"
    assert bases.find("toy-3") is None and bases.find("empty") is None and bases.find("to") is None


def test_a_base_fits_a_tokenizer_with_the_same_ids_alone(shelf, run):
    assert bases.fitting(open_tokenizer(run).fingerprint) == "toy-played-1"
    assert bases.fitting(make("performance", pedal="drop").fingerprint) is None


def test_a_base_says_what_it_has_come_to_on_its_own_music(shelf, run):
    facts = json.loads((shelf / "toy-played-1" / "run.json").read_text())
    facts["validation"] = {"nats_per_token": 1.0, "nats_per_note": 4.5}
    (shelf / "toy-played-1" / "run.json").write_text(json.dumps(facts))
    told = for_comparison(facts["tokenizer"], None, {})
    assert told == "toy-played-1 has 1.00 nats a token and 4.50 nats a note on its own kind of music"
    assert for_comparison("of nobody", None, {}) == ""


def test_the_bases_in_the_package_have_the_ids_that_prepare_writes():
    for tokens, name in {"remi": "piano", "performance": "piano-played"}.items():
        assert bases.fitting(make(tokens).fingerprint) == bases.find(name).name


def test_a_base_is_opened_by_its_name_and_leaves_nothing_in_the_package(shelf, tmp_path, monkeypatch):
    opened = open_run("toy-played")
    assert opened.folder == shelf / "toy-played-1" and opened.place == Path("toy-played-1")
    with pytest.raises(RunError, match="not a run"):
        open_run("toy-3")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy-2").rename(tmp_path / "mine")
    assert open_run("mine").place == Path("mine")  # a folder of one's own is no base


def test_training_starts_from_the_base_that_fits(shelf, run, tmp_path, monkeypatch):
    settings = dict(max_steps=1, batch_size=1, max_seq_len=64, eval_rows=1)
    corpus = run.parent / "corpus"
    adapted = train(corpus, tmp_path / "adapted", **settings)
    assert adapted.facts["base"] == "toy-played-1" and adapted.facts["adapter"]
    assert train(corpus, tmp_path / "older", base="toy", **settings).facts["base"] == "toy-10"
    fresh = train(corpus, tmp_path / "fresh", base="none", **settings | TINY | {"max_steps": 1})
    assert fresh.facts["base"] is None
    monkeypatch.chdir(tmp_path)
    Path("toy", "takes").mkdir(parents=True)  # what the base has played, or music
    assert train(corpus, tmp_path / "named", base="toy", **settings).facts["base"] == "toy-10"
    assert train(corpus, tmp_path / "sized", **TINY | settings).facts["base"] is None
    assert open_run(tmp_path / "adapted").model(merge=True).config.vocab_size == len(adapted.tokenizer.words)


def test_a_truncated_base_says_so(shelf, run, tmp_path):
    weights = shelf / "toy-played-1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="truncated"):
        train(run.parent / "corpus", tmp_path / "new", max_steps=1, batch_size=1, max_seq_len=64)
    assert not (tmp_path / "new").exists()


# --- models from outside -----------------------------------------------------------------------------------------

SHAPE = dict(num_attention_heads=2, num_hidden_layers=1, hidden_size=32, max_position_embeddings=256)
CONFIGS = {
    "llama": dict(intermediate_size=64, **SHAPE),
    "gpt_neox": dict(intermediate_size=64, **SHAPE),
    "gpt2": dict(n_embd=32, n_layer=1, n_head=2, n_positions=256),
}
SHORT = dict(max_steps=2, batch_size=1, max_seq_len=256, eval_rows=1, threads=1)


def outsider(folder, kind="llama", pad=8):
    """A model with random weights beside MidiTok's tokenizer.json, as somebody else would have published it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    miditok = pytest.importorskip("miditok")
    tokenizer = miditok.REMI(miditok.TokenizerConfig(num_velocities=24, use_tempos=True))
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer) + pad, **CONFIGS[kind])
    with quiet("transformers"):
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    return tokenizer


@pytest.fixture(scope="module")
def foreign_corpus(songs, tmp_path_factory):
    """A corpus with the tokenizer of an outsider."""
    folder = tmp_path_factory.mktemp("outside")
    outsider(folder / "model")
    return prepare(songs, folder / "corpus", tokenizer=f"miditok:{folder / 'model'}")


def test_ids_are_those_of_the_model_and_only_our_words_come_behind_them(foreign_corpus, tmp_path):
    theirs = outsider(tmp_path)
    ours = open_tokenizer(foreign_corpus.folder)  # with nothing of the model beside it
    words = ours.words[: ours.known]
    assert [theirs[word] for word in words[3:]] == list(range(3, len(theirs))) and ours.known == len(theirs)
    assert ours.fingerprint == make(f"miditok:{tmp_path / 'tokenizer.json'}").fingerprint
    row = foreign_corpus.evaluation_rows("validation", 256)[0]
    told = ours.to_words(row["input_ids"][1:40])
    assert {"Bar", "TimeSig", "Tempo", "Position", "Pitch"} <= {word.split("_")[0] for word in told}
    assert foreign_corpus.settings["tokenizer"] == "miditok:REMI"  # no folder of this machine


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_from_outside_is_adapted_in_its_own_ids(kind, foreign_corpus, tmp_path):
    outsider(tmp_path / "model", kind)
    run = train(foreign_corpus, tmp_path / "run", base=str(tmp_path / "model"), **SHORT)
    tokenizer = run.tokenizer
    base, model = run.model(), run.model(merge=True)
    rows = {name: weight for name, weight in base.named_parameters() if "trainable_tokens_delta" in name}
    new = tokenizer.vocab_size - tokenizer.known  # words for tasks and heads, all that the model does not know
    assert rows and {tuple(weight.shape) for weight in rows.values()} == {(new, 32)}
    assert logits(model).allclose(logits(base), atol=1e-5)
    assert model.config.vocab_size >= tokenizer.vocab_size
    if kind == "llama":
        assert type(make_step(model)) is LlamaStep
    take = generate(run, bars=2, takes=1, seed=1, max_length=60)[0]
    assert take.notes > 0 and take.score.metres["numerator"].tolist() == [4]


def logits(model):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(40)[None] + 3).logits


@pytest.mark.parametrize("kind", CONFIGS)
def test_pieces_in_one_row_do_not_see_each_other_in_a_model_from_outside(kind, tmp_path):
    import torch

    outsider(tmp_path, kind)
    model = load_model(tmp_path)
    one, other = torch.arange(20)[None] + 3, torch.arange(20)[None] + 60
    places = torch.cat([torch.arange(20), torch.arange(20)])[None]
    with torch.no_grad():
        packed = model(input_ids=torch.cat([one, other], 1), position_ids=places).logits[:, 20:]
        assert packed.allclose(model(input_ids=other).logits, atol=1e-5)


def test_other_ids_than_those_of_the_model_are_refused_in_one_line(run, foreign_corpus, tmp_path):
    outsider(tmp_path / "model")
    told = (
        rf"its tokens are miditok:REMI \w+, the corpus has \w+ \w+; prepare the corpus with .*miditok:{tmp_path}/model"
    )
    with pytest.raises(RunError, match=told) as error:
        train(run.parent / "corpus", tmp_path / "out", base=str(tmp_path / "model"), **SHORT)
    assert "\n" not in str(error.value)
    text = (tmp_path / "model" / "tokenizer.json").read_text()
    (tmp_path / "model" / "tokenizer.json").write_text(text.replace('"num_velocities": 24', '"num_velocities": 16'))
    with pytest.raises(RunError, match="prepare the corpus with"):
        train(foreign_corpus, tmp_path / "out", base=str(tmp_path / "model"), **SHORT)
    with pytest.raises(InputError, match=r"--adapter ia3: .* does not know \d+ of the corpus's ids"):
        (tmp_path / "model" / "tokenizer.json").unlink()
        train(foreign_corpus, tmp_path / "out", base=str(tmp_path / "model"), adapter="ia3", **SHORT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text, told",
    [
        ('{"tokenization": "REMI", "config": {}, "_model": "..."}', "its ids are learned combinations"),
        ('{"tokenization": "Octuple", "config": {}}', "unknown tokenization 'miditok:Octuple'"),
        ('{"model": {}}', "unknown tokenization .* give the tokenizer.json that MidiTok wrote"),
        ("{", "unknown tokenization"),
    ],
)
def test_a_tokenizer_json_that_cannot_be_read(text, told, tmp_path):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(InputError, match=told):
        make(f"miditok:{tmp_path}")
