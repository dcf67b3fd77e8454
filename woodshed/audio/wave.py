"""Sound as numbers: read, resampled, cut, made as loud as other sound, written.

    audio = read_audio("song.mp3", sample_rate=48000, channels=2)     all of it, or from `start` for `seconds`
    for block in stream("concert.flac", sample_rate=48000): ...       a long file, half a minute at a time
    write_audio("song.wav", audio.levelled(-16))

libsndfile reads and writes wav, flac, ogg, opus and mp3; m4a and other files go through ffmpeg where it is installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..errors import EmptyCorpus, FileError, InputError, MissingExtra
from ..files import object_in, replacing, sha256_of
from ..jobs import FACTS, run_program
from ..loudness import levelled, loudness
from ..page import clock

try:
    import soundfile
    import soxr
except (ImportError, OSError):  # soundfile raises an OSError where it finds no libsndfile
    raise MissingExtra("soundfile", "audio") from None

READ = (".wav", ".flac", ".ogg", ".opus", ".mp3")
BY_FFMPEG = (".m4a", ".aac", ".wma", ".mp4")
WRITTEN = (".wav", ".flac", ".ogg", ".mp3")
MADE = (FACTS, "codec.json")  # a folder with one of these holds what was made of recordings, and plays itself
FLOATING = ("FLOAT", "DOUBLE")
DEPTHS = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", *FLOATING)
WRITE_FRAMES = 1 << 16
BLOCK = 30.0  # seconds of a long file that are in memory at once
RUN_UP, SPARE = 1.0, 0.1  # seconds around a stretch that ffmpeg reads: decoders begin blurred, lengths are rounded
DIGEST = 16  # hexadecimal digits
RATES = (4_000, 768_000)  # samples a second that are sound
READ_VALUES = 1 << 26  # samples, of all channels, that are asked for at once: twelve minutes of a CD
DECODED = 8 * 2**30  # bytes that ffmpeg may write: six hours in stereo
PATIENCE, PACE = 60.0, 50_000  # seconds that ffmpeg has, and one more for so many bytes: a fiftieth of what it takes
NO_SOUND = "it holds no sound (0 seconds); record it again, or leave it out"
SILENT = "silent: record it again, or leave it out"
CUT_SHORT = 1.0  # seconds that a recording may end before its header says so


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound: `samples` are float32 (frames, channels), full scale at -1 and 1."""

    samples: np.ndarray
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    @property
    def channels(self) -> int:
        return self.samples.shape[1]

    @property
    def mono(self) -> np.ndarray:
        """The mean of the channels, (frames,)."""
        return self.samples.mean(axis=1)

    @property
    def loudness(self) -> float:
        """LUFS (ITU-R BS.1770); -inf for silence."""
        return loudness(self.samples, self.sample_rate)

    def resampled(self, sample_rate: int) -> Audio:
        """The same sound at another sample rate."""
        if sample_rate == self.sample_rate:
            return self
        return Audio(soxr.resample(self.samples, self.sample_rate, sample_rate), sample_rate)

    def with_channels(self, channels: int) -> Audio:
        """One channel: the mean of all. Several: the first so many, one channel repeated."""
        return replace(self, samples=_with_channels(self.samples, channels))

    def cut(self, start: float, end: float | None = None) -> Audio:
        """What sounds from `start` to `end`, in seconds."""
        first, last = (None if at is None else max(round(at * self.sample_rate), 0) for at in (start, end))
        return replace(self, samples=self.samples[first:last])

    def levelled(self, target: float, *, ceiling: float = -1.0) -> Audio:
        """At `target` LUFS, or softer where its true peak would rise above `ceiling` dBFS."""
        return replace(self, samples=levelled(self.samples, self.sample_rate, target=target, ceiling=ceiling))


@dataclass(frozen=True)
class Header:
    """What the header of a sound file says."""

    seconds: float
    sample_rate: int
    channels: int


@dataclass(frozen=True)
class Heard(Header):
    """What a sound file holds when it is read to its end, with as many channels as it was listened to."""

    promised: float
    """Seconds that the header promises."""
    loudness: float
    """LUFS; -inf for silence."""

    @property
    def remark(self) -> str:
        """That it ends long before its header says so, if it does."""
        short = f"ends after {clock(self.seconds)} of {clock(self.promised)}: cut short?"
        return short if self.promised - self.seconds > CUT_SHORT else ""


