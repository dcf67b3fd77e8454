"""The contract of every model of the menu."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from model_toys import TRANSFORMERS, VOCAB, assert_close, assert_grads, each, fresh, logits_and_grads, make, random_ids

from woodshed import menu
from woodshed.errors import InputError
from woodshed.symbolic import models
from woodshed.symbolic.models import decoder
from woodshed.symbolic.models._attention import attention_for
from woodshed.symbolic.playing.engines import make_step

pytestmark = pytest.mark.usefixtures("one_thread")

# --- the menu --------------------------------------------------------------------------------------------------


def test_importing_the_menu_loads_no_torch():
    code = "import sys, woodshed.symbolic.models as m; m.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_sizes_and_fields_say_what_there_is():
    with pytest.raises(InputError, match=r"unknown model 'decodr'.*decoder"):
        models.make("decodr", size="2m", vocab_size=VOCAB, max_seq_len=8)
    with pytest.raises(InputError, match=r"no size '3m'.*2m, 6m"):
        models.make("decoder", size="3m", vocab_size=VOCAB, max_seq_len=8)
    with pytest.raises(InputError, match=r"no setting 'layers'.*num_hidden_layers"):
        models.make("decoder", size="2m", vocab_size=VOCAB, max_seq_len=8, layers=2)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("decoder", "hidden_size", "abc"),
        ("decoder", "num_hidden_layers", 0.5),
        ("decoder", "hidden_size", -1),
        ("lstm", "hidden_size", -3),
        ("music_transformer", "num_attention_heads", 0),
        ("music_transformer", "hidden_act", "unknown"),
        ("decoder", "hidden_act", "unknown"),
    ],
)
def test_values_that_make_no_model_are_named(name, field, value):
    with pytest.raises(InputError, match=f"{name} with {field}={value}: [^\n]*$"):
        models.make(name, size="2m", vocab_size=VOCAB, max_seq_len=8, **{field: value})


@pytest.mark.parametrize("size", decoder.SIZES)
def test_decoder_sizes_are_what_they_are_called(size):
    with torch.device("meta"):
        model = models.make("decoder", size=size, vocab_size=650, max_seq_len=1024)
    assert model.num_parameters() == pytest.approx(float(size[:-1]) * 1e6, rel=0.1)
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (0, 1, 2)
    assert model.config.max_position_embeddings == 1024


# --- every model -----------------------------------------------------------------------------------------------


@each
def test_an_unknown_field_never_reaches_a_model(name, monkeypatch):
    monkeypatch.delattr(menu.load(models.__name__, name, "model"), "make_config")
    with pytest.raises(InputError, match=f"{name} has no setting 'layers'"):
        models.make(name, size="2m", vocab_size=VOCAB, max_seq_len=8, layers=2)


@each
def test_a_later_id_changes_no_earlier_logit(name):
    model, ids = make(name), random_ids(2, 300)
    changed = ids.clone()
    changed[:, 140] = 3 + (ids[:, 140] - 2) % (VOCAB - 3)
    with torch.no_grad():
        before, after = model(ids).logits, model(changed).logits
    assert torch.equal(before[:, :140], after[:, :140])
    assert not torch.equal(before[:, 140], after[:, 140])


@each
def test_packed_equals_unpacked(name):
    model = make(name)
    pieces = [[random_ids(1, n, seed=n) for n in lengths] for lengths in ((200, 30, 70), (1, 129, 170))]
    ids = torch.cat([torch.cat(row, 1) for row in pieces])
    positions = torch.cat([torch.cat([torch.arange(p.shape[1]) for p in row])[None] for row in pieces])
    weight = torch.ones(ids.shape)
    weight[:, :-1] = (positions[:, 1:] != 0).float()  # no piece predicts the next one
    logits, grads = logits_and_grads(model, ids, weight, position_ids=positions)
    alone = [[logits_and_grads(model, piece) for piece in row] for row in pieces]
    assert_close(logits, torch.cat([torch.cat([piece[0] for piece in row], 1) for row in alone]))
    assert_grads(grads, {key: sum(piece[1][key] for row in alone for piece in row) for key in grads})


@each
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_equals_no_padding(name, side):
    model, ids = make(name), random_ids(2, 200)
    real = torch.ones(2, 200, dtype=torch.long)
    at = slice(0, 63) if side == "left" else slice(137, 200)
    real[1, at], ids[1, at] = 0, 0
    positions = (real.cumsum(1) - 1).clamp_min(0)
    weight = (real * real.roll(-1, 1)).float()
    logits, grads = logits_and_grads(model, ids, weight, attention_mask=real, position_ids=positions)
    whole, short = logits_and_grads(model, ids[:1]), logits_and_grads(model, ids[1:, real[1] > 0])
    assert_close(logits[:1], whole[0])
    assert_close(logits[1:, real[1] > 0], short[0])
    assert_grads(grads, {key: whole[1][key] + short[1][key] for key in grads})


@each
def test_saved_and_opened_is_equal(name, tmp_path):
    model, ids = make(name), random_ids(2, 40)
    model.save_pretrained(tmp_path)
    opened = type(model).from_pretrained(tmp_path).eval()
    opened.set_attn_implementation(attention_for("cpu"))
    assert torch.equal(model(ids).logits, opened(ids).logits)
    assert opened.generation_config.use_cache
    assert attention_for("cpu") not in (tmp_path / "config.json").read_text()


@each
def test_overfits_one_batch(name):
    model, ids = fresh(name, max_seq_len=64).train(), random_ids(2, 17)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.2


@each
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")  # its name in transformers 5.0
def test_gradient_checkpointing_changes_nothing(name):
    model, ids = make(name).train(), random_ids(2, 150)
    plain = logits_and_grads(model, ids)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    again = logits_and_grads(model, ids)
    assert_close(again[0], plain[0])
    assert_grads(again[1], plain[1])


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 on transformers 5.23
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
def test_lora_on_all_linear_layers_learns_and_merges(name, tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    model, ids = make(name), random_ids(2, 20)
    linear = [n for n, m in model.named_modules() if type(m) is torch.nn.Linear and n != "lm_head"]
    chosen = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, chosen)
    trained = {n.split(".lora_")[0] for n, p in adapted.named_parameters() if p.requires_grad}
    assert trained == {f"base_model.model.{n}" for n in linear}
    before = adapted(ids, labels=ids).loss.item()
    adapted.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        adapted.train()(ids, labels=ids).loss.backward()
        optimizer.step()
    logits = adapted.eval()(ids).logits.detach()
    assert adapted(ids, labels=ids).loss < before - 0.05
    adapted.save_pretrained(tmp_path)
    opened = PeftModel.from_pretrained(make(name), tmp_path).eval()
    assert_close(opened(ids).logits, logits)
    assert_close(opened.merge_and_unload()(ids).logits, logits)


@each
def test_transformers_own_generate_goes_on_as_steps_do(name):
    model, ids = make(name), random_ids(2, 9)
    step = make_step(model)
    logits, expected = step.start(ids.tolist()), []
    for _ in range(6):
        expected.append(logits.argmax(1))
        logits = step(expected[-1])
    got = model.generate(ids, max_new_tokens=6, min_new_tokens=6, do_sample=False, eos_token_id=[], pad_token_id=0)
    assert got[:, 9:].tolist() == np.stack(expected, 1).tolist()


@each
def test_bf16_weights_work_too(name):
    model, ids = make(name), random_ids(1, 40)
    exact = model(ids).logits
    rounded = model.bfloat16()(ids).logits
    assert rounded.dtype == torch.bfloat16
    assert_close(rounded.float(), exact, atol=0.1)


@each
def test_a_context_shorter_than_the_longest_is_no_other_model(name):
    """The same weights at the same ids, whatever length was asked for when they were made."""
    overrides = {} if name in ("decoder", "lstm") else {"max_relative_distance": 30}
    short, long = make(name, max_seq_len=40, **overrides), make(name, max_seq_len=400, **overrides)
    long.load_state_dict(short.state_dict())
    ids = random_ids(1, 40)
    assert_close(long(ids).logits, short(ids).logits)


@each
def test_ids_that_share_features_begin_alike(name):
    features = np.zeros((VOCAB, 12), dtype=np.float32)
    features[10, 0] = features[20, [0, 4, 7]] = features[30, 1] = 1
    alike, apart = [], []
    for seed in range(20):
        torch.manual_seed(seed)
        model = models.make(name, size="2m", vocab_size=VOCAB, max_seq_len=16, num_hidden_layers=1)
        before = model.get_input_embeddings().weight.detach().clone()
        models.share_features(model, features)
        after = model.get_input_embeddings().weight.detach()
        assert torch.equal(before[40], after[40])  # an id without features stays as it was
        alike.append(float(torch.cosine_similarity(after[10], after[20], dim=0)))
        apart.append(float(torch.cosine_similarity(after[10], after[30], dim=0)))
    assert np.mean(alike) > 0.25 and abs(np.mean(apart)) < 0.1
