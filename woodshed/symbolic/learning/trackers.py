"""Trackers: the experiment logs in which a training may be followed as well.

    wandb         RUN/wandb                        wandb sync RUN/wandb/offline-run-...
    trackio       where it keeps all its projects  trackio show --project woodshed
    tensorboard   RUN/tensorboard                  tensorboard --logdir RUN/tensorboard

Settings and curves come from transformers' own integrations. Here is decided where they go, and a callback adds what
a musician wants to know of a training: how a short take of the model sounds and looks at each evaluation.

Nothing reaches the network unless the environment asks for it (WANDB_MODE=online, TRACKIO_SPACE_ID).
"""

from __future__ import annotations

import json
import os
import time
import wave
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from transformers import TrainerCallback

from ...errors import InputError, first_line
from ...progress import Progress
from ..music.roll import draw_roll
from ..music.sound import synthesise, write_wav
from ..playing.generate import generate
from ..playing.settings import UNAIDED
from ..playing.takes import Take
from ..run import Run, read_facts
from ..tokenizers import open_tokenizer

CHORDS, BARS, SEED, TEMPERATURE = "Cmaj7 Am7 Dm7 G7", 8, 0, "1"  # of the sample takes
SHARE = 0.05  # of the training's time, at most, goes into takes
FIRST_SECONDS = 5.0  # the first take of a training may last so long
SAMPLE_RATE = 22050


class TooLate(Exception):
    """A take would need more time than there is for it."""


@dataclass(frozen=True)
class Live(Run):
    """A run while it is trained: its model is the one in memory, as it is now.

    An adapter is merged in a copy on CPU, where it then plays three times as fast; in 4 bits it cannot be.
    """

    now: Any

    def model(self, *, merge: bool = False, device: str = "cpu"):
        whole = self.now.device.type == "cpu" and not getattr(self.now, "is_quantized", False)
        if merge and whole and hasattr(self.now, "merge_and_unload"):
            return deepcopy(self.now).merge_and_unload()
        return self.now


def sample(model, folder: Path, *, deadline: float) -> Take:
    """A short take of a model in training, always of the same seed and where it knows chords over the same ones.

    It draws from a generator of its own and leaves the model as it was, in eval mode. Raises TooLate once
    `time.monotonic()` is past the deadline.
    """
    run = Live(folder, open_tokenizer(folder), read_facts(folder), folder, model)
    chords = CHORDS if run.knows_chords else None

    def watch(now: Progress) -> None:
        if time.monotonic() > deadline:
            raise TooLate

    asked = {"chords": chords, "bars": BARS, "seed": SEED, "temperature": TEMPERATURE, "takes": 1} | UNAIDED
    asked["device"] = "cpu" if model.device.type == "cpu" else "auto"  # where it is: it goes on learning there
    return generate(run, report=watch, **asked)[0]


# --- the trackers ------------------------------------------------------------------------------------------------


class Tracker(ABC):
    """One training in one tracker, begun before the Trainer's own integration and ended after it."""

    where: str  # where it goes, in a line

    @abstractmethod
    def tell(self, facts: dict) -> None:
        """What run.json says."""

    @abstractmethod
    def show(self, step: int, wav: Path, png: Path, measures: dict[str, float]) -> None:
        """A take: its sound, its piano roll and what was measured in it, named as take/notes."""

    @abstractmethod
    def close(self) -> None:
        """The end, also of a training that failed."""


class WandB(Tracker):
    """Weights & Biases. A run that is open already is used, and stays open."""

    def __init__(self, learner, folder: Path, name: str):
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":  # W&B reports errors and usage home even so; it reads this when it starts
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.wandb, self.ours = wandb, wandb.run is None
        quiet = wandb.Settings(console="off", silent=True, x_disable_stats=True)
        if self.ours:
            asked = {"project": learner.args.project, "name": name, "group": learner.args.run_name, "mode": mode}
            try:
                wandb.init(dir=str(folder), settings=quiet, **asked)
            except wandb.errors.Error as error:
                reason = f"--tracker wandb with WANDB_MODE={mode}: {first_line(error)}"
                raise InputError(f"{reason}; log in with `wandb login`, or unset WANDB_MODE to stay offline") from None
        self.run = wandb.run
        learner.args.run_name = None  # the integration warns of one that is the folder's name
        files = Path(self.run.settings.sync_dir)
        self.where = f"W&B: offline; to send it: wandb sync {files}" if mode == "offline" else f"W&B: {self.run.url}"

    def tell(self, facts: dict) -> None:
        self.run.config.update({"run": facts}, allow_val_change=True)

    def show(self, step: int, wav: Path, png: Path, measures: dict[str, float]) -> None:
        media = {"take/sound": self.wandb.Audio(str(wav)), "take/roll": self.wandb.Image(str(png))}
        self.run.log(media | measures | {"train/global_step": step})

    def close(self) -> None:
        if self.ours:
            self.run.finish()


