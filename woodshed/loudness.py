"""How loud audio is to the ear, and audio made as loud as asked: ITU-R BS.1770 in numpy.

Loudness is in LUFS: mean power after a filter like that of the head (K-weighting), over blocks of 400 ms of which the
silent and the soft ones do not count. https://www.itu.int/rec/R-REC-BS.1770
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

HOP, BLOCK = 0.1, 4  # seconds; a block is four hops
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS; LU below what is above the absolute gate
OFFSET = -0.691  # dB: a sine of 997 Hz at full scale in one channel is -3.01 LUFS
MEMORY = 0.25  # seconds after which the filter has forgotten what it heard
CHUNK_HOPS = 50
OVERSAMPLING, PEAK_CHUNK, PEAK_MARGIN = 4, 4096, 64


def loudness(audio: np.ndarray | Iterable[np.ndarray], sample_rate: int) -> float:
    """Integrated loudness of audio (samples, channels) in -1 .. 1, in LUFS; -inf for silence.

    Long audio may come in pieces, one after the other. Audio of less than 400 ms is measured as one block.
    """
    hop = round(HOP * sample_rate)
    pieces = [audio] if isinstance(audio, np.ndarray) else audio
    power = np.concatenate([np.zeros(0), *_weighted_power(pieces, sample_rate, hop)])  # (hops,)
    if len(power) < BLOCK:
        power = np.full(BLOCK, power.mean() if len(power) else 0.0)
    blocks = np.convolve(power, np.full(BLOCK, 1 / BLOCK), mode="valid")
    blocks = blocks[blocks > _power(ABSOLUTE_GATE)]
    if len(blocks):
        blocks = blocks[blocks > blocks.mean() * 10 ** (RELATIVE_GATE / 10)]
    return OFFSET + 10 * float(np.log10(blocks.mean())) if len(blocks) else -np.inf


def true_peak(audio: np.ndarray) -> float:
    """The highest level between and at the samples of audio (samples, channels), at four times the sample rate.

    Only stretches that come within 6 dB of the highest sample are looked at more closely.
    """
    peak = max(float(audio.max(initial=0)), -float(audio.min(initial=0)))
    highest = peak
    for start in range(0, len(audio), PEAK_CHUNK):
        inside = slice(max(start - PEAK_MARGIN, 0), start + PEAK_CHUNK + PEAK_MARGIN)
        if np.abs(audio[start : start + PEAK_CHUNK]).max() > peak / 2:
            piece = np.pad(audio[inside].astype(np.float64), ((PEAK_MARGIN, PEAK_MARGIN), (0, 0)))
            finer = np.fft.irfft(np.fft.rfft(piece, axis=0), OVERSAMPLING * len(piece), axis=0) * OVERSAMPLING
            highest = max(highest, float(np.abs(finer).max()))
    return highest


def levelled(audio: np.ndarray, sample_rate: int, *, target: float, ceiling: float = -1.0) -> np.ndarray:
    """Audio at `target` LUFS, or softer where its true peak would rise above `ceiling` dBFS. Nothing is compressed, and
    what is too soft to have a loudness stays as it is."""
    heard = loudness(audio, sample_rate)
    if not np.isfinite(heard):
        return audio
    gain = min(10 ** ((target - heard) / 20), 10 ** (ceiling / 20) / true_peak(audio))
    return audio * np.float32(gain)


def _power(lufs: float) -> float:
    return 10 ** ((lufs - OFFSET) / 10)


def _weighted_power(pieces: Iterable[np.ndarray], sample_rate: int, hop: int) -> Iterator[np.ndarray]:
    """Power of each hop after K-weighting, summed over channels; hops of the last part are whole or left out."""
    memory, step = round(MEMORY * sample_rate), CHUNK_HOPS * hop
    size = 1 << (step + memory - 1).bit_length()
    response = k_weighting(np.fft.rfftfreq(size) * sample_rate, sample_rate)[:, None]
    before = None  # what the filter still remembers
    for chunk in _rechunked(pieces, step):
        piece = chunk if before is None else np.concatenate([before, chunk])
        heard = np.fft.irfft(np.fft.rfft(piece, size, axis=0) * response, size, axis=0)[len(piece) - len(chunk) :]
        heard = heard[: len(chunk)]
        hops = max(len(heard) // hop, 1 if before is None else 0)
        yield np.square(heard[: hops * hop]).sum(axis=1).reshape(hops, -1).mean(axis=1) if hops else np.zeros(0)
        before = piece[-memory:]


def _rechunked(pieces: Iterable[np.ndarray], step: int) -> Iterator[np.ndarray]:
    """The same samples in chunks of `step`, the last one shorter."""
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        held, count = [*held, piece], count + len(piece)
        if count >= step:
            joined = np.concatenate(held)
            whole = count - count % step
            yield from (joined[start : start + step] for start in range(0, whole, step))
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def k_weighting(frequency: np.ndarray, sample_rate: int) -> np.ndarray:
    """The complex response of the two filters of BS.1770 at frequencies in Hz, for any sample rate.

    Centre frequencies and qualities are those that give the standard's table at 48 kHz: B. De Man, "Evaluation of
    Implementations of the EBU R128 Loudness Measurement", AES 145 (2018).
    """
    z = np.exp(-2j * np.pi * frequency / sample_rate)
    gain = 10 ** (3.999843853973347 / 20)
    middle = gain**0.4996667741545416
    k, q = np.tan(np.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    shelf = _biquad(z, (gain + middle * k / q + k * k, 2 * (k * k - gain), gain - middle * k / q + k * k), k, q)
    k, q = np.tan(np.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    norm = 1 + k / q + k * k  # the standard leaves its second filter without one
    return shelf * _biquad(z, (norm, -2 * norm, norm), k, q)


def _biquad(z: np.ndarray, top: tuple[float, float, float], k: float, q: float) -> np.ndarray:
    """A second-order filter at 1/z, its poles at the prewarped frequency `k` with quality `q`."""
    bottom = (1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k)
    return (top[0] + top[1] * z + top[2] * z * z) / (bottom[0] + bottom[1] * z + bottom[2] * z * z)
