"""Causal attention for training on CPU: blocks of query rows in plain torch, keys of the future and of other pieces
left out. Faster than torch's own CPU kernel, because its matrix products are large ones (measure:
`benchmarks/attention.py`).

Registered with transformers under the name `chunked`, together with its mask function: an attention that is registered
alone gets no mask at all, and padding and packing are silently lost.

In one forward pass every query sees the keys from some first one up to itself: 0 in a plain row, the beginning of the
piece in a packed row, the first real id in a padded row. So the mask is those first keys, (B, T) int64. What does not
fit (cached decoding, custom masks, other devices) goes to the stock `sdpa`, which is equal.

Relative attention (Huang et al., "Music Transformer", 2018, https://arxiv.org/abs/1809.04281) adds to the score of a
query and a key the product of the query with the embedding of their distance. A block multiplies its queries with the
embeddings, farthest first, and `skew` reads the products by key: no tensor (T, T, D), and no copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "chunked"
CHUNK = 128  # query rows of a block
ALIGN = 64  # blocks begin at multiples of it: few shapes, so that oneDNN finds its kernels in the cache
SCORES = 1 << 19  # scores of a block of several batch rows at most, to stay in the L2 cache


def attention_for(device: torch.device | str | None = None) -> str:
    """The attention implementation to train with on a device: `chunked` on CPU, else `sdpa`, which is flash there.

    None means CUDA where there is one, else CPU. For `from_pretrained(..., attn_implementation=...)` and
    `model.set_attn_implementation(...)`.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return NAME if torch.device(device).type == "cpu" else "sdpa"


def chunked_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    relative: torch.Tensor | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: query (B, H, T, D), key and value (B, G, T, D) to (B, T, H, D).

    `attention_mask` is what `chunked_mask` made: None (causal), first keys (B, T), or a stock mask (B, 1, T, S).
    `relative` (H, R, D) are the embeddings of the distances 0 to R - 1; farther keys get none.
    """
    if not _fits(module, query, key, attention_mask, kwargs):
        if _is_first(attention_mask):
            attention_mask = _visible(attention_mask)
        options = {"dropout": dropout, "scaling": scaling, "relative": relative, **kwargs}
        return biased_attention(module, query, key, value, attention_mask, **options)
    groups = getattr(module, "num_key_value_groups", 1)
    query, key, value = (_cast(x) for x in (query, repeat_kv(key, groups), repeat_kv(value, groups)))
    far_first = None
    if relative is not None:
        far_first = _far_first(_cast(relative), min(query.shape[2], relative.shape[1] + CHUNK - 1))
    blocks = _blocks(query, attention_mask)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = _Chunked.apply(query, key, value, far_first, blocks, scale, dropout, torch.is_grad_enabled())
    return out.transpose(1, 2), None


def biased_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    relative: torch.Tensor | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """The same with torch's fused kernel: relative products become an additive bias (B, H, T, S); any stock mask."""
    if relative is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        products = (query * scale) @ _far_first(relative, key.shape[2]).transpose(1, 2).to(query.dtype)
        kwargs["position_bias"] = skew(products).to(query.dtype)
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def chunked_mask(
    batch_size: int, q_length: int, kv_length: int, q_offset: int = 0, kv_offset: int = 0, **kwargs
) -> torch.Tensor | None:
    """The mask for `chunked_attention`, from what transformers gives every mask function."""
    mask = sdpa_mask(batch_size, q_length, kv_length, q_offset, kv_offset, **kwargs)
    if mask is None or mask.device.type != "cpu" or q_length != kv_length or torch.compiler.is_compiling():
        return mask
    real = kwargs.get("attention_mask")
    first = mask[:, 0].to(torch.uint8).argmax(-1)
    same = mask == _visible(first)
    if real is not None:  # what padding sees and answers does not matter
        first = torch.where(real, first, torch.arange(q_length))
        same |= ~real[:, None, :, None]
    return first if same.all() else mask


# --- relative distances ----------------------------------------------------------------------------------------


def skew(products: torch.Tensor) -> torch.Tensor:
    """Products (..., C, W + 1) of C queries with W distances, farthest first and a last column to fill up, as the view
    (..., C, W) by key: the last query stands on the last key. What the future would get is of no meaning."""
    count, width = products.shape[-2], products.shape[-1] - 1
    return products.flatten(-2)[..., count - 1 : -1].unflatten(-1, (count, width))


def unskew(scores: torch.Tensor) -> torch.Tensor:
    """The way back for gradients, (..., C, W) by key to (..., C, W + 1) by distance; 0 where nothing came from."""
    count, width = scores.shape[-2:]
    products = scores.new_empty(*scores.shape[:-1], width + 1)
    flat = products.flatten(-2)
    flat[..., : count - 1] = flat[..., -1:] = 0
    skew(products).copy_(scores)
    return products


def _far_first(relative: torch.Tensor, reach: int) -> torch.Tensor:
    """Embeddings (H, R, D) of distances from 0 on as (H, reach + 1, D): from `reach` - 1 down to 0, and a row of zeros.
    Distances that have no embedding are zeros."""
    known = relative[:, :reach].flip(1)
    return nn.functional.pad(known, (0, 0, reach - known.shape[1], 1))


# --- blocks ----------------------------------------------------------------------------------------------------


def _is_first(mask: torch.Tensor | None) -> bool:
    return mask is not None and mask.dtype == torch.int64


def _fits(module, query, key, mask, options) -> bool:
    """Whether this call is plain causal self-attention over a whole batch on CPU."""
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    special = any(options.get(name) is not None for name in ("position_bias", "softcap", "cache"))
    whole = query.device.type == "cpu" and query.shape[2] == key.shape[2] > 1
    return whole and causal and not special and (mask is None or _is_first(mask))


