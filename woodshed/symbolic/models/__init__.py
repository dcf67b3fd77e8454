"""Models: ids in, logits out; they know no music. One file here is one model; the file name is its name.

A model module offers

- `MODEL`, a class of transformers' PreTrainedModel: causal, with a key-value cache or a state as `past_key_values`
- `SIZES`, a dict whose keys are the names of its sizes
- `make_config(size, vocab_size, *, max_seq_len, **overrides) -> PretrainedConfig`

Importing this package loads no torch; making a model does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import menu
from ...config import refuse_unknown
from ...errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel


def names() -> list[str]:
    """The models there are."""
    return menu.names(__name__)


def sizes(name: str) -> list[str]:
    """The sizes of a model, smallest first."""
    return list(menu.load(__name__, name, "model").SIZES)


def make(name: str, *, size: str, vocab_size: int, max_seq_len: int, **overrides) -> PreTrainedModel:
    """A model with fresh weights from torch's global random state: call `torch.manual_seed` before.

    `max_seq_len` is the longest context in ids; `overrides` are fields of the model's configuration. Raises InputError
    for an unknown model, size or field, and for values of which no model can be made.

    The configuration says `use_cache=False`, since transformers ignores packed rows (restarting `position_ids`)
    wherever a cache is made, and a training forward would make one; `generate` and `make_step` use theirs all the same.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers.activations import ACT2FN

    module = menu.load(__name__, name, "model")
    if size not in module.SIZES:
        raise InputError(f"{name} has no size {size!r}; choose from: {', '.join(module.SIZES)}")
    refuse_unknown(overrides, module.MODEL.config_class, name)
    for field, value in overrides.items():
        least = int(field.endswith("_size") or field.startswith("num_"))
        if isinstance(value, int | float) and value < least:
            raise InputError(f"{name} with {field}={value}: give {least} or more")
    if (activation := str(overrides.get("hidden_act", "relu"))) not in ACT2FN:
        raise InputError(f"{name} with hidden_act={activation}: choose from: {', '.join(sorted(ACT2FN))}")
    try:
        model = module.MODEL(module.make_config(size, vocab_size, max_seq_len=max_seq_len, **overrides))
    except (StrictDataclassError, ValueError, TypeError, ArithmeticError) as error:
        if not overrides:
            raise
        told = ", ".join(f"{field}={value}" for field, value in overrides.items())
        raise InputError(f"{name} with {told}: {str(error).splitlines()[-1].strip()}") from None
    model.config.use_cache = False
    model.generation_config.use_cache = True
    return model


def share_features(model: PreTrainedModel, features: np.ndarray) -> None:
    """Let the ids of a fresh model begin alike where they share features, (vocab_size, F) of 0 and 1.

    Every feature gets a random direction that is added to the embeddings of its ids. The architecture stays what it
    is; only its first weights know that some ids have to do with each other. Drawn from torch's global random state.
    """
    import torch

    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        directions = torch.randn(features.shape[1], weight.shape[1]) * model.config.initializer_range
        weight += torch.as_tensor(features, dtype=weight.dtype) @ directions
