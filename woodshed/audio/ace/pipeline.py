"""The ACE-Step pipeline of diffusers: opened whole or in parts, told apart by its weights, and what it hears and reads.

    pipe = open_pipeline("ACE-Step/acestep-v15-xl-turbo-diffusers", device="cuda")      an id, or a folder
    pipe(prompt="slow waltz for piano", lyrics="[Instrumental]", audio_duration=30)

No code of a model repository is run: all classes are those of diffusers (>= 0.40) and transformers.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FileError, InputError, MissingExtra, RunError, first_line
from ...files import parsed, read_object
from ...jobs import enough_memory, find_device, quiet

if TYPE_CHECKING:
    import torch
    from diffusers import AceStepPipeline

PARTS = ("vae", "text_encoder", "tokenizer", "transformer", "condition_encoder")
OPTIONAL = ("audio_tokenizer", "audio_token_detokenizer")  # covers need them
ENCODERS = ("vae", "text_encoder", "condition_encoder")  # what tensors depend on
STATES = ("text", "text_mask", "lyric", "lyric_mask")  # what encode_prompt answers
REFERENCE_SECONDS = 30  # of silence, which stand for "no reference audio" where the model plays
SAMPLES, SAMPLE_BYTES = 16, 256  # of every weight, for a fingerprint
MOST_TOKENS = {"prompt": 256, "lyrics": 2048}  # that encode_prompt reads; what comes after them it leaves out
LAST_WORDS = 40  # characters of what is read of a text that is too long

# how ACE-Step's own page plays, https://github.com/ace-step/ACE-Step-1.5
TURBO = {"steps": 8, "guidance": 1.0, "shift": 3.0}
OTHERS = {"steps": 50, "guidance": 7.0, "shift": 1.0}


def open_pipeline(
    base: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    parts: Sequence[str] | None = None,
) -> AceStepPipeline:
    """Open ACE-Step from a folder in the layout of diffusers, or a Hugging Face id.

    `dtype`: float32 where nothing is said. `parts`: load only these components (of PARTS and OPTIONAL), the others are
    None, so that a long job needs the memory of one thing at a time.
    Raises InputError where there is no such pipeline, MissingExtra without diffusers.
    """
    import torch

    kind = _pipeline_class()
    from safetensors import SafetensorError

    folder = base_folder(base)
    left_out = {} if parts is None else {name: None for name in PARTS + OPTIONAL if name not in parts}
    with quiet("diffusers", "transformers"):
        try:
            pipe = kind.from_pretrained(folder, torch_dtype=dtype or torch.float32, **left_out)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise RunError(base, f"its parts cannot be loaded ({first_line(error)})") from None
    for name in PARTS if parts is None else parts:
        if getattr(pipe, name, None) is None and name not in OPTIONAL:
            raise RunError(base, f"it has no {name}; choose a complete ACE-Step pipeline")
    pipe.set_progress_bar_config(disable=True)
    if pipe.vae is not None:
        pipe.vae.enable_tiling()
    with enough_memory("for the weights of the base", "close what else uses the card, or add --device cpu"):
        return pipe.to(device)


def playing_defaults(pipe: AceStepPipeline) -> dict[str, float]:
    """Steps, guidance and shift for a model, where nothing else is asked for."""
    return TURBO if pipe.is_turbo else OTHERS


def chosen_device(name: str) -> tuple[str, torch.dtype]:
    """A device by its name (auto, cpu, cuda) and the dtype to compute in there: bfloat16 on a GPU, as ACE-Step plays,
    float32 on a CPU. An InputError where this machine has none of that name.
    """
    import torch

    device = find_device(name)
    return device, torch.float32 if device == "cpu" else torch.bfloat16


def base_folder(base: str | Path) -> Path:
    """Where the files of a base lie: the folder itself, or the cache of a Hugging Face id, downloaded where it must be.

    Raises InputError where there is neither, or it is no ACE-Step pipeline.
    """
    folder = Path(base)
    if not folder.is_dir():
        if folder.is_absolute() or str(base).startswith(".") or str(base).count("/") != 1:
            raise InputError(f"--base {base}: there is no such folder; give one, or a Hugging Face id (owner/name)")
        kind = _pipeline_class()
        with quiet("diffusers", "transformers"):
            try:
                folder = Path(kind.download(str(base)))
            except (OSError, ValueError) as error:
                remedy = "check the id and the network, or give a folder"
                raise InputError(
                    f"--base {base} cannot be had from Hugging Face ({first_line(error)}); {remedy}"
                ) from None
    index = folder / "model_index.json"
    try:
        kind = read_object(index).get("_class_name")
    except (OSError, ValueError):
        raise InputError(f"--base {base}: it holds no model_index.json of a diffusers pipeline") from None
    if kind != "AceStepPipeline":
        raise InputError(f"--base {base}: it is a {kind}; choose an AceStepPipeline")
    return folder


def part_config(base: str | Path, part: str) -> dict[str, Any]:
    """config.json of a part of a base. Raises RunError where it is damaged."""
    try:
        return read_object(base_folder(base) / part / "config.json")
    except (OSError, ValueError) as error:
        raise RunError(base, f"the config.json of its {part} cannot be read ({error}); download it again") from None


def fingerprint(base: str | Path, parts: Sequence[str] = ("transformer",)) -> str:
    """Twelve hex digits over names, shapes and a sample of the values of all weights in some parts of a base.

    Of the transformer it says which base an adapter is for, of the ENCODERS which base tensors are from.
    """
    folder, weights = base_folder(base), {}
    for part in parts:
        files = sorted((folder / part).glob("*.safetensors"))
        if not files:
            raise RunError(base, f"it holds no safetensors of its {part}")
        for file in files:
            weights |= {f"{part}.{name}": about for name, about in _sampled(file)}
    told = json.dumps(sorted(weights.items())).encode()
    return hashlib.sha256(told).hexdigest()[:12]


def timestep_law(base: str | Path) -> tuple[float, float]:
    """Mean and deviation of the logit of the timesteps that a base was trained with; ACE-Step's own by default."""
    config = part_config(base, "transformer")
    return float(config.get("timestep_mu", -0.4)), float(config.get("timestep_sigma", 1.0))


