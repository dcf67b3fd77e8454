"""What every long job needs: a folder of its own, threads that are free, an orderly stop."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import FileError, InputError, RunError, WoodshedError, first_line
from .files import visible, writing
from .log import LOG, append_log
from .progress import Progress, Reporter

try:
    import fcntl
except ImportError:
    import msvcrt

    fcntl = None

FACTS = "run.json"  # what a run says of itself
GB = 1024**3
PATIENCE = 60  # seconds that one who saves waits for another
heard: list[signal.Signals] = []  # what has stopped jobs of this process
# what transformers, diffusers and PEFT use under its older name, which every version of theirs knows
DEPRECATED = (".*weight_norm", "`torch_dtype` is deprecated", "`(is_)?gradient_checkpointing` is deprecated")


class Job:
    """A training in the folder `out` that tells `report` how far it is."""

    out: Path
    report: Reporter
    stopped = ""  # the signal that has asked for its end

    def say(self, message: str, **event) -> None:
        """Tell a message; with step=... and event=..., log it too."""
        self.report(Progress(message=message, step=event.get("step", 0)))
        if event:
            append_log(self.out / LOG, event | {"message": message})

    def say_stopped(self, step: int) -> None:
        """Where a signal has ended it after a step, tell so, and how it goes on."""
        if self.stopped:
            told = f"stopped at step {step:,} by {self.stopped}, saved; go on with --resume"
            self.say(told, step=step, event="stopped")


def finished(out: Path, step: int, limits: str) -> RunError:
    """That there is nothing left to go on with; `limits` are the flags that give more."""
    return RunError(out, f"it has finished, at step {step:,}; to go on, give more with {limits}")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Locks a folder against other trainings; the lock ends with the process. (Some network disks lock nothing.)"""
    handle = os.open(folder, os.O_RDONLY) if fcntl else os.open(_lock_file(folder), os.O_RDWR | os.O_CREAT)
    try:
        if not _locked(handle):
            remedy = "wait for its end, or choose another --out"
            raise RunError(folder, f"another training is writing into it; {remedy}")
        yield
    finally:
        os.close(handle)


def _lock_file(folder: Path) -> Path:
    """What is locked for a folder on Windows, which locks only files."""
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"woodshed-{name}.lock"


def _locked(handle: int) -> bool:
    """Lock an open file or folder until it is closed; False where another process has it."""
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # NFS
        pass
    return True


def checkpoint_folders(out: Path) -> dict[int, Path]:
    """The folders checkpoint-NUMBER in a run by their numbers, in that order, whole or not. What else is called
    checkpoint-something is the user's own."""
    found = {path: re.fullmatch(r"checkpoint-(\d+)", path.name) for path in out.glob("checkpoint-*") if path.is_dir()}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match))


def checkpoints_with(out: Path, final: str) -> dict[int, Path]:
    """The whole checkpoints of a run by their numbers: those with the file `final`, which is written last."""
    return {number: path for number, path in checkpoint_folders(out).items() if (path / final).exists()}


def remove_broken(out: Path, final: str, say: Callable[[str], None]) -> dict[int, Path]:
    """Remove the checkpoints that a kill has left without their file `final`; answers those that are whole."""
    whole = checkpoints_with(out, final)
    broken = [path for number, path in checkpoint_folders(out).items() if number not in whole]
    remove_checkpoints(broken, final, say)
    return whole


def remove_checkpoints(paths: Iterable[Path], final: str, say: Callable[[str], None]) -> None:
    """Remove checkpoints, first the file `final` that makes one whole, so that none is ever taken for whole without its
    weights. Of a link only the link goes. What cannot be removed stays, and is told: no training ends for it."""
    for path in paths:
        try:
            if path.is_symlink():
                path.unlink()
            else:
                (path / final).unlink(missing_ok=True)
                shutil.rmtree(path)
        except OSError as error:
            say(f"{path} cannot be removed: {error.strerror or error}; remove it yourself")


def refuse_occupied(out: Path, facts: str = "") -> None:
    """An InputError unless a job may begin in the folder `out`; a run that can go on is known by its file `facts`."""
    if out.is_file():
        raise InputError(f"--out {out} is a file; choose another folder")
    with writing(out):
        occupied = out.exists() and bool(visible(out))
    if occupied:
        what = "holds a run already; add --resume" if facts and (out / facts).exists() else "is not empty; clear it"
        raise InputError(f"--out {out} {what}, or choose another folder")


def refuse_existing(out: Path) -> None:
    """An InputError where something has the name `out` already, if only a link that leads nowhere."""
    if os.path.lexists(out):
        raise InputError(f"--out {out} exists already; choose another name, or remove it")


def refuse_no_new_file(flag: str, path: Path) -> None:
    """An InputError, before the work begins, where what a flag names is there already or has no folder to lie in."""
    if os.path.lexists(path) or not path.absolute().parent.is_dir():
        raise InputError(f"{flag} {path}: choose a file that does not exist yet, in a folder that does")


