"""Takes on the way: what the adapter plays so far, always the same songs' prompts and the same seeds.

The pipeline's own call plays them, so that they sound as they will later. Their prompts were encoded when the tensors
were made: neither text encoder nor condition encoder need be in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import AceStepPipeline

from ..wave import Audio
from .pipeline import playing_defaults

if TYPE_CHECKING:
    from diffusers import AceStepTransformer1DModel

    from .tensors import Tensors


class _Encoded(torch.nn.Module):
    """In the place of the condition encoder: what it once answered."""

    def __init__(self, tensors: Tensors, song: int, device: str, dtype: torch.dtype):
        super().__init__()
        self.device, self.dtype = torch.device(device), dtype
        self.told = tensors.condition(song)[None].to(device, dtype)
        self.silence_latent = tensors.shared["silence_latent"][None].to(device, dtype)
        self.null_condition_emb = tensors.shared["null_condition"][None].to(device, dtype)

    def forward(self, **given) -> tuple[torch.Tensor, None]:
        return self.told, None


class _Player(AceStepPipeline):
    """The pipeline without encoders."""

    def encode_prompt(self, **given) -> tuple[None, None, None, None]:
        return None, None, None, None


def play(
    transformer: AceStepTransformer1DModel, vae, scheduler, tensors: Tensors, *, song: int, seconds: float, seed: int
) -> Audio:
    """Play the prompt of a song of the tensors for some seconds, with whatever adapter the transformer has."""
    device, dtype = str(transformer.device), transformer.dtype
    encoded = _Encoded(tensors, song, device, dtype)
    pipe = _Player(vae, None, None, transformer, encoded, scheduler)
    pipe.set_progress_bar_config(disable=True)
    defaults = playing_defaults(pipe)
    with torch.no_grad():
        samples = pipe(
            prompt="",
            lyrics="",
            audio_duration=seconds,
            num_inference_steps=defaults["steps"],
            guidance_scale=defaults["guidance"],
            shift=defaults["shift"],
            generator=torch.Generator().manual_seed(seed),
        ).audios
    return Audio(samples[0].float().T.cpu().numpy(), pipe.sample_rate)
