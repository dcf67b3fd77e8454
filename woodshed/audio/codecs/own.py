"""The codec that is learned from the user's own recordings: spectra as latents, phases by a learned head.

Sound (at the loudness of codecs) -> a spectrum of windows of 46 ms, a quarter apart -> the square roots of its
magnitudes -> latents, of which the last `side_dim` tell the stereo image. Decoding gives magnitudes; a head tells how
phases move in them; the stereo image sets the two channels apart.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import FileError, InputError, RunError, first_line
from ...files import object_in, write_file, write_object
from ...jobs import fast_bf16
from ..tensor_files import serialized
from ..wave import Audio
from . import FACTS, WEIGHTS, fingerprint, fitting, whole_frames
from ._network import Magnitudes, principal, spectral_error
from ._phase import Integrator, PhaseHead, Stft, griffin_lim, refined
from ._settings import CodecSettings, refuse_sizes
from ._stereo import BANDS, apart, image, to_bands

WINDOW = 0.0464  # seconds: 2048 samples at 44.1 kHz
OVERLAP = 4
HEARD = 16000.0  # Hz, below which the phase head looks
KEPT_SMALL = 1e-4  # weight of the latents' power in the loss
HEADS, FRAMES = 4, 64  # crops of a batch, and frames of each, from which the phase head learns
FAINT, MOST_LIFT = 1e-4, 4.0  # power of a bin that is as good as silent; what its power may be multiplied by
BLOCK, MARGIN = 512, 24  # latent frames decoded at once, and those around them that have a say


@dataclass(frozen=True)
class Shape:
    """What is fixed when a codec begins."""

    sample_rate: int
    channels: int
    size: int  # samples of a window
    ratio: int  # windows to a latent frame
    latent_dim: int
    side_dim: int  # 0 for mono
    width: int
    depth: int

    @property
    def hop(self) -> int:
        return self.size // OVERLAP


class Network(nn.Module):
    """All that is learned, from samples to latents that are standardised and back to a spectrum."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.stft = Stft(shape.size, shape.hop)
        self.magnitudes = Magnitudes(
            self.stft.bins, shape.ratio, shape.latent_dim - shape.side_dim, shape.width, shape.depth
        )
        self.head = PhaseHead()
        self.heard = min(self.stft.bins, round(self.stft.size * HEARD / shape.sample_rate))
        self.register_buffer("bands", to_bands(self.stft.bins, shape.sample_rate), persistent=False)
        self.register_buffer("side_mean", torch.tensor([0.0, 1.0]).repeat_interleave(BANDS)[:, None])
        self.register_buffer("side", torch.zeros(shape.side_dim, 2 * BANDS))
        self.register_buffer("lift", torch.ones(self.stft.bins, 1))
        self.register_buffer("latent_mean", torch.zeros(shape.latent_dim))
        self.register_buffer("latent_spread", torch.ones(shape.latent_dim))

    def look(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Samples (batch, channels, n) to roots (batch, bins, frames), the complex mean and the stereo image."""
        spectrum = self.stft(samples)
        roots = spectrum.abs().square().mean(1).sqrt().sqrt()
        told = image(spectrum[:, 0], spectrum[:, 1], self.bands, self.shape.ratio) if self.shape.side_dim else None
        return roots, spectrum.mean(1), told

    def encode(self, samples: Tensor) -> Tensor:
        """Samples (batch, channels, n) to latents (batch, dim, n / hop_length), not yet standardised."""
        roots, _, told = self.look(samples)
        latents = self.magnitudes.encode(roots)
        return latents if told is None else torch.cat([latents, self.side @ (told - self.side_mean)], dim=1)

    def roots(self, latents: Tensor) -> Tensor:
        """Latents (batch, dim, frames) to square roots of magnitudes (batch, bins, frames * ratio)."""
        return self.magnitudes.decode(latents[:, : self.shape.latent_dim - self.shape.side_dim])

    def magnitude(self, latents: Tensor) -> Tensor:
        """Magnitudes (batch, bins, frames * ratio), each bin lifted to the power that it has in recordings: the nearest
        guess of what is not known is too soft."""
        return (self.roots(latents).clamp(min=0) * self.lift).square()

    def differences(self, magnitude: Tensor) -> list[Tensor]:
        """What the head tells of magnitudes (batch, bins, frames): ahead and across; of what nobody hears, nothing."""
        found = self.head(magnitude[:, : self.heard])
        return [F.pad(part, (0, 0, 0, magnitude.shape[1] - self.heard)) for part in found]

    def told(self, latents: Tensor) -> Tensor:
        """The stereo image (batch, 2 * BANDS, frames * ratio) that latents tell."""
        told = self.side.T @ latents[:, -self.shape.side_dim :] + self.side_mean
        return F.interpolate(told, scale_factor=self.shape.ratio, mode="linear")


class OwnCodec:
    """See Codec in this package. `network` is what is trained; `about` goes into codec.json."""

    kind = "own"

    def __init__(self, network: Network, about: dict | None = None):
        self.network, self.about, shape = network.eval(), about or {}, network.shape
        self.sample_rate, self.channels, self.latent_dim = shape.sample_rate, shape.channels, shape.latent_dim
        self.hop_length = shape.hop * shape.ratio
        self.latent_rate = self.sample_rate / self.hop_length

    @property
    def fingerprint(self) -> str:
        return fingerprint(json.dumps(dataclasses.asdict(self.network.shape)), self._weights())

    @property
    def device(self) -> torch.device:
        return self.network.latent_mean.device

    @torch.no_grad()
    def encode(self, audio: Audio) -> np.ndarray:
        """(frames, latent_dim) float32, standardised: a frame for every hop_length samples that are begun."""
        samples = whole_frames(audio, self)
        if not samples.size:
            return np.zeros((0, self.latent_dim), np.float32)
        latents = self.network.encode(torch.from_numpy(samples)[None].to(self.device))[0].T
        return ((latents - self.network.latent_mean) / self.network.latent_spread).cpu().numpy()

    def decode(self, latents: np.ndarray, *, phase: str = "head") -> Audio:
        """The sound of latents (frames, latent_dim): frames * hop_length samples.

        `phase` is the learned head, or "griffin-lim". Raises InputError for latents of another width.
        """
        latents = fitting(latents, self)
        if phase not in ("head", "griffin-lim"):
            raise InputError(f"phase {phase!r}; choose from: head, griffin-lim")
        if not len(latents):
            return Audio(np.zeros((0, self.channels), np.float32), self.sample_rate)
        return Audio(self._sound(torch.from_numpy(latents), phase), self.sample_rate)

    @torch.no_grad()
    def _sound(self, latents: Tensor, phase: str) -> np.ndarray:
        """Samples (n, channels). Blocks are decoded with what stands around them, so that they join without a seam."""
        network, frames, hop = self.network, len(latents), self.hop_length
        latents = (latents.to(self.device) * network.latent_spread + network.latent_mean).T[None]
        integrate = Integrator(network.stft.bins, 1 / OVERLAP)
        block = BLOCK if phase == "head" else frames
        sound = np.empty((frames * hop, self.channels), np.float32)
        for first in range(0, frames, block):
            begin, last = max(first - MARGIN, 0), min(first + block, frames)
            start = max(begin - MARGIN, 0)
            piece = latents[:, :, start : last + MARGIN]
            magnitude = network.magnitude(piece)
            if phase == "head":
                spectrum = self._phased(magnitude, integrate, begin - start, last - MARGIN - begin)
            else:
                spectrum = griffin_lim(magnitude[0], network.stft)
            samples = network.stft.inverse(self._apart(spectrum, piece[:, :, begin - start :])).T
            sound[first * hop : last * hop] = samples[(first - begin) * hop :][: (last - first) * hop].cpu().numpy()
        return sound

    def _phased(self, magnitude: Tensor, integrate: Integrator, skip: int, again: int) -> Tensor:
        """The spectrum (bins, frames) that the head tells of, without the first `skip` latent frames; `integrate` is
        left as it was `again` latent frames later, where the next block begins.
        """
        ratio = self.network.shape.ratio
        ahead, across = self.network.differences(magnitude)
        magnitude, *told = (part[0, :, skip * ratio :] for part in (magnitude, ahead, across))
        parts = [part.T.contiguous().cpu().numpy() for part in (magnitude, *told)]
        cut = max(again, 0) * ratio
        before = integrate(*(part[:cut] for part in parts)) if cut else parts[1][:0]
        after = copy.deepcopy(integrate)(*(part[cut:] for part in parts))
        spectrum = torch.from_numpy(np.concatenate([before, after])).T.to(magnitude.device)
        return refined(spectrum, magnitude, self.network.stft)

    def _apart(self, spectrum: Tensor, latents: Tensor) -> Tensor:
        """One spectrum (bins, frames) as (channels, bins, frames)."""
        if not self.network.shape.side_dim:
            return spectrum[None]
        return torch.stack(apart(spectrum, self.network.told(latents)[0], self.network.bands))

    # --- learning ----------------------------------------------------------------------------------------------

    def start_from(self, samples: Tensor) -> None:
        """Begin with what is linear in samples (count, channels, n)."""
        network = self.network
        with torch.no_grad():
            looks = [network.look(one[None]) for one in samples]
            network.magnitudes.start_from(torch.cat([roots for roots, _, _ in looks]))
            if network.shape.side_dim:
                told = torch.cat([told for _, _, told in looks]).transpose(1, 2).reshape(-1, 2 * BANDS)
                network.side_mean.copy_(told.mean(0)[:, None])
                network.side.copy_(principal(told - told.mean(0), network.shape.side_dim))

    def loss(self, samples: Tensor, noise: float, generator: torch.Generator) -> dict[str, Tensor]:
        """What is wrong with a batch (batch, channels, n): `spectrum` and `phase` (see their modules), and `total`."""
        network = self.network
        roots, spectrum, _ = network.look(samples)
        with torch.autocast(samples.device.type, torch.bfloat16, enabled=fast_bf16(samples.device.type)):
            latents = network.magnitudes.encode(roots).float()
            drawn = torch.randn(latents.shape, generator=generator).to(latents.device)
            found = network.magnitudes.decode(latents + noise * drawn).float()
            few = (slice(HEADS), slice(network.heard), slice(FRAMES))
            phase = network.head.loss(found[few].detach().clamp(min=0).square(), spectrum[few], 1 / OVERLAP)
        error = spectral_error(found, roots)
        return {"spectrum": error, "phase": phase, "total": error + phase + KEPT_SMALL * latents.square().mean()}

    @torch.no_grad()
    def standardise(self, samples: Tensor) -> None:
        """Set mean and spread of the latents to those of samples (count, channels, n), and what bins are lifted by."""
        network = self.network
        latents, power, kept = [], 0.0, 0.0
        for one in samples:
            found = network.encode(one[None])
            power = power + network.look(one[None])[0].pow(4).mean((0, 2))
            kept = kept + network.roots(found).clamp(min=0).pow(4).mean((0, 2))
            latents.append(found[0].T)
        latents = torch.cat(latents)
        network.latent_mean.copy_(latents.mean(0))
        network.latent_spread.copy_(latents.std(0).clamp(min=1e-4))
        network.lift.copy_(((power + FAINT) / (kept + FAINT)).clamp(1, MOST_LIFT).pow(0.25)[:, None])

    def to(self, device: str) -> None:
        """Encode and decode on another device."""
        self.network.to(device)

    def save(self, folder: Path) -> None:
        """Write codec.json and model.safetensors."""
        facts = {"kind": self.kind, "shape": dataclasses.asdict(self.network.shape), **self.about}
        write_file(folder / WEIGHTS, self._weights())
        write_object(folder / FACTS, facts | {"fingerprint": self.fingerprint})

    def _weights(self) -> bytes:
        return serialized(self.network.state_dict())


def begin(settings: CodecSettings) -> OwnCodec:
    """A new codec that has learned nothing, or the one that `base` names."""
    if settings.base:
        codec = load(settings.base)
        refuse_sizes(settings, dataclasses.asdict(codec.network.shape) | {"latent_rate": codec.latent_rate})
        return codec
    size = 1 << round(np.log2(WINDOW * settings.sample_rate))
    ratio = 1 << max(0, round(np.log2(settings.sample_rate / (size // OVERLAP) / settings.latent_rate)))
    side = settings.side_dim if settings.channels == 2 else 0
    dims = (settings.latent_dim, side, settings.width, settings.depth)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return OwnCodec(Network(Shape(settings.sample_rate, settings.channels, size, ratio, *dims)))


def recognises(place: str) -> bool:
    """Whether a folder holds a codec of this kind."""
    return object_in(Path(place) / FACTS).get("kind") == "own"


def load(place: str, *, fetch: bool = False) -> OwnCodec:
    """Open a codec's folder; there is nothing to `fetch`. Raises RunError where there is none of this kind, or
    FileError where it is damaged."""
    facts, weights = object_in(Path(place) / FACTS), Path(place) / WEIGHTS
    if facts.get("kind") != "own":
        raise RunError(place, f"there is no codec of kind own; give a folder with the {FACTS} of one")
    try:
        network = Network(Shape(**facts["shape"]))
        network.load_state_dict(load_file(weights))
    except (SafetensorError, OSError) as error:
        raise FileError(weights, f"cannot be read: {error}") from None
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunError(place, f"{FACTS} and {WEIGHTS} do not fit together: {first_line(error)}") from None
    about = {name: value for name, value in facts.items() if name not in ("kind", "shape", "fingerprint")}
    codec = OwnCodec(network, about)
    if codec.fingerprint != facts.get("fingerprint"):
        raise RunError(place, f"{WEIGHTS} is not the one that {FACTS} tells of; copy the whole folder again")
    return codec
