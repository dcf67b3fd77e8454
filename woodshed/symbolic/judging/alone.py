"""Training in a process of its own: its memory is measured for it alone, and what ends it does not end ours.

    train_alone("corpus", "my-run", {"model": "lstm", "max_minutes": 10}, report=print, errors=Path("my-run.txt"))

The two speak in lines of JSON over the other process's standard output: a Progress, or the reason why it failed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ...config import tuples
from ...errors import RunError, WoodshedError
from ...files import writing
from ...jobs import own_process
from ...log import LOG, append_log, read_log
from ...progress import Progress, Reporter
from ..learning.settings import TrainSettings

EVENT = "process"  # the line of log.jsonl that tells what a training took of the machine


def train_alone(corpus: str | Path, out: Path, settings: dict, *, report: Reporter, errors: Path) -> None:
    """`train(corpus, out, **settings)` in a process of its own, which logs the memory and the
    processor time it took.

    Ctrl-C asks the other process to save, waits for that and goes on up; a second one ends it at once. What it writes
    to stderr goes into the file `errors`, which stays where it fails. Raises RunError with the reason.
    """
    asked = json.dumps({"corpus": str(corpus), "out": str(out), "settings": settings})
    with writing(errors), open(errors, "ab") as stderr:
        command = own_process(__name__, asked)
        # a session of its own: Ctrl-C in the terminal comes to us alone, and is passed on once
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, encoding="utf-8", start_new_session=True
        )
    try:
        failed = _followed(child, report)
        code = child.wait()
    except KeyboardInterrupt:
        if os.name == "posix":
            child.send_signal(signal.SIGINT)
        child.communicate()
        raise
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        if errors.exists() and (child.returncode == 0 or not errors.stat().st_size):
            errors.unlink()
    if failed or code:
        raise RunError(out, failed or _death(code, errors))


def _followed(child: subprocess.Popen, report: Reporter) -> str:
    """Pass on the progress to the end of the other process; the reason if it says that it failed."""
    failed = ""
    for line in child.stdout:
        told = json.loads(line)
        failed = told.get("failed", failed)
        if "progress" in told:
            report(Progress(**told["progress"]))
    return failed


def _death(code: int, errors: Path) -> str:
    """Why a process ended that said nothing."""
    if os.name == "posix" and code == -signal.SIGKILL:
        remedy = "try a smaller --size or --max-seq-len, or --train-args batch_size=1"
        return f"the system killed it, as it does when memory runs out; {remedy}"
    said = errors.read_text(encoding="utf-8", errors="replace").splitlines() if errors.exists() else []
    return f"{said[-1]} (all of it in {errors})" if said else f"it ended with status {code} and said nothing"


# --- the other process -----------------------------------------------------------------------------------------


def main(asked: str) -> int:
    """Train as asked; the exit status."""
    tell, told = _teller(), json.loads(asked)
    try:
        _train(told["corpus"], Path(told["out"]), told["settings"], tell)
    except WoodshedError as error:
        tell(failed=str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _train(corpus: str, out: Path, settings: dict, tell: Callable) -> None:
    from ..learning.train import train

    try:
        train(corpus, out, TrainSettings(**tuples(settings)), report=lambda progress: tell(progress=asdict(progress)))
    finally:
        log = out / LOG
        if log.exists():
            lines = read_log(log)
            append_log(log, {"step": lines[-1]["step"] if lines else 0} | _costs())


def _teller() -> Callable:
    """A function that writes a line of JSON to stdout. All else that is printed goes to stderr.

    When nobody reads any more, it asks the training to save and end.
    """
    channel = os.dup(1)
    os.dup2(2, 1)

    def tell(**told) -> None:
        nonlocal channel
        try:
            os.write(channel, (json.dumps(told) + "\n").encode())
        except BrokenPipeError:
            channel = os.open(os.devnull, os.O_WRONLY)
            signal.raise_signal(signal.SIGINT)

    return tell


def _costs() -> dict:
    """The log line with the processor time of this process and the most memory in bytes that it has held: resident, and
    on a CUDA device.
    """
    import torch

    found = {"peak_memory": peak_memory()}
    if torch.cuda.is_available():
        found["peak_device_memory"] = torch.cuda.max_memory_allocated()
    told = " and ".join(f"{value / 2**20:,.0f} MiB" for value in found.values() if value is not None)
    spent = time.process_time()
    message = f"processor time {spent:.0f} s, peak memory {told or 'unknown'}"
    return {"event": EVENT, "message": message, "processor_seconds": round(spent, 1)} | found


def peak_memory() -> int | None:
    """The most memory in bytes that was resident in this process; None where the system does not tell (Windows)."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):  # getrusage counts the process that started this one too
            return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def logged_costs(log: list[dict]) -> dict[str, float | None]:
    """What a run's log tells of its processes: seconds of processor time in all, and the peaks of memory in bytes."""
    found = {
        name: [line[name] for line in log if line.get(name) is not None]
        for name in ("processor_seconds", "peak_memory", "peak_device_memory")
    }
    spent = found.pop("processor_seconds")
    peaks = {name: max(values, default=None) for name, values in found.items()}
    return {"processor_seconds": sum(spent) if spent else None} | peaks


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
