"""The contract of every model of the menu, and of the steps that run them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from woodshed.errors import InputError
from woodshed.symbolic import models
from woodshed.symbolic.models import _attention, decoder
from woodshed.symbolic.models._attention import attention_for, chunked_attention
from woodshed.symbolic.playing import engines
from woodshed.symbolic.playing.engines import ACTIVATIONS, LlamaStep, LSTMStep, RelativeStep, make_step
from woodshed.symbolic.playing.step import HubStep

VOCAB = 50
each = pytest.mark.parametrize("name", models.names())


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other on busy cores are ten times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Small ones; a new file in the menu is tested at its smallest size until it stands here.
SMALL = {"hidden_size": 64, "num_hidden_layers": 2}
TINY = {
    "decoder": SMALL | {"intermediate_size": 96, "num_attention_heads": 2, "head_dim": 32},
    "lstm": SMALL,
    "music_gpt2": SMALL | {"num_attention_heads": 2},
    "music_transformer": SMALL | {"intermediate_size": 96, "num_attention_heads": 2},
}
TRANSFORMERS = [name for name in models.names() if name != "lstm"]


def fresh(name: str, *, max_seq_len: int = 300, **overrides):
    torch.manual_seed(0)
    options = TINY.get(name, {}) | overrides
    return models.make(name, size=models.sizes(name)[0], vocab_size=VOCAB, max_seq_len=max_seq_len, **options)


def make(name: str = "decoder", **overrides):
    return spread(fresh(name, **{"initializer_range": 0.06} | overrides).eval())


def spread(model):
    """Sharper attention than fresh weights have, so that a wrong mask shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(2)
    return model