class Trackio(Tracker):
    """Trackio: the integration begins and ends the run; a name that the project has already gets a number."""

    def __init__(self, learner, folder: Path, name: str):
        import trackio

        self.trackio, project = trackio, learner.args.project
        taken = set()
        with suppress(ValueError):  # a new project
            taken = {run.name for run in trackio.Api().runs(project)}
        names = [name, *(f"{name} {number}" for number in range(2, len(taken) + 3))]
        learner.args.run_name = next(free for free in names if free not in taken)
        self.where = f"Trackio: trackio show --project {project}"

    def tell(self, facts: dict) -> None:
        self.trackio.config.update({"run": facts}, allow_val_change=True)

    def show(self, step: int, wav: Path, png: Path, measures: dict[str, float]) -> None:
        media = {"take/sound": self.trackio.Audio(wav), "take/roll": self.trackio.Image(png)}
        self.trackio.log(media | measures | {"train/global_step": step})

    def close(self) -> None:
        if self.trackio.context_vars.current_run.get() is not None:
            self.trackio.finish()


class TensorBoard(Tracker):
    """TensorBoard: event files in the run. What a resumed training does anew takes the place of what was there."""

    def __init__(self, learner, folder: Path, name: str):
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        folder = folder / "tensorboard"
        step = learner.start
        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if folder.exists() else None)
        for callback in learner.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):
                callback.tb_writer = self.writer
        self.where = f"TensorBoard: tensorboard --logdir {folder}"

    def tell(self, facts: dict) -> None:
        self.writer.add_text("run", f"```json\n{json.dumps(facts, indent=1, ensure_ascii=False)}\n```")

    def show(self, step: int, wav: Path, png: Path, measures: dict[str, float]) -> None:
        from matplotlib.image import imread

        with wave.open(str(wav)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        mono = samples.mean(axis=1, dtype=np.float32)[None] / 32768  # (1, samples)
        self.writer.add_audio("take/sound", mono, step, sample_rate=SAMPLE_RATE)
        self.writer.add_image("take/roll", imread(png)[..., :3], step, dataformats="HWC")
        for name, value in measures.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


TRACKERS = {"wandb": WandB, "trackio": Trackio, "tensorboard": TensorBoard}


# --- in the Trainer ----------------------------------------------------------------------------------------------


class Takes(TrainerCallback):
    """Tells the tracker what is trained, and at each evaluation shows it a take.

    The first is always tried; another only while all of them together stay within their share of the time.
    """

    def __init__(self, tracker: Tracker, folder: Path):
        self.tracker, self.folder = tracker, folder
        self.began, self.spent, self.longest = time.monotonic(), 0.0, 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self.began = time.monotonic()
        self.tracker.tell(read_facts(self.folder))

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        now = time.monotonic()
        left = SHARE * (now - self.began) - self.spent
        if self.longest > left:
            return
        try:
            self._show(sample(model, self.folder, deadline=now + max(left, FIRST_SECONDS)), state.global_step)
            self.longest = time.monotonic() - now
        except TooLate:
            self.longest = 2 * (time.monotonic() - now)
        self.spent += time.monotonic() - now

    def _show(self, take: Take, step: int) -> None:
        measures = {f"take/{name}": value for name, value in take.measures.items() if np.isfinite(value)}
        with TemporaryDirectory() as folder:
            wav, png = Path(folder) / "take.wav", Path(folder) / "take.png"
            write_wav(wav, synthesise(take.score, SAMPLE_RATE), SAMPLE_RATE)
            draw_roll(take.score, png, title=f"{self.folder.name} step {step}")
            self.tracker.show(step, wav, png, measures | {"take/notes": take.notes})


@contextmanager
def tracking(learner, say: Callable[[str], None]) -> Iterator[None]:
    """The tracker that the arguments of a Learner ask for, in the block; nothing where they ask for none.

    Every start of a training is a run of its own there: one that goes on is called "NAME from step 400".
    """
    args = learner.args
    if not args.report_to:
        yield
        return
    folder = Path(args.output_dir)
    name = f"{args.run_name} from step {learner.start}" if learner.start else args.run_name
    tracker = TRACKERS[args.report_to[0]](learner, folder, name)
    say(tracker.where)
    learner.add_callback(Takes(tracker, folder))
    try:
        yield
    finally:
        tracker.close()
