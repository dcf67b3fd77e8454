"""A run opens with nothing else said, plays as it was trained, and says in one line what is wrong with it."""

import json
import shutil

import pytest
from folders import model_with_code
from safetensors.numpy import load_file, save_file
from toys import TINY, ToyCorpus

from woodshed.errors import InputError, RunError
from woodshed.symbolic import models
from woodshed.symbolic.learning.settings import TrainSettings
from woodshed.symbolic.learning.train import _fitted, train
from woodshed.symbolic.run import find_base, load_model, open_run
from woodshed.symbolic.tokenizers import make

ADAPTER = {name: TINY[name] for name in ("max_seq_len", "batch_size", "learning_rate", "threads")}
STEPS = {"max_steps": 4, "eval_steps": 2}


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder with a run, an adapter over it, and an adapter over that."""
    folder = tmp_path_factory.mktemp("music")
    train(ToyCorpus(), folder / "piano", **STEPS, **TINY)
    train(ToyCorpus(), folder / "jazz", base=str(folder / "piano"), **STEPS, **ADAPTER)
    train(ToyCorpus(), folder / "late", base=str(folder / "jazz"), lora_rank=4, **STEPS, **ADAPTER)
    return folder


@pytest.fixture
def copy(music, tmp_path):
    """The same, to break."""
    return shutil.copytree(music, tmp_path / "music")


def logits(model):
    import torch

    rows = ToyCorpus().evaluation_rows("validation", TINY["max_seq_len"])
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(rows[0]["input_ids"][None])).logits


def test_a_run_is_whole_and_a_published_one_holds_no_pickles(music):
    for name in ("piano", "jazz", "late"):
        run = open_run(music / name)
        published = [path.name for path in run.folder.iterdir() if path.is_file()]
        weights = "model.safetensors" if name == "piano" else "adapter_model.safetensors"
        assert {"config.json", "tokenizer.json", "generation_config.json", "log.jsonl", "loss.png", weights} <= {
            *published
        }
        assert {path.rpartition(".")[2] for path in published} <= {"json", "jsonl", "safetensors", "png", "md"}
        assert run.tokenizer.fingerprint == ToyCorpus.tokenizer.fingerprint == run.facts["tokenizer"]
        assert open_run(run) is run and run.facts["style"] == "toy"
    assert "# toy" in (music / "piano" / "README.md").read_text()


def test_transformers_and_peft_open_it_too(music):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from woodshed.jobs import quiet

    with quiet("transformers"):
        piano = AutoModelForCausalLM.from_pretrained(music / "piano")
        assert logits(piano).allclose(logits(open_run(music / "piano").model()), atol=1e-4)
        jazz = PeftModel.from_pretrained(piano, music / "jazz")
    assert logits(jazz).allclose(logits(open_run(music / "jazz").model()), atol=1e-4)


def test_merged_is_unmerged_and_neither_is_the_base(music):
    for name, base in (("jazz", "piano"), ("late", "jazz")):
        run = open_run(music / name)
        adapted, merged = logits(run.model()), logits(run.model(merge=True))
        assert adapted.allclose(merged, atol=1e-4)
        assert not adapted.allclose(logits(open_run(music / base).model(merge=True)), atol=1e-2)


def test_any_checkpoint_can_be_chosen(music):
    run = open_run(music / "piano", checkpoint=2)
    assert not logits(run.model()).allclose(logits(open_run(music / "piano", checkpoint=4).model()))
    with pytest.raises(RunError, match="it has no checkpoint 3; choose from: 2, 4"):
        open_run(music / "piano", checkpoint=3)


def test_what_macos_puts_beside_files_is_passed_over(copy):
    for path in [*copy.rglob("*.safetensors")]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    assert logits(open_run(copy / "late").model(merge=True)).shape[0] == 1


def test_runs_move_together(copy):
    expected = logits(open_run(copy / "jazz").model())
    copy.rename(copy.with_name("elsewhere"))
    assert logits(open_run(copy.with_name("elsewhere") / "jazz").model()).equal(expected)


def test_the_card_goes_with_the_run_until_somebody_edits_it(tmp_path):
    card = tmp_path / "README.md"
    train(ToyCorpus(), tmp_path, max_steps=2, **TINY)
    train(ToyCorpus(), tmp_path, resume=True, max_steps=3)
    told = card.read_text()
    assert "of 3 |" in told
    card.write_text(told + "Recorded in my kitchen.\n")
    train(ToyCorpus(), tmp_path, resume=True, max_steps=4)
    assert card.read_text() == told + "Recorded in my kitchen.\n"


# --- what can be wrong -------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_run(tmp_path):
    for text in (None, "", "{", "[]", "{}", '"run"'):
        if text is not None:
            (tmp_path / "run.json").write_text(text)
        with pytest.raises(RunError, match="not a run"):
            open_run(tmp_path)
    with pytest.raises(RunError, match="not a run"):
        open_run(tmp_path / "nowhere")


def test_weights_that_are_cut_short(copy):
    file = copy / "piano" / "model.safetensors"
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100, 8, 1, 0):
        file.write_bytes(whole[:size])
        with pytest.raises(RunError, match="truncated or damaged"):
            open_run(copy / "piano")
    with pytest.raises(RunError, match="truncated or damaged"):
        open_run(copy / "late").model()
    file.unlink()
    with pytest.raises(RunError, match="it holds no weights"):
        open_run(copy / "piano")


def test_weights_that_are_not_all_there_are_never_filled_up_at_random(copy):
    file = copy / "piano" / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("mlp.down_proj.weight"))
    for spoilt in ({}, {name: weights[name][:3]}):
        save_file({k: v for k, v in weights.items() if k != name} | spoilt, file, metadata={"format": "pt"})
        with pytest.raises(RunError, match=f"{name} is missing or has another shape"):
            open_run(copy / "piano").model()


def test_tokens_that_are_not_those_of_the_weights(copy):
    make("remi").save(copy / "piano")
    with pytest.raises(RunError, match="its weights were trained on"):
        open_run(copy / "piano")
    (copy / "piano" / "tokenizer_config.json").unlink()
    with pytest.raises(RunError, match="no tokenizer"):
        open_run(copy / "piano")


def test_a_base_that_is_gone_or_has_changed(copy):
    (copy / "piano").rename(copy / "moved")
    with pytest.raises(RunError, match=r"its base is not at .*piano; put it back there$"):
        open_run(copy / "jazz")
    (copy / "piano").mkdir()
    with pytest.raises(RunError, match=r"it holds no weights .*; put the base back there$"):
        open_run(copy / "jazz")
    shutil.copytree(copy / "late", copy / "piano", dirs_exist_ok=True)
    with pytest.raises(RunError, match="has other weights than it was trained on"):
        open_run(copy / "jazz").model()


def test_a_base_with_other_tokens_is_refused(music, tmp_path):
    corpus = ToyCorpus()
    corpus.tokenizer = make("remi")
    with pytest.raises(
        RunError, match=r"its tokens are performance .*, the corpus has remi .*; prepare the corpus with"
    ):
        train(corpus, tmp_path / "out", base=str(music / "piano"), max_steps=1, **ADAPTER)
    assert not (tmp_path / "out").exists()


def test_a_base_that_takes_no_rows_so_long(music, tmp_path):
    for length in (100, 2048):
        with pytest.raises(InputError, match=rf"--max-seq-len {length}: the base .* takes at most 64"):
            train(ToyCorpus(), tmp_path / "out", base=str(music / "piano"), max_steps=1, max_seq_len=length)
    run = train(ToyCorpus(), tmp_path / "out", base=str(music / "piano"), max_steps=1, threads=1)
    assert run.facts["settings"]["max_seq_len"] == 64  # not asked for, so what the base takes


def test_a_base_that_nobody_has(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("nobody/nothing", "pianoforte", "not a name/at all/"):
        with pytest.raises(RunError, match="no base model") as error:
            find_base(name, tmp_path, fetch=True)
        assert "\n" not in str(error.value)
        assert "go online once to fetch it, or give a local folder" in str(error.value)
    with pytest.raises(RunError, match="its base is not at"):
        find_base("./piano", tmp_path)


def test_a_proxy_that_refuses_is_told_in_one_line(tmp_path, monkeypatch):
    import huggingface_hub

    def refused(name, **options):
        raise huggingface_hub.errors.HTTPError("403 Forbidden")  # neither an OSError nor a ValueError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(RunError, match=r"Hugging Face does not give it \(403 Forbidden\)"):
        find_base("nobody/nothing", tmp_path, fetch=True)


def test_a_base_that_only_a_run_names_is_not_downloaded(copy, tmp_path, monkeypatch):
    import huggingface_hub

    here = {}

    def snapshot(name, *, local_files_only=False, **options):
        if not local_files_only:
            here[name] = str(copy / "piano")
        if name not in here:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")
        return here[name]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    facts = json.loads((copy / "jazz" / "run.json").read_text())
    (copy / "jazz" / "run.json").write_text(json.dumps(facts | {"base": "stranger/piano"}))
    run = open_run(copy / "jazz")
    told = r"jazz: its base stranger/piano is not on this machine; if you trust it: hf download stranger/piano"
    with pytest.raises(RunError, match=told):
        run.model()
    _fitted(TrainSettings(base="stranger/piano", max_seq_len=64), tmp_path, asked=True)  # now the user names it
    assert logits(run.model()).isfinite().all()


# --- foreign bases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_a_foreign_base_with_a_small_vocabulary_grows(tmp_path, tied):
    """A model that never saw our ids: LoRA on it trains the rows of all our ids too, in embedding and head."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from woodshed.jobs import quiet

    torch.manual_seed(0)
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    foreign = LlamaForCausalLM(
        LlamaConfig(vocab_size=50, tie_word_embeddings=tied, max_position_embeddings=64, **sizes)
    )
    with quiet("transformers"):
        foreign.save_pretrained(tmp_path / "foreign")
    run = train(ToyCorpus(), tmp_path / "out", base=str(tmp_path / "foreign"), max_steps=20, **ADAPTER)
    model = run.model(merge=True)
    assert model.config.vocab_size == ToyCorpus.tokenizer.vocab_size
    assert run.facts["trainable"] > (1 if tied else 2) * 32 * ToyCorpus.tokenizer.vocab_size
    assert logits(model).allclose(logits(run.model()), atol=1e-4)
    losses = [json.loads(line).get("loss") for line in (run.folder / "log.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss]
    assert losses[-1] < losses[0] - 1


def test_code_in_a_model_is_never_run_nor_asked_about(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    folder = model_with_code(tmp_path / "model")
    with pytest.raises(RunError, match=r"its model cannot be loaded \(.*custom code"):
        load_model(folder)
    assert not (folder / "ran").exists()


# --- the menu ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.names())
def test_every_model_of_the_menu_trains_and_opens(name, tmp_path):
    settings = {**TINY, "model_args": (), "size": models.sizes(name)[0]}
    run = train(ToyCorpus(), tmp_path, model=name, max_steps=2, **settings)
    model = run.model()
    assert type(model).config_class.model_type == json.loads((tmp_path / "config.json").read_text())["model_type"]
    assert not model.training and logits(model).isfinite().all()
