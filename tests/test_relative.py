"""Relative attention against its definition, and the state of an LSTM against the whole sequence."""

import pytest
import torch

from woodshed.config import read_fields
from woodshed.errors import InputError
from woodshed.symbolic import models
from woodshed.symbolic.learning.muon import parameter_groups
from woodshed.symbolic.learning.settings import TrainSettings, resolve
from woodshed.symbolic.models import _attention
from woodshed.symbolic.models._attention import attention_for, biased_attention, chunked_attention, skew, unskew
from woodshed.symbolic.models._relative import sinusoids

VOCAB, BATCH, HEADS, DIM = 50, 2, 2, 8
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
RELATIVE = ["music_transformer", "music_gpt2"]
each = pytest.mark.parametrize("name", RELATIVE)
pytestmark = pytest.mark.usefixtures("one_thread")


def naive(query, key, value, relative, first=None):
    """The definition, with every distance's embedding written out, (H, T, S, D): O(T^2 D) memory."""
    count, keys = query.shape[2], key.shape[2]
    distance = torch.arange(keys - count, keys)[:, None] - torch.arange(keys)
    known = (distance >= 0) & (distance < relative.shape[1])
    embeddings = relative[:, distance.clamp(0, relative.shape[1] - 1)] * known[..., None]
    scores = query @ key.transpose(2, 3) + torch.einsum("bhtd,htsd->bhts", query, embeddings)
    hidden = distance < 0
    if first is not None:
        hidden = hidden | (torch.arange(keys) < first[:, None, :, None])
    weights = torch.softmax((scores * query.shape[-1] ** -0.5).masked_fill(hidden, -torch.inf), -1)
    return (weights @ value).transpose(1, 2)


