"""What a model makes of music that is there already: how well it expects it, and the state that it leaves it in."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np

from ...progress import Progress, Reporter, unheard
from ..data.corpus import IGNORED, EvaluationRows
from ..music.score import Score
from ..tokenizers import Tokenizer
from .likeness import ratio

PLACES = 4  # parts of a row
BATCH = 4  # rows that go through the model at once


def likelihood(model, rows: EvaluationRows, tokenizer: Tokenizer, *, report: Reporter = unheard) -> dict:
    """Nats per token, note and second of music over all rows, by kind of token and by place in the row."""
    nats, counts = np.zeros((PLACES, tokenizer.vocab_size)), np.zeros((PLACES, tokenizer.vocab_size))
    length = len(rows[0]["input_ids"])
    for start in range(0, len(rows), BATCH):
        loss, labels, position = _losses(model, [rows[i] for i in range(start, min(start + BATCH, len(rows)))])
        place = (position * PLACES // length, labels)
        np.add.at(nats, place, loss)
        np.add.at(counts, place, 1)
        report(Progress(min(start + BATCH, len(rows)) / len(rows), "likelihood"))
    units = {"token": counts.sum(), "note": rows.notes, "second": rows.seconds}
    kinds = [kind_of(word) for word in tokenizer.words]
    names = list(dict.fromkeys(kinds))
    which = np.array([names.index(kind) for kind in kinds])
    nats, counts = (np.stack([np.bincount(which, row) for row in table]) for table in (nats, counts))
    mixed = same_mix(nats, counts)
    return {
        **{f"nats_per_{unit}": ratio(nats.sum(), amount) for unit, amount in units.items()},
        **{"tokens": int(counts.sum()), "notes": rows.notes, "seconds": round(rows.seconds, 1)},
        **{"rows": len(rows), "max_seq_len": length},
        "by_kind": {
            name: {"tokens": int(count)} | {"nats_per_token": spent / count, "nats_per_note": ratio(spent, rows.notes)}
            for name, spent, count in zip(names, nats.sum(0).tolist(), counts.sum(0).tolist(), strict=True)
            if count
        },
        "by_place": [
            {"from": part * length // PLACES, "tokens": int(counts[part].sum())}
            | {"nats_per_token": ratio(nats[part].sum(), counts[part].sum()), "nats_in_same_mix": mixed[part]}
            for part in range(PLACES)
        ],
    }


def same_mix(nats: np.ndarray, counts: np.ndarray) -> list[float | None]:
    """Nats per token of each place, had it the kinds of token in the shares of the whole: nats and counts (P, K) to P.

    Otherwise a place would look hard because tempos stand there and not because little came before. A kind that a place
    has not counts as in the whole.
    """
    whole, tokens = nats.sum(0) / np.maximum(counts.sum(0), 1), counts.sum(0)
    each = np.where(counts > 0, nats / np.maximum(counts, 1), whole)
    mixed = [ratio(spent, tokens.sum()) for spent in each @ tokens]
    return [value if count else None for value, count in zip(mixed, counts.sum(1), strict=True)]


def kind_of(word: str) -> str:
    """What a token tells: "pitch" of Pitch_60, "note on" of NOTE_ON_60, "eos" of EOS."""
    return (word.rpartition("_")[0] or word).replace("_", " ").lower()


def _losses(model, rows: Sequence[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats, id and place in the row of every id that is to be learned, of a batch of rows: (N,) each."""
    import torch

    labels = np.stack([row["labels"] for row in rows])[:, 1:]
    with torch.inference_mode():
        logits = _forward(model, rows).logits[:, :-1].float()
        labels = labels[:, : logits.shape[1]]
        target = torch.as_tensor(labels, device=logits.device)
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, ignore_index=IGNORED, reduction="none")
    row, at = np.nonzero(labels != IGNORED)
    return loss.cpu().numpy()[row, at].astype(np.float64), labels[row, at], at + 1


def _forward(model, rows: Sequence[dict], **options):
    """What the model answers to a batch of rows, cut to the longest; positions begin anew with each piece in a row."""
    import torch

    used = max(int(np.flatnonzero(row["labels"] != IGNORED)[-1]) + 1 for row in rows)
    inputs = {name: np.stack([row[name][:used] for row in rows]) for name in ("input_ids", "position_ids")}
    inputs = {name: torch.as_tensor(value, device=model.device) for name, value in inputs.items()}
    accepted = inspect.signature(model.forward).parameters
    options |= {name: value for name, value in (inputs | {"use_cache": False}).items() if name in accepted}
    return model(**options)


def hidden_state(model, tokenizer: Tokenizer, length: int, score: Score) -> np.ndarray:
    """The mean over all ids of a score of the model's last hidden state: (width,) float64."""
    import torch

    rows, total, count = EvaluationRows([score], tokenizer, length), 0.0, 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        with torch.inference_mode():
            hidden = _forward(model, batch, output_hidden_states=True).hidden_states[-1].cpu().double().numpy()
        told = np.stack([row["labels"][: hidden.shape[1]] for row in batch]) != IGNORED
        total, count = total + hidden[told].sum(axis=0), count + int(told.sum())
    return total / count