def random_ids(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def logits_and_grads(model, ids, weight=None, **options) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the gradients of a next-id loss; `weight` (B, T) says which predictions count."""
    model.zero_grad()
    logits = model(ids, **options).logits
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
    (loss if weight is None else loss * weight[:, :-1]).sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_close(got, expected, atol=1e-5):
    """Equal to `atol` of the largest value."""
    torch.testing.assert_close(got, expected, rtol=0, atol=atol * max(1.0, float(expected.detach().abs().max())))


def assert_grads(got, expected):
    for name, grad in expected.items():
        assert_close(got[name], grad)


# --- the menu --------------------------------------------------------------------------------------------------


def test_importing_the_menu_loads_no_torch():
    code = "import sys, woodshed.symbolic.models as m; m.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_sizes_and_fields_say_what_there_is():
    with pytest.raises(InputError, match=r"unknown model 'decodr'.*decoder"):
        models.make("decodr", size="2m", vocab_size=VOCAB, max_seq_len=8)
    with pytest.raises(InputError, match=r"no size '3m'.*2m, 6m"):
        models.make("decoder", size="3m", vocab_size=VOCAB, max_seq_len=8)
    with pytest.raises(InputError, match=r"no setting layers.*num_hidden_layers"):
        models.make("decoder", size="2m", vocab_size=VOCAB, max_seq_len=8, layers=2)


@pytest.mark.parametrize("size", decoder.SIZES)
def test_decoder_sizes_are_what_they_are_called(size):
    with torch.device("meta"):
        model = models.make("decoder", size=size, vocab_size=650, max_seq_len=1024)
    assert model.num_parameters() == pytest.approx(float(size[:-1]) * 1e6, rel=0.1)
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (0, 1, 2)
    assert model.config.max_position_embeddings == 1024


# --- every model -----------------------------------------------------------------------------------------------


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
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
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


# --- the attention ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [{}, {"num_key_value_heads": 1}], ids=["plain", "grouped"])
@pytest.mark.parametrize("length", [5, 128, 300])
def test_chunked_equals_sdpa(overrides, length):
    model, ids = make(**overrides), random_ids(3, length)
    model.set_attn_implementation("chunked")
    fast = logits_and_grads(model, ids)
    model.set_attn_implementation("sdpa")
    stock = logits_and_grads(model, ids)
    assert_close(fast[0], stock[0])
    assert_grads(fast[1], stock[1])


def window(length: int) -> torch.Tensor:
    """A mask (1, 1, T, T) of an additive kind that has no first keys: every query sees every other key."""
    at = torch.arange(length)
    seen = (at <= at[:, None]) & ((at - at[:, None]) % 2 == 0)
    return torch.zeros(length, length).masked_fill(~seen, -torch.inf)[None, None]


@pytest.mark.parametrize("mask", [torch.arange(140)[None] % 7 != 3, window(140)], ids=["holes", "own mask"])
def test_masks_without_first_keys_are_kept(mask):
    model, ids = make(), random_ids(1, 140)
    model.set_attn_implementation("chunked")
    fast = model(ids, attention_mask=mask).logits
    assert not torch.allclose(fast, model(ids).logits, atol=1e-2)
    model.set_attn_implementation("sdpa")
    stock = model(ids, attention_mask=mask).logits
    real = mask[0] if mask.ndim == 2 else slice(None)
    assert_close(fast[:, real], stock[:, real])


def test_bf16_autocast_stays_near_fp32():
    model, ids = make(), random_ids(2, 300)
    exact = attended(model, "sdpa", ids)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = {kind: attended(model, kind, ids) for kind in ("chunked", "sdpa")}
    errors = {kind: float((logits - exact).abs().mean()) for kind, logits in rounded.items()}
    assert 0 < errors["chunked"] < 1.5 * errors["sdpa"]


def attended(model, kind: str, ids: torch.Tensor) -> torch.Tensor:
    model.set_attn_implementation(kind)
    with torch.no_grad():
        return model(ids).logits.float()


@pytest.mark.parametrize("first", [None, torch.tensor([[0] * 4 + [4] * 5, [3] * 9])], ids=["plain", "masked"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_finite_differences(monkeypatch, first, dropout):
    monkeypatch.setattr(_attention, "CHUNK", 4)
    monkeypatch.setattr(_attention, "ALIGN", 2)
    if first is not None:
        first = torch.minimum(first, torch.arange(9))
    inputs = [torch.randn(2, 1, 9, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def attention(query, key, value):
        torch.manual_seed(0)
        return chunked_attention(torch.nn.Module(), query, key, value, first, dropout=dropout)[0]

    assert torch.autograd.gradcheck(attention, inputs)


def test_dropout_drops_weights_and_scales_the_others():
    size = 200
    equal, reveal = torch.zeros(1, 1, size, size), torch.eye(size)[None, None]
    weights = chunked_attention(torch.nn.Module(), equal, equal, reveal, None, dropout=0.25)[0][0, :, 0]
    counts = torch.arange(1, size + 1)[:, None]
    kept = weights > 0
    assert not weights.triu(1).any()
    torch.testing.assert_close(weights[kept], (1 / 0.75 / counts).expand_as(weights)[kept])
    assert kept.sum() / counts.sum() == pytest.approx(0.75, abs=0.02)


def test_attention_for_devices():
    assert attention_for("cpu") == "chunked"
    assert attention_for("cuda:1") == attention_for(torch.device("cuda")) == "sdpa"


# --- steps -----------------------------------------------------------------------------------------------------


def steps_of(name: str) -> list:
    """A model with the step it gets and with the generic one."""
    model = make(name)
    return [(model, step) for step in {type(step): step for step in (make_step(model), HubStep(model))}.values()]


every_step = pytest.mark.parametrize(("model", "step"), [pair for name in models.names() for pair in steps_of(name)])


@torch.no_grad()
def full(model, ids: list[int]) -> np.ndarray:
    """The logits (T, V) of the full forward of one row."""
    return model(torch.tensor([ids])).logits[0].numpy()


@every_step
def test_stepping_equals_the_full_forward(model, step):
    ids = random_ids(300).tolist()
    logits = [step.start([ids[:270]])[0]] + [step(np.array([token]))[0] for token in ids[270:]]
    np.testing.assert_allclose(logits, full(model, ids)[269:], atol=1e-4)


@every_step
def test_rows_of_a_batch_equal_rows_alone(monkeypatch, model, step):
    monkeypatch.setattr(engines, "PREFILL", 16)
    lengths, ids = [60, 1, 40], random_ids(3, 80).tolist()
    expected = [full(model, row) for row in ids]
    got = step.start([row[:n] for row, n in zip(ids, lengths, strict=True)])
    assert got.dtype == np.float32 and got.shape == (3, VOCAB)
    for added in range(10):
        np.testing.assert_allclose(got, [e[n - 1 + added] for e, n in zip(expected, lengths, strict=True)], atol=1e-4)
        got = step(np.array([row[n + added] for row, n in zip(ids, lengths, strict=True)]))
    step.keep([2, 1])
    got = step(np.array([ids[2][50], ids[1][11]]))
    np.testing.assert_allclose(got, [expected[2][50], expected[1][11]], atol=1e-4)


@every_step
def test_start_forgets_and_bounds_are_told(model, step):
    ids = random_ids(40).tolist()
    before = step.start([ids])
    step.start([ids[:3], ids[7:30]])
    np.testing.assert_allclose(step.start([ids]), before, atol=1e-6)
    with pytest.raises(InputError, match="one or more"):
        step.start([ids, []])
    with pytest.raises(InputError, match="301 ids in a context of 300"):
        step.start([random_ids(301).tolist()])
    step.start([random_ids(300).tolist()])
    with pytest.raises(InputError, match="301 ids in a context of 300"):
        step(np.array([3]))


def test_every_model_has_an_engine_of_its_own():
    engines = {name: type(make_step(make(name))) for name in models.names()}
    relative = dict.fromkeys(("music_transformer", "music_gpt2"), RelativeStep)
    assert engines == {"decoder": LlamaStep, "lstm": LSTMStep} | relative


def test_an_activation_without_an_engine_goes_to_the_hub_step():
    model, ids = make("music_gpt2", hidden_act="silu"), random_ids(20).tolist()
    assert "silu" not in ACTIVATIONS and isinstance(make_step(model), HubStep)
    np.testing.assert_allclose(make_step(model).start([ids])[0], full(model, ids)[-1], atol=1e-4)


def test_llama_step_knows_grouped_heads():
    model, ids = make(num_key_value_heads=1), random_ids(20).tolist()
    step = make_step(model)
    assert isinstance(step, LlamaStep)
    np.testing.assert_allclose(step.start([ids])[0], full(model, ids)[-1], atol=1e-4)


@pytest.mark.parametrize("overrides", [{"attention_bias": True}, {"hidden_act": "gelu"}], ids=["bias", "gelu"])
def test_other_llamas_go_to_the_hub_step(overrides):
    model, ids = make(**overrides), random_ids(20).tolist()
    step = make_step(model)
    assert isinstance(step, HubStep)
    np.testing.assert_allclose(step.start([ids])[0], full(model, ids)[-1], atol=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 on transformers 5.23
def test_adapters_go_to_the_hub_step_until_they_are_merged():
    from peft import LoraConfig, get_peft_model

    model, rows = make(), [random_ids(20).tolist(), random_ids(9, seed=2).tolist()]
    plain = full(model, rows[0])
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
    expected = [full(adapted, row)[-1] for row in rows]
    assert not np.allclose(expected[0], plain[-1], atol=1e-2)
    for current in (adapted, model):
        assert isinstance(make_step(current), HubStep)
        np.testing.assert_allclose(make_step(current).start(rows), expected, atol=1e-4)
    merged = make_step(adapted.merge_and_unload())
    assert isinstance(merged, LlamaStep)
    np.testing.assert_allclose(merged.start(rows), expected, atol=1e-4)


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