def tensors(length: int, distances: int, dtype=torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    shapes = [(BATCH, HEADS, length, DIM)] * 3 + [(HEADS, distances, DIM)]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def result_and_grads(attend, inputs, **options) -> list[torch.Tensor]:
    out = attend(*inputs, **options)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    grads = [x.grad for x in inputs]
    for x in inputs:
        x.grad = None
    return [out.detach(), *grads]


def chunked(query, key, value, relative, first=None):
    return chunked_attention(torch.nn.Module(), query, key, value, first, relative=relative)[0]


def biased(query, key, value, relative, first=None):
    mask = None if first is None else _attention._visible(first)
    module = torch.nn.Module()
    module.is_causal = True
    return biased_attention(module, query, key, value, mask, relative=relative)[0]


def packed(length: int) -> torch.Tensor:
    """First keys (BATCH, T) of rows of several pieces."""
    at = torch.arange(length)
    return torch.stack([at - at % 90, torch.where(at < length // 3, 0, length // 3)])


@pytest.mark.parametrize("attend", [chunked, biased])
@pytest.mark.parametrize("rows", ["plain", "packed"])
@pytest.mark.parametrize(("length", "distances"), [(5, 5), (128, 40), (300, 300), (300, 130), (300, 1), (200, 350)])
def test_skewed_equals_the_definition(attend, rows, length, distances):
    inputs, first = tensors(length, distances), packed(length) if rows == "packed" else None
    got, expected = (result_and_grads(f, inputs, first=first) for f in (attend, naive))
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5 * max(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("attend", [chunked, biased])
@pytest.mark.parametrize("count", [1, 3])
def test_queries_behind_a_cache_stand_on_the_last_keys(attend, count):
    query, key, value, relative = tensors(40, 25)
    seen = None if count == 1 else torch.ones(count, 40, dtype=torch.bool).tril(40 - count)[None, None]
    module = torch.nn.Module()
    module.is_causal = True
    kind = chunked_attention if attend is chunked else biased_attention
    got, _ = kind(module, query[:, :, -count:], key, value, seen, relative=relative)
    torch.testing.assert_close(got, naive(query[:, :, -count:], key, value, relative), rtol=0, atol=1e-5)


@pytest.mark.parametrize("distances", [3, 9, 20])
def test_gradients_are_those_of_finite_differences(monkeypatch, distances):
    monkeypatch.setattr(_attention, "CHUNK", 4)
    monkeypatch.setattr(_attention, "ALIGN", 2)
    query, key, value, relative = (x[..., :2].detach() for x in tensors(9, distances, torch.float64))
    inputs = [x.requires_grad_() for x in (query, key, value, relative)]
    assert torch.autograd.gradcheck(lambda *x: chunked(*x, first=torch.tensor([[0] * 4 + [4] * 5, [0] * 9])), inputs)


def test_skewing_copies_nothing_and_unskewing_is_its_transpose():
    products, scores = torch.randn(3, 4, 8), torch.randn(3, 4, 7)
    assert skew(products).data_ptr() == products[0, 0, 3:].data_ptr()
    torch.testing.assert_close((skew(products) * scores).sum(), (products * unskew(scores)).sum())


@pytest.mark.parametrize("distances", [30, 300])
def test_memory_is_no_tensor_of_length_times_length_times_width(distances):
    """The largest tensor of forward and backward is that of the scores of a block."""
    inputs = tensors(512, distances)
    with torch.profiler.profile(profile_memory=True) as profile:
        result_and_grads(chunked, inputs)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest <= 3 * BATCH * HEADS * 512 * 512 * 4  # all weights at once; times DIM it would be 8


def test_bf16_autocast_stays_near_fp32():
    inputs = [x.detach() for x in tensors(300, 300)]
    exact = naive(*inputs)
    errors = []
    for attend in (chunked, biased):
        with torch.autocast("cpu", torch.bfloat16):
            errors.append(float((attend(*(x.bfloat16() for x in inputs)).float() - exact).abs().mean()))
    assert 0 < errors[0] < 2 * errors[1] < 0.02  # the products with the distances are rounded too


def make(name: str, **overrides):
    torch.manual_seed(0)
    return models.make(name, size="2m", vocab_size=VOCAB, max_seq_len=160, **SMALL | overrides).eval()


@each
@pytest.mark.parametrize("distance", [1, 20, 160])
def test_whole_models_are_equal_with_either_attention(name, distance):
    model = make(name, max_relative_distance=distance, initializer_range=0.1)
    ids = torch.randint(3, VOCAB, (2, 150), generator=torch.Generator().manual_seed(1))
    logits = []
    for kind in (attention_for("cpu"), "sdpa", "eager"):
        model.set_attn_implementation(kind)
        logits.append(model(ids).logits)
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=2e-5)
    torch.testing.assert_close(logits[0], logits[2], rtol=0, atol=2e-5)


@each
def test_order_matters_and_only_by_distance(name):
    """Swapped ids are heard by a later one; without sinusoids, where a piece begins is not."""
    model = make(name, initializer_range=0.3)
    ids = torch.randint(3, VOCAB, (1, 30), generator=torch.Generator().manual_seed(1))
    swapped = ids[:, [4, 3, 2, 1, 0, *range(5, 30)]]
    assert not torch.allclose(model(ids).logits[:, -1], model(swapped).logits[:, -1], atol=1e-3)
    moved = model(ids, position_ids=torch.arange(30)[None] + 7).logits
    assert torch.allclose(model(ids).logits, moved, atol=1e-5) == (not model.config.sinusoids)


def test_sinusoids_turn_with_the_position():
    waves = sinusoids(torch.tensor([[0, 1, 5]]), 16)
    assert waves.shape == (1, 3, 16)
    torch.testing.assert_close(waves[..., :8] ** 2 + waves[..., 8:] ** 2, torch.ones(1, 3, 8))
    torch.testing.assert_close(waves[0, :, 0], torch.tensor([0.0, 1.0, 5.0]).sin())
    torch.testing.assert_close(waves[0, 2, 7], torch.tensor(5e-4).sin())


@each
def test_what_cannot_work_is_told_before_any_work(name):
    sizes = {"size": "2m", "vocab_size": VOCAB}
    with pytest.raises(InputError, match="max_relative_distance 513: the context is 512 ids"):
        models.make(name, **sizes, max_seq_len=512, max_relative_distance=513)
    with pytest.raises(InputError, match="max_relative_distance 3500: the context is 100 ids"):
        models.make(name, **sizes, max_seq_len=4000, max_position_embeddings=100, max_relative_distance=3500)
    with pytest.raises(InputError, match="max_relative_distance 0"):
        models.make(name, **sizes, max_seq_len=512, max_relative_distance=0)
    with pytest.raises(InputError, match="hidden_size 100: choose an even multiple of num_attention_heads, 7"):
        models.make(name, **sizes, max_seq_len=512, hidden_size=100, num_attention_heads=7)
    with pytest.raises(InputError, match=f"{name} has no setting 'relative_distance'.*max_relative_distance"):
        models.make(name, **sizes, max_seq_len=512, relative_distance=3)
    with torch.device("meta"):
        model = models.make(name, **sizes, max_seq_len=4096, max_relative_distance=3500)
    assert model.layers[0].attention.distances.shape[1] == 3500


PUBLISHED = [
    ("lstm", "6m", (512, 3, None)),
    ("music_transformer", "15m", (512, 6, 8)),
    ("music_gpt2", "30m", (512, 8, 16)),
]


@pytest.mark.parametrize(("name", "size", "shape"), PUBLISHED)
def test_published_sizes_are_there(name, size, shape):
    with torch.device("meta"):
        config = models.make(name, size=size, vocab_size=388, max_seq_len=2000).config
    found = config.hidden_size, config.num_hidden_layers, getattr(config, "num_attention_heads", None)
    assert found == shape


@pytest.mark.parametrize("name", [*RELATIVE, "lstm"])
def test_sizes_are_what_they_are_called(name):
    for size in models.sizes(name):
        with torch.device("meta"):
            model = models.make(name, size=size, vocab_size=650, max_seq_len=1024)
        assert model.num_parameters() == pytest.approx(float(size[:-1]) * 1e6, rel=0.12)


@each
def test_the_recipe_of_a_model_is_a_preset_of_its_name(name):
    settings = resolve(TrainSettings(model=name, base=None, preset=name))
    asked = read_fields(settings.training_args, None, "")
    more = read_fields(settings.model_args, None, "")
    assert asked["optim"] == "adamw_torch" and "weight_decay" not in asked
    if name == "music_gpt2":
        assert (settings.learning_rate, settings.warmup, asked["lr_scheduler_type"]) == (1e-4, 0, "constant")
    assert make(name, **more).config.dropout == more.get("dropout", 0)


@each
def test_muon_orthogonalises_no_distances(name):
    model = make(name)
    matrices = [group for group in parameter_groups(model, 0.1) if group.get("matrices")]
    inner = {id(weight) for group in matrices for weight in group["params"]}
    for parameter_name, parameter in model.named_parameters():
        expected = parameter_name.startswith("layers") and parameter.ndim == 2
        assert (id(parameter) in inner) == expected, parameter_name


# --- lstm ------------------------------------------------------------------------------------------------------


def make_lstm():
    torch.manual_seed(0)
    return models.make("lstm", size="2m", vocab_size=VOCAB, max_seq_len=160, hidden_size=64).eval()


@torch.no_grad()
def test_a_state_carried_equals_the_whole_sequence():
    model = make_lstm()
    ids = torch.randint(3, VOCAB, (2, 60), generator=torch.Generator().manual_seed(1))
    state, logits = None, []
    for start, stop in ((0, 1), (1, 20), (20, 21), (21, 60)):
        out = model(ids[:, start:stop], past_key_values=state, use_cache=True)
        state = out.past_key_values
        assert state.get_seq_length() == stop
        logits.append(out.logits)
    torch.testing.assert_close(torch.cat(logits, 1), model(ids).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_state_begins_anew_where_positions_do():
    model = make_lstm()
    ids = torch.randint(3, VOCAB, (2, 12), generator=torch.Generator().manual_seed(1))
    state = model(ids[:, :6], use_cache=True).past_key_values
    positions = torch.tensor([[6, 7, 8, 0, 1, 2], [0, 1, 0, 0, 1, 2]])
    got = model(ids[:, 6:], position_ids=positions, past_key_values=state).logits
    torch.testing.assert_close(got[:1, :3], model(ids[:1]).logits[:, 6:9], rtol=0, atol=1e-5)
    pieces = [(0, 3, 6), (1, 0, 2), (1, 2, 3), (1, 3, 6)]
    for row, start, stop in pieces:
        alone = model(ids[row : row + 1, 6 + start : 6 + stop]).logits
        torch.testing.assert_close(got[row : row + 1, start:stop], alone, rtol=0, atol=1e-5)


def test_an_lstm_stays_in_fp32_under_autocast():
    model = make_lstm()
    ids = torch.randint(3, VOCAB, (2, 12), generator=torch.Generator().manual_seed(1))
    exact = model(ids, output_hidden_states=True).hidden_states
    with torch.autocast("cpu", torch.bfloat16):
        got = model(ids, output_hidden_states=True)
    for mine, theirs in zip(got.hidden_states, exact, strict=True):
        assert torch.equal(mine, theirs)
    assert got.logits.dtype == torch.bfloat16