def audio_files(folder: str | Path) -> list[Path]:
    """All sound files in a folder and the folders within it, sorted, but for runs and codecs that lie there, and what
    they have played. An InputError where there is no such folder, EmptyCorpus where it holds none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give one that holds {', '.join(READ)} files")
    files = visible_files(folder)
    made = {path.parent for path in files if path.name in MADE and _is_ours(path)} - {folder}
    found = [path for path in files if path.suffix.lower() in READ + BY_FFMPEG and made.isdisjoint(path.parents)]
    if not found:
        raise EmptyCorpus(f"{folder}: no recordings ({', '.join(READ + BY_FFMPEG)}) in it or below it")
    return found


def _is_ours(path: Path) -> bool:
    return bool(object_in(path).keys() & {"woodshed", "fingerprint"})


def visible_files(folder: Path) -> list[Path]:
    """All files in a folder and the folders within it, sorted, but hidden ones: macOS writes a ._song.mp3.

    Links to folders are followed, after all else, so that a folder which can be reached without one has its own name.
    """
    found, roots, seen = [], [folder], set()
    for root in roots:
        for place, folders, names in os.walk(root):
            here, real = Path(place), os.path.realpath(place)
            folders[:] = [] if real in seen else sorted(name for name in folders if name[0] != ".")
            found += [] if real in seen else [here / name for name in names if name[0] != "."]
            roots += [here / name for name in folders if (here / name).is_symlink()]
            seen.add(real)
    return sorted(path for path in found if path.is_file())


def probe(path: str | Path) -> Header:
    """Length, sample rate and channels of a file. A FileError where it cannot be read or holds no sound."""
    with _opened(Path(path)) as file:
        return Header(file.frames / file.samplerate, file.samplerate, file.channels)


def depth_of(path: str | Path) -> str:
    """The one of DEPTHS that keeps a file's samples: its own, or FLOAT for those of a lossy format."""
    with _opened(Path(path), seconds=0.1) as file:
        return file.subtype if file.subtype in DEPTHS else "FLOAT"


def read_audio(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
) -> Audio:
    """Read a file, or `seconds` of it from `start` on; by default with its own sample rate and channels.

    A file that was cut short gives what there is of it. Raises FileError where it is damaged or holds no sound.
    """
    path = Path(path)
    with _opened(path, start, seconds) as file:
        first = 0 if _by_ffmpeg(path) else min(round(start * file.samplerate), file.frames)
        frames = -1 if seconds is None else round(seconds * file.samplerate)
        audio = Audio(_read(file, path, frames, first=first), file.samplerate)
        if not len(audio.samples) and frames and first < file.frames:
            raise FileError(path, NO_SOUND)
    audio = audio if channels is None else audio.with_channels(channels)
    return audio if sample_rate is None else audio.resampled(sample_rate)


def stream(path: str | Path, *, sample_rate: int | None = None, channels: int | None = None) -> Iterator[Audio]:
    """A file piece by piece, each of about BLOCK seconds; together they are what read_audio gives, within rounding.

    Only one piece is in memory at a time, so that a recording of hours can be read.
    """
    path = Path(path)
    with _opened(path) as file:
        yield from _pieces(file, path, sample_rate or file.samplerate, channels or file.channels)


def listen(path: str | Path, channels: int | None = None) -> Heard:
    """Length and loudness of a file that is read to its end, piece by piece. A FileError where it is no sound.

    `channels` it is heard with, by default its own: loudness sums over them, so that mono as stereo is 3 LU louder.
    """
    path, frames = Path(path), 0
    with _opened(path) as file:
        channels = channels or file.channels

        def samples() -> Iterator[np.ndarray]:
            nonlocal frames
            for piece in _pieces(file, path, file.samplerate, channels):
                frames += len(piece.samples)
                yield piece.samples

        loud = loudness(samples(), file.samplerate)
        rate = file.samplerate
        return Heard(frames / rate, rate, channels, promised=file.frames / rate, loudness=loud)


def digest_of(path: str | Path, begin: bytes = b"") -> str:
    """Sixteen hexadecimal digits over some bytes to begin with and those of a file. Raises FileError."""
    try:
        return sha256_of(path, begin=begin)[:DIGEST]
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror or error}") from None