def too_long(pipe: AceStepPipeline, told: dict[str, Any]) -> list[str]:
    """A line for a prompt and for lyrics of which encode_prompt reads the beginning alone, and says nothing.

    `told`: the keywords of encode_prompt that make its texts: prompt, lyrics, vocal_language, audio_duration, ...
    """
    lines = []
    for (name, limit), text in zip(MOST_TOKENS.items(), pipe._format_prompt(**told), strict=True):
        ids = pipe.tokenizer(text).input_ids
        if len(ids) > limit:
            last = " ".join(pipe.tokenizer.decode(ids[:limit])[-LAST_WORDS:].replace("\ufffd", "").split())
            read = f'{name} of {len(ids):,} tokens, of which ACE-Step reads the first {limit:,}, up to "...{last}"'
            lines.append(f"{read}; shorten {'it' if name == 'prompt' else 'them, or cut the song in two'}")
    return lines


def encode_audio(pipe: AceStepPipeline, samples: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    """Latents (frames, dims), float32, of audio (channels, samples) at the pipeline's sample rate.

    The last frame is filled up with silence. Long audio is encoded in overlapping pieces of 30 seconds.
    """
    import torch

    hop = pipe.vae.hop_length
    padded = torch.nn.functional.pad(samples, (0, -samples.shape[-1] % hop))
    with torch.no_grad():
        drawn = pipe.vae.encode(padded[None].to(pipe.device, pipe.vae.dtype)).latent_dist
        noise = torch.randn(drawn.mean.shape, generator=torch.Generator().manual_seed(seed))
        latents = drawn.mean.float() + drawn.std.float() * noise.to(pipe.device)
    return latents[0].T.contiguous().cpu()


def encode_condition(pipe: AceStepPipeline, states: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the transformer is told (tokens, width): the lyrics, no reference audio, the text; nothing of it padding.

    `states`: the answer of the pipeline's encode_prompt for one sample, named by STATES.
    """
    import torch

    encoder = pipe.condition_encoder
    # the pipeline counts frames by its codec, which is not in memory here; they are 25 in each ACE-Step 1.5
    silence = encoder.silence_latent[:, : math.ceil(REFERENCE_SECONDS * pipe.latents_per_second)]
    with torch.no_grad():
        told, mask = encoder(
            text_hidden_states=states["text"].to(pipe.device, encoder.dtype),
            text_attention_mask=states["text_mask"].to(pipe.device),
            lyric_hidden_states=states["lyric"].to(pipe.device, encoder.dtype),
            lyric_attention_mask=states["lyric_mask"].to(pipe.device),
            refer_audio_acoustic_hidden_states_packed=silence.to(pipe.device, encoder.dtype),
            refer_audio_order_mask=torch.zeros(1, dtype=torch.long, device=pipe.device),
        )
    return told[mask].contiguous().cpu()


def _pipeline_class():
    try:
        from diffusers import AceStepPipeline
    except ImportError:
        raise MissingExtra("diffusers", "ace-step") from None
    return AceStepPipeline


def _sampled(file: Path) -> Iterator[tuple[str, list]]:
    """Name, and dtype, shape and a digest of sixteen samples, of every weight in a safetensors file."""
    try:
        with open(file, "rb") as stream:
            size = struct.unpack("<Q", stream.read(8))[0]
            header = parsed(stream.read(size))
            ends = [about["data_offsets"][1] for name, about in header.items() if name != "__metadata__"]
            if stream.seek(0, 2) < 8 + size + max(ends, default=0):
                raise ValueError("it is cut short")
            for name, about in header.items():
                if name == "__metadata__":
                    continue
                first, last = about["data_offsets"]
                spare, digest = max(last - first - SAMPLE_BYTES, 0), hashlib.sha256()
                for k in range(SAMPLES):
                    stream.seek(8 + size + first + spare * k // (SAMPLES - 1))
                    digest.update(stream.read(min(last - first, SAMPLE_BYTES)))
                yield name, [about["dtype"], about["shape"], digest.hexdigest()]
    except (OSError, ValueError, KeyError, struct.error, MemoryError, OverflowError) as error:
        raise FileError(file, f"cannot be read as safetensors ({first_line(error)}); download it again") from None