@contextmanager
def one_process(name: str) -> Iterator[None]:
    """Only one of our processes at a time runs a block of this name; others wait. (Windows has no such lock.)"""
    if fcntl is None:
        yield
        return
    path = Path(tempfile.gettempdir()) / f"woodshed-{os.getuid()}-{name}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)  # all may put a link there
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def own_process(module: str, *arguments: str | Path) -> list[str | Path]:
    """The command that runs a module of ours in a process of its own. Without -P, Python would import any numpy.py or
    random.py that lies in the folder where the user is."""
    return [sys.executable, "-P", "-m", module, *arguments]


@contextmanager
def one_writer(path: Path) -> Iterator[None]:
    """Only one of all processes and threads at a time runs a block for a file; others wait, a FileError where that is
    for too long. What is locked meanwhile is a hidden file beside it. (Some network disks lock nothing.)"""
    real = Path(os.path.realpath(path))
    lock = real.with_name(f".{real.name}.lock")
    with writing(path):
        end = time.monotonic() + PATIENCE
        while (handle := _taken(lock)) is None:
            if time.monotonic() > end:
                raise FileError(path, f"another process has saved it for {PATIENCE} s; end that, or remove {lock}")
            time.sleep(0.02)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            lock.unlink()
        os.close(handle)


def _taken(lock: Path) -> int | None:
    """A lock file, open and locked; None where another has it, or has just removed it."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with suppress(FileNotFoundError):
        if _locked(handle) and os.path.samestat(os.fstat(handle), os.stat(lock)):
            return handle
    os.close(handle)
    return None


def run_program(name: str, command: list, path: Path, *, seconds: float) -> subprocess.CompletedProcess:
    """Let a program do something with a file. One that takes longer than so many seconds is killed: a FileError."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        told = f"{name} had not come to its end after {seconds:,.0f} s"
        raise FileError(path, f"{told}; it is damaged, or the machine too busy") from None


def free_threads() -> int:
    """Cores with nothing to do, at least one: two threads on one free core are far slower than one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, cores - int(load + 0.25))  # what has been busy for a minute and a half counts as one


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch, in the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """transformers or diffusers, or both, without their bars, logs and words about what is deprecated."""
    loggers = [import_module(f"{name}.utils.logging") for name in libraries]
    before = [(logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]
    for logger in loggers:
        logger.disable_progress_bar()
        logger.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            for words in DEPRECATED:
                warnings.filterwarnings("ignore", words, FutureWarning)
            yield
    finally:
        for logger, (verbosity, bars) in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)
            if bars:
                logger.enable_progress_bar()


class Memory:
    """Bytes that a training takes; the fields of a subclass say for what."""

    @property
    def total(self) -> float:
        return sum(vars(self).values())

    def __str__(self) -> str:
        told = " + ".join(f"{name} {value / GB:.2f}" for name, value in vars(self).items())
        return f"about {self.total / GB:.2f} GB of memory: {told}"


@contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Where the memory of a GPU ends in the block, an InputError says that `what` does not fit, and what to do."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(f"out of GPU memory {what}; {remedy}") from None


def find_device(name: str = "auto", *, apple: bool = False) -> str:
    """A device of torch by its name: cpu, cuda or cuda:1; auto is the GPU where there is one, else the CPU.

    `apple` says that what is to be computed runs on Apple's GPUs too, which are called mps. Raises InputError where
    this machine has none of that name.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cuda"] * bool(count) + ["mps"] * (apple and torch.backends.mps.is_available()) + ["cpu"]
    if name == "auto":
        return known[0]
    known = sorted([*known, *(f"cuda:{number}" for number in range(count))])
    if name not in known:
        choice = ", ".join(["auto", *known]) + " (torch finds no CUDA GPU here)" * (not count)
        raise InputError(f"--device {name}: choose from {choice}")
    return name


def fast_bf16(device: str) -> bool:
    """Whether the CPU or a GPU multiplies bfloat16 faster than float32; emulated, it is slower."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return hasattr(torch.cpu, "get_capabilities") and torch.cpu.get_capabilities().get("avx512_bf16", False)


@contextmanager
def going_on_from(checkpoint: Path, remedy: str = "delete it to go on before it") -> Iterator[None]:
    """Whatever of a checkpoint the block cannot read, or that does not fit, is a RunError with what to do then."""
    import torch

    try:
        yield
    except (WoodshedError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # JSON, safetensors, zip, pickle and torch have each their own
        raise RunError(checkpoint, f"cannot be read: {first_line(error)}; {remedy}") from error


def resumable(trouble: FileError, facts: Path, saved: Iterable[int]) -> FileError:
    """What could not be written and, where a job has its file of `facts` by then, how it goes on: from the last of the
    `saved` steps."""
    if not facts.exists():
        return trouble
    told = f"put that right, then go on from step {max(saved, default=0):,} with --resume"
    return FileError(trouble.path, f"{trouble.reason}; {told}")


@contextmanager
def stop_on_signals(job: Any) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM becomes what `job` is `stopped` by, so that its loop can end after its step; the
    second does what it always does. In a thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number, frame):
        heard.append(signal.Signals(number))
        job.stopped = heard[-1].name
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