def write_audio(path: str | Path, audio: Audio, *, depth: str | None = None, comment: str | None = None) -> None:
    """Write wav (16 bit, or a `depth` of DEPTHS), flac, ogg or mp3, by the suffix: whole or not at all. A `comment`
    is shown by players and DAWs.

    Samples beyond full scale are clipped, but for those of a floating depth. Raises InputError for another suffix and
    FileError where the disk refuses.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITTEN:
        raise InputError(f"{path}: sound is written as {', '.join(WRITTEN)}")
    kind, limit = path.suffix[1:].upper(), np.inf if depth in FLOATING else 1.0
    with replacing(path) as temporary:
        try:
            with soundfile.SoundFile(temporary, "w", audio.sample_rate, audio.channels, depth, format=kind) as file:
                if comment is not None:
                    file.comment = comment
                for first in range(0, len(audio.samples), WRITE_FRAMES):  # at once, minutes of ogg overflow the stack
                    file.write(np.clip(audio.samples[first : first + WRITE_FRAMES], -limit, limit))
        except soundfile.LibsndfileError as error:
            raise OSError(_told(error)) from None


# --- reading ---------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, start: float = 0.0, seconds: float | None = None) -> Iterator[soundfile.SoundFile]:
    """A file that holds some sound, open for reading; of what ffmpeg reads the stretch alone."""
    with _readable(path, start, seconds) as source:
        try:
            # soundfile would encode a name that is no text, and fail
            file = soundfile.SoundFile(os.fsencode(source) if os.name == "posix" else source)
        except (soundfile.LibsndfileError, OSError) as error:
            raise FileError(path, f"cannot be read as sound: {_reason(path, error)}") from None
        with file:
            if not file.frames and not (start and _by_ffmpeg(path)):
                raise FileError(path, NO_SOUND)
            if not RATES[0] <= file.samplerate <= RATES[1]:
                told = f"its sample rate is {file.samplerate:,} Hz; {RATES[0]:,} to {RATES[1]:,} are read"
                raise FileError(path, f"{told}; export it again, or leave it out")
            yield file


def _reason(path: Path, error: Exception) -> str:
    """Why a file could not be opened. For an mp3 without a frame libsndfile says that there is no such file."""
    if not path.exists():
        return "there is no such file"
    reason = _told(error)
    return "nothing in it can be decoded" if "does not exist" in reason else reason


def _told(error: Exception) -> str:
    return getattr(error, "error_string", str(error)).removeprefix("Error : ").rstrip(".")


def _by_ffmpeg(path: Path) -> bool:
    return path.suffix.lower() in BY_FFMPEG


@contextmanager
def _readable(path: Path, start: float, seconds: float | None) -> Iterator[Path]:
    """The file itself, or what ffmpeg makes of a stretch of it."""
    if not _by_ffmpeg(path) or not path.exists():
        yield path
        return
    if not shutil.which("ffmpeg"):
        raise FileError(path, f"{path.suffix} files need ffmpeg, which is not installed; or convert it to wav")
    with TemporaryDirectory() as folder:
        made = Path(folder) / "sound.wav"
        early = max(start - RUN_UP, 0.0)
        seek, skip = (["-ss", f"{at:.6f}"] if at else [] for at in (early, start - early))
        length = [] if seconds is None else ["-t", f"{seconds + SPARE:.6f}"]
        command = ["ffmpeg", "-nostdin", "-v", "error", *seek, "-i", f"file:{path}", *skip, *length]
        command += ["-vn", "-c:a", "pcm_f32le", "-rf64", "auto", "-fs", str(DECODED), str(made)]
        done = run_program("ffmpeg", command, path, seconds=PATIENCE + path.stat().st_size / PACE)
        if done.returncode:
            reason = done.stderr.strip().splitlines() or ["it gives no reason"]
            raise FileError(path, f"ffmpeg cannot read it: {reason[-1]}")
        if made.exists() and made.stat().st_size >= DECODED:
            raise FileError(path, f"decoded it has more than {DECODED // 2**30} GiB; cut it into pieces")
        yield made


def _pieces(file: soundfile.SoundFile, path: Path, rate: int, channels: int) -> Iterator[Audio]:
    """An open file piece by piece, at `rate` and with `channels`."""
    resampler = soxr.ResampleStream(file.samplerate, rate, channels, dtype="float32")
    frames = max(round(BLOCK * file.samplerate), 1)
    piece = _read(file, path, frames)
    if not len(piece):
        raise FileError(path, NO_SOUND)
    while len(piece):
        after = _read(file, path, frames)
        piece = _with_channels(piece, channels)
        if rate != file.samplerate:
            piece = resampler.resample_chunk(piece, last=not len(after))
        yield Audio(piece, rate)
        piece = after


def _read(file: soundfile.SoundFile, path: Path, frames: int, *, first: int = 0) -> np.ndarray:
    """The next frames, (frames, channels), or those from `first` on, -1 for all; fewer where the file ends.

    They are asked for in blocks: a header may promise more than there is, and than any memory holds.
    """
    left, blocks = file.frames if frames < 0 else frames, []
    try:
        if first:
            file.seek(first)
        while left or not blocks:
            count = min(left, READ_VALUES // file.channels)
            blocks.append(file.read(count, dtype="float32", always_2d=True))
            left = left - count if len(blocks[-1]) == count else 0
    except soundfile.LibsndfileError as error:
        raise FileError(path, f"it is damaged ({_told(error)}); export it again, or leave it out") from None
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise FileError(path, "it holds samples that are no numbers (NaN); write it again from your DAW")
    return samples


def _with_channels(samples: np.ndarray, channels: int) -> np.ndarray:
    if channels == samples.shape[1]:
        return samples
    if channels == 1:
        return samples.mean(axis=1, keepdims=True)
    return samples[:, np.minimum(np.arange(channels), samples.shape[1] - 1)]
