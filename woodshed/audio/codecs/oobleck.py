"""The autoencoder of Stable Audio and ACE-Step (diffusers' AutoencoderOobleck), from a folder or an id of Hugging Face.

It has learned a great deal of music and is used as it is: `woodshed audio codec train --kind oobleck --base FOLDER`
only measures how far its latents spread over your recordings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, MissingExtra, RunError, first_line
from ...files import local, object_in, seen_from, write_object
from ...jobs import quiet
from ..wave import Audio
from . import FACTS, fingerprint, fitting, whole_frames
from ._settings import SIZES, CodecSettings, refuse_sizes

MODEL, FOLDERS = "AutoencoderOobleck", ("", "vae")  # in itself, or inside a pipeline
BLOCK, MARGIN = 500, 25  # latent frames decoded at once, and those around them that have a say


class OobleckCodec:
    """See Codec in this package. Latents are means of the model's distribution, standardised by `mean` and `spread`."""

    kind = "oobleck"
    network = None  # nothing here is trained

    def __init__(self, model, base: str, facts: dict):
        self.model, self.base, self.about = model.eval().requires_grad_(False), base, {}
        self.sample_rate, self.hop_length = model.sampling_rate, model.hop_length
        self.channels, self.latent_dim = model.config.audio_channels, model.config.decoder_input_channels
        self.latent_rate = self.sample_rate / self.hop_length
        self.mean = np.array(facts.get("mean", [0.0] * self.latent_dim), np.float32)
        self.spread = np.array(facts.get("spread", [1.0] * self.latent_dim), np.float32)
        weights = [tensor.detach().float().cpu().numpy().tobytes() for tensor in model.state_dict().values()]
        self._weights = fingerprint(*weights)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self._weights, self.mean.tobytes(), self.spread.tobytes())

    @property
    def device(self) -> torch.device:
        return self.model.device

    @torch.no_grad()
    def encode(self, audio: Audio) -> np.ndarray:
        """(frames, latent_dim) float32, standardised: a frame for every hop_length samples that are begun."""
        samples = whole_frames(audio, self)
        if not samples.size:
            return np.zeros((0, self.latent_dim), np.float32)
        latents = self._encode(torch.from_numpy(samples)[None].to(self.device))[0].T.cpu().numpy()
        return (latents - self.mean) / self.spread

    @torch.no_grad()
    def decode(self, latents: np.ndarray) -> Audio:
        """The sound of latents (frames, latent_dim): frames * hop_length samples. Raises InputError."""
        latents = torch.from_numpy(fitting(latents, self) * self.spread + self.mean).T[None].to(self.device)
        pieces, frames = [np.zeros((0, self.channels), np.float32)], latents.shape[2]
        for first in range(0, frames, BLOCK):
            start, last = max(first - MARGIN, 0), min(first + BLOCK, frames)
            sound = self.model.decode(latents[:, :, start : last + MARGIN]).sample[0].T.float().cpu().numpy()
            pieces.append(sound[(first - start) * self.hop_length :][: (last - first) * self.hop_length])
        return Audio(np.concatenate(pieces), self.sample_rate)

    def to(self, device: str) -> None:
        """Encode and decode on another device."""
        self.model.to(device)

    def start_from(self, samples: Tensor) -> None:
        """Nothing: what it knows stays as it is."""

    def standardise(self, samples: Tensor) -> None:
        """Set mean and spread of the latents to those of samples (count, channels, n)."""
        with torch.no_grad():
            latents = torch.cat([self._encode(one[None])[0].T for one in samples]).cpu().numpy()
        self.mean, self.spread = latents.mean(axis=0), np.maximum(latents.std(axis=0), 1e-4)

    def _encode(self, samples: Tensor) -> Tensor:
        return self.model.encode(samples).latent_dist.mode().float()

    def save(self, folder: Path) -> None:
        """Write codec.json: where the model is, and how far its latents spread."""
        base = seen_from(folder, self.base) if Path(self.base).is_dir() else self.base
        facts = {"kind": self.kind, "base": base, **self.about, "fingerprint": self.fingerprint}
        spread = {"mean": self.mean.tolist(), "spread": self.spread.tolist()}
        write_object(folder / FACTS, facts | spread)


def begin(settings: CodecSettings) -> OobleckCodec:
    """The model that `base` names."""
    if not settings.base:
        raise InputError("--kind oobleck needs --base: a diffusers folder with an AutoencoderOobleck, or its id")
    codec = load(settings.base, fetch=not settings.resume)
    refuse_sizes(settings, {name: getattr(codec, name) for name in SIZES if hasattr(codec, name)})
    return codec


def recognises(place: str) -> bool:
    """Whether this is a folder with an AutoencoderOobleck, a codec.json that leads to one, or an id."""
    folder = Path(place)
    if folder.exists():
        return object_in(folder / FACTS).get("kind") == "oobleck" or _model_folder(folder) is not None
    return place.count("/") == 1 and not place.startswith((".", "/", "~"))


def load(place: str, *, fetch: bool = False) -> OobleckCodec:
    """Open a codec's folder, a diffusers folder or an id, which `fetch` downloads; never one that a codec.json names.

    Raises RunError where there is no such model.
    """
    facts = object_in(Path(place) / FACTS)
    base = facts.get("base", "")
    base = str(local(place, base) or base)
    fetch, base = fetch and not base, base or place
    codec = OobleckCodec(_model(base, fetch=fetch), base, facts)
    if facts and codec.fingerprint != facts.get("fingerprint"):
        raise RunError(place, f"{base} is not the model it was made with; give the folder its old model back")
    return codec


def _model(base: str, *, fetch: bool):
    try:
        from diffusers import AutoencoderOobleck
    except ImportError:
        if Path(base).exists():
            raise MissingExtra("diffusers", "ace-step") from None
        raise RunError(base, f"there is no such folder; for an id: {MissingExtra('diffusers', 'ace-step')}") from None
    try:
        with quiet("diffusers"):
            if Path(base).exists():
                return AutoencoderOobleck.from_pretrained(_model_folder(Path(base)) or base)
            return AutoencoderOobleck.from_pretrained(
                base, subfolder=_subfolder(base, fetch=fetch), local_files_only=not fetch
            )
    except (OSError, ValueError) as error:
        if not fetch and not Path(base).exists():
            told = "there is no such folder, and no model of that id on this machine"
            raise RunError(base, f"{told}; if you trust it: hf download {base}") from None
        there = "" if Path(base).exists() else "there is no such folder; as an id of Hugging Face: "
        raise RunError(base, f"{there}no {MODEL} can be opened there: {first_line(error)}") from None


def _subfolder(name: str, *, fetch: bool) -> str | None:
    """Where the model stands in a repository of Hugging Face: "vae" in a pipeline's."""
    from diffusers import DiffusionPipeline

    try:
        DiffusionPipeline.load_config(name, local_files_only=not fetch)
    except (OSError, ValueError):
        return None
    return "vae"


def _model_folder(folder: Path) -> Path | None:
    """The folder itself, or vae/ in it, where there is the model's config.json."""
    inside = (folder / name for name in FOLDERS)
    return next((path for path in inside if object_in(path / "config.json").get("_class_name") == MODEL), None)