def _visible(first: torch.Tensor) -> torch.Tensor:
    """First keys (B, T) as a boolean mask (B, 1, T, T)."""
    at = torch.arange(first.shape[1])
    return ((at >= first[..., None]) & (at <= at[:, None]))[:, None]


def _cast(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, in autocast's dtype: rotary embedding leaves queries and keys in fp32."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return x.to(dtype, memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class _Block:
    """Queries [start, stop) of some batch rows, times heads, against the keys from `low` to `stop`."""

    rows: slice
    start: int
    stop: int
    low: int
    hidden: torch.Tensor | None  # bool (rows of the batch, 1, queries, keys): hidden besides the future

    def near(self, far_first: torch.Tensor) -> torch.Tensor:
        """The embeddings (rows, W + 1, D) of the distances that keys of this block have, of (H, reach + 1, D)."""
        heads, reach, _ = far_first.shape
        width = min(self.stop - self.low, reach - 1)
        return far_first[:, reach - 1 - width :].repeat((self.rows.stop - self.rows.start) // heads, 1, 1)


def _blocks(query: torch.Tensor, first: torch.Tensor | None) -> list[_Block]:
    batch, heads, length, _ = query.shape
    together = max(1, SCORES // (heads * length * min(length, CHUNK)))
    blocks = []
    for row in range(0, batch, together):
        rows = slice(row, min(row + together, batch))
        flat = slice(rows.start * heads, rows.stop * heads)
        for start in range(0, length, CHUNK):
            stop = min(start + CHUNK, length)
            low, hidden = _reach(first, rows, start, stop)
            blocks.append(_Block(flat, start, stop, low, hidden))
    return blocks


def _reach(first: torch.Tensor | None, rows: slice, start: int, stop: int) -> tuple[int, torch.Tensor | None]:
    """The first key that a block needs, and which of its keys are hidden from which query."""
    if first is None:
        return 0, None
    first = first[rows, start:stop]
    low, high = (int(x) for x in first.aminmax())
    low -= low % ALIGN
    hidden = torch.arange(low, stop) < first[:, None, :, None] if high > low else None
    return low, hidden


class _Chunked(torch.autograd.Function):
    """Softmax attention over blocks. Keeps the weights of every block, so that backward repeats nothing."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx, query, key, value, far_first, blocks, scale, dropout, keep):
        shape = query.shape
        query, key, value = ((query * scale).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
        out = query.new_empty(*query.shape[:2], value.shape[2])
        future = torch.full((CHUNK, CHUNK), -torch.inf, dtype=query.dtype).triu(1)
        weights, dropped = [], []
        for b in blocks:
            p = torch.bmm(query[b.rows, b.start : b.stop], key[b.rows, b.low : b.stop].transpose(1, 2))
            if far_first is not None:
                products = torch.bmm(query[b.rows, b.start : b.stop], b.near(far_first).transpose(1, 2))
                p[:, :, 1 - products.shape[2] :] += skew(products)
            p[:, :, b.start - b.low :] += future[: b.stop - b.start, : b.stop - b.start]
            if b.hidden is not None:
                p.unflatten(0, (-1, shape[1])).masked_fill_(b.hidden, -torch.inf)
            p = torch.softmax(p, -1)  # in fp32 inside, also for bf16
            drop = torch.empty_like(p).bernoulli_(1 - dropout).div_(1 - dropout) if dropout else None
            used = p if drop is None else p * drop
            out[b.rows, b.start : b.stop] = torch.bmm(used, value[b.rows, b.low : b.stop])
            if keep:
                weights.append(p)
                dropped.append(drop)
        ctx.blocks, ctx.scale, ctx.heads = blocks, scale, shape[1]
        ctx.save_for_backward(query, key, value, far_first, *weights, *dropped)
        return out.unflatten(0, shape[:2])

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, grad):
        query, key, value, far_first, *saved = ctx.saved_tensors
        grad = grad.flatten(0, 1)
        d_query = torch.empty_like(query)
        wide = torch.promote_types(key.dtype, torch.float32)  # sums over many blocks
        d_key, d_value = torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
        d_far = None if far_first is None else torch.zeros_like(far_first, dtype=wide)
        count = len(ctx.blocks)
        for b, p, drop in zip(ctx.blocks, saved[:count], saved[count:], strict=True):
            queries, keys = (b.rows, slice(b.start, b.stop)), (b.rows, slice(b.low, b.stop))
            d_out = grad[queries]
            used = p if drop is None else p * drop
            d_value[keys] += torch.bmm(used.transpose(1, 2), d_out)
            d_used = torch.bmm(d_out, value[keys].transpose(1, 2))
            d_p = d_used if drop is None else d_used.mul_(drop)
            d_scores = torch.ops.aten._softmax_backward_data(d_p, p, -1, p.dtype)
            d_key[keys] += torch.bmm(d_scores.transpose(1, 2), query[queries])
            d_query[queries] = torch.bmm(d_scores, key[keys])
            if far_first is not None:
                near = b.near(far_first)
                products = unskew(d_scores[:, :, 1 - near.shape[1] :])
                d_query[queries] += torch.bmm(products, near)
                d_near = torch.bmm(products.transpose(1, 2), query[queries])
                d_far[:, -near.shape[1] :] += d_near.unflatten(0, (-1, ctx.heads)).sum(0)
        grads = (d_query.mul_(ctx.scale), d_key.to(key.dtype), d_value.to(value.dtype))
        d_far = None if d_far is None else d_far.to(far_first.dtype)
        return *(x.unflatten(0, (-1, ctx.heads)) for x in grads), d_far, None, None, None, None


AttentionInterface.register(NAME, chunked_attention)
AttentionMaskInterface.register(NAME, chunked_mask)
