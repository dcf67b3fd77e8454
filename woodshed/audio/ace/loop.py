"""The loop: steps, and what happens between them - the log, validation, takes, checkpoints."""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ...files import built, make_folder, read_object, write_file, write_object, writing
from ...jobs import enough_memory, going_on_from, remove_broken, remove_checkpoints
from ...log import LOG, append_log, draw_loss, rewind_log
from ...page import clock
from ...progress import Progress
from ..wave import write_audio
from .batches import Batch, Batches, evaluation, seed_of
from .memory import memory
from .pipeline import chosen_device, open_pipeline, timestep_law
from .run import PICTURE, STATE, Job, checkpoints
from .takes import play
from .timesteps import mix
from .tuning import OwnMask, adapter_config, add_adapter, load_adapter, make_optimizer, rate, save_adapter, trained

if TYPE_CHECKING:
    from diffusers import AceStepTransformer1DModel

OPTIMIZER = "optimizer.pt"
SAVES = 10  # in a run, where nothing else is said
DRAW_SECONDS = 60  # between two pictures of the loss


class Diverged(Exception):
    """Loss or gradient are no longer finite."""

    def __init__(self, step: int, what: str):
        self.step = step
        super().__init__(f"at step {step} {what} was no longer finite")


def velocity_errors(
    transformer: AceStepTransformer1DModel, batch: Batch, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Mean squared error of the velocity of each crop of a batch on the transformer's device, (batch,)."""
    dtype = dtype or transformer.dtype
    mixed, velocity = mix(batch.music, batch.noise, batch.t)
    t = batch.t.to(dtype)  # as it is rounded where the model plays
    heard = transformer(
        hidden_states=mixed.to(dtype),
        timestep=t,
        timestep_r=t,
        encoder_hidden_states=batch.condition.to(dtype),
        context_latents=batch.context.to(dtype),
        return_dict=False,
    )[0]
    return (heard.float() - velocity).square().mean(dim=(1, 2))


@dataclass
class State:
    """Where a run stands; every checkpoint keeps it."""

    step: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    validation: dict[str, dict[str, float]] = field(default_factory=dict)
    """The losses of every step that was validated."""


class Loop:
    """A training from the newest checkpoint of a job (or its start) to its end, or until it is stopped."""

    def __init__(self, job: Job):
        self.job, self.settings, self.out = job, job.settings, job.out
        self.device, _ = chosen_device(job.settings.device)
        AcceleratorState._reset_state(reset_partial_state=True)  # an earlier training may have computed otherwise
        asked = self.settings.precision
        half = asked == "bfloat16" or (asked == "auto" and self.device != "cpu")
        self.accelerator = Accelerator(mixed_precision="bf16" if half else "no", cpu=self.device == "cpu")
        self.dtype = torch.bfloat16 if half else torch.float32
        self.transformer = self._transformer()
        self.optimizer = make_optimizer(trained(self.transformer), self.settings)
        self.mask = OwnMask(self.transformer)
        self.batches = Batches(job.tensors, job.learned, self.settings, timestep_law(job.base))
        self.state = self._restored()
        self.drawn = time.monotonic()
        self.began = time.monotonic() - self.state.seconds

    def run(self) -> None:
        """All steps that are left."""
        state, steps = self.state, self.job.steps
        rewind_log(self.out / LOG, state.step)
        with torch.random.fork_rng():
            if not state.step:
                self._tell_size()
                self._validate()
            while state.step < steps and not self.job.stopped:
                self._step()
                if state.step == steps or self.job.stopped or self._due():
                    self._save()
        draw_loss(self.out / LOG, self.out / PICTURE, measure="loss")

    # --- setting up --------------------------------------------------------------------------------------------

    def _transformer(self):
        pipe = open_pipeline(self.job.base, device=self.device, dtype=self.dtype, parts=("transformer",))
        transformer = pipe.transformer
        with torch.random.fork_rng():
            add_adapter(transformer, adapter_config(self.settings, self.job.facts["base"]), self.settings.seed)
        if self.settings.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        return transformer.train()

    def _restored(self) -> State:
        """The state of the newest checkpoint, its adapter and optimizer loaded; what a kill left half is removed."""
        found = remove_broken(self.out, STATE, self.job.say)
        remove_checkpoints([*self.out.glob(".checkpoint-[0-9]*.tmp")], STATE, self.job.say)
        rollbacks = self.job.facts.get("rollbacks", 0)
        if not found:
            return State(rollbacks=rollbacks)
        newest = found[max(found)]
        with going_on_from(newest, "copy it again, or choose another --out"):  # older ones keep no optimizer
            load_adapter(self.transformer, newest)
            self.optimizer.load_state_dict(torch.load(newest / OPTIMIZER, map_location=self.device, weights_only=True))
            return replace(State(**read_object(newest / STATE)), rollbacks=rollbacks)

    def _tell_size(self) -> None:
        frames = max(self.job.tensors.samples[song].frames for song in self.job.learned)
        asked = round(self.settings.crop_seconds * self.job.tensors.frames_per_second)
        tokens = max(self.job.tensors.samples[song].tokens for song in self.job.learned)
        size = memory(
            self.transformer,
            self.settings,
            frames=min(asked or frames, frames),
            tokens=tokens,
            weight_bytes=self.dtype.itemsize,
            gpu=self.device != "cpu",
        )
        total = sum(parameter.numel() for parameter in self.transformer.parameters())
        count = sum(parameter.numel() for parameter in trained(self.transformer))
        self.job.facts |= {"parameters": total, "trainable": count}
        self.job.say(f"Total parameters {total:,} / Trainable parameters {count:,} ({count / total:.2%})")
        self.job.say(str(size))

    # --- a step ------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        state, settings, began = self.state, self.settings, time.monotonic()
        loss = 0.0
        for micro in range(settings.gradient_accumulation):
            number = state.step * settings.gradient_accumulation + micro
            torch.manual_seed(seed_of(settings.seed, number, 1))  # dropout
            batch = self.batches[number].to(self.device)
            part = self.errors(batch).mean() / settings.gradient_accumulation
            self.accelerator.backward(part)
            loss += part.item()
        norm = float(self.accelerator.clip_grad_norm_(trained(self.transformer), settings.max_grad_norm))
        if not math.isfinite(loss) or not math.isfinite(norm):  # before the optimizer takes it into the weights
            raise Diverged(state.step + 1, "the gradient" if math.isfinite(loss) else "the loss")
        learning_rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        state.step += 1
        state.seconds = time.monotonic() - self.began
        self._log(loss, learning_rate, norm, time.monotonic() - began)

    def _rate(self) -> float:
        peak = self.settings.learning_rate * 0.5**self.state.rollbacks
        return peak * rate(self.state.step, self.job.steps, self.settings.schedule)

    def errors(self, batch: Batch) -> torch.Tensor:
        """The errors (batch,) of what the adapter says of a batch."""
        self.mask(batch.mask)
        with self.accelerator.autocast():
            return velocity_errors(self.transformer, batch, self.dtype)

    def _log(self, loss: float, learning_rate: float, norm: float, seconds: float) -> None:
        state, job = self.state, self.job
        epoch = state.step * job.epochs_per_step
        line = {"step": state.step, "epoch": round(epoch, 3), "loss": loss, "learning_rate": learning_rate}
        append_log(self.out / LOG, line | {"grad_norm": norm, "seconds": round(state.seconds, 2)})
        left = (job.steps - state.step) * state.seconds / state.step
        text = f"epoch {epoch:.1f}  loss {loss:.3f}  {1 / max(seconds, 1e-9):.2g} steps/s  {clock(left)} left"
        job.report(Progress(state.step / job.steps, text, step=state.step, loss=loss, seconds_left=left))

    # --- between steps -----------------------------------------------------------------------------------------

    def _due(self) -> bool:
        """Whether an epoch that is to be saved has ended with this step."""
        each = self.job.epochs_per_step
        every = self.settings.save_epochs or self.job.steps * each / SAVES
        now = self.state.step * each + 1e-9
        return now // every > (now - each) // every

    def _save(self) -> None:
        self._validate()
        self._checkpoint()
        self._takes()
        if time.monotonic() - self.drawn > DRAW_SECONDS:
            draw_loss(self.out / LOG, self.out / PICTURE, measure="loss")
            self.drawn = time.monotonic()

    @contextmanager
    def playing(self) -> Iterator[None]:
        """In the block the transformer plays: no dropout, nothing kept, no random numbers taken from the training."""
        self.transformer.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng():
                yield
        finally:
            self.transformer.train()

    def _validate(self) -> None:
        """The loss on songs that are not learned, and on as many that are."""
        job, state = self.job, self.state
        if not job.measured:
            state.best_step = state.step
            return
        told = {"loss": self.measure(job.measured), "training_loss": self.measure(job.learned[: len(job.measured)])}
        state.validation[str(state.step)] = told
        if state.step and told["loss"] < state.best_loss:
            state.best_step, state.best_loss = state.step, told["loss"]
        append_log(self.out / LOG, {"step": state.step, "validation": told})
        epoch, losses = state.step * job.epochs_per_step, f"{told['training_loss']:.4f} learned, {told['loss']:.4f} not"
        job.report(Progress(message=f"epoch {epoch:.0f}: loss {losses}", step=state.step, validation=told))

    def measure(self, songs: list[int]) -> float:
        """Mean squared error over songs of the tensors, unweighted, always at the same timesteps, crops and noise."""
        with self.playing():
            batches = (batch for song in songs for batch in evaluation(self.job.tensors, song, self.settings))
            errors = [self.errors(batch.to(self.device)).item() for batch in batches]
        return sum(errors) / len(errors)

    def _takes(self) -> None:
        """Sound of as many songs as there shall be takes, first of those that are not learned."""
        settings, job = self.settings, self.job
        if not settings.takes:
            return
        folder = self.out / "takes" / f"step-{self.state.step:06d}"
        make_folder(folder)
        helpers = open_pipeline(job.base, device=self.device, dtype=self.dtype, parts=("vae",))
        self.mask(None)
        for number in range(settings.takes):
            songs = job.measured + job.learned
            song, seed = songs[number % len(songs)], seed_of(settings.seed, number, 2)
            told = {"song": song, "seconds": settings.take_seconds, "seed": seed}
            remedy = "go on with --resume and fewer --take-seconds, or --takes 0"
            with self.playing(), self.accelerator.autocast(), enough_memory("for a take on the way", remedy):
                audio = play(self.transformer, helpers.vae, helpers.scheduler, job.tensors, **told)
            facts = {"prompt": job.tensors.samples[song].facts, "seed": seed, "step": self.state.step}
            write_audio(folder / f"{number + 1}.wav", audio)
            write_object(folder / f"{number + 1}.json", facts)

    def _checkpoint(self) -> None:
        """Save adapter, optimizer and state, whole or not at all; then remove what older ones need no more."""
        place = self.out / f"checkpoint-{self.state.step:06d}"
        with writing(place), built(place) as half:
            save_adapter(self.transformer, half)
            memory = io.BytesIO()  # torch's own writer tells a full disk as an error of its zip file
            torch.save(self.optimizer.state_dict(), memory)
            write_file(half / OPTIMIZER, memory.getbuffer())
            write_object(half / STATE, asdict(self.state))
            if os.path.lexists(place):
                remove_checkpoints([place], STATE, self.job.say)
        self._prune()

    def _prune(self) -> None:
        found = checkpoints(self.out)
        stay = {*[*found][-self.settings.keep_checkpoints :], self.state.best_step}
        remove_checkpoints([path for step, path in found.items() if step not in stay], STATE, self.job.say)
        for path in (found[step] for step in stay & found.keys() - {max(found)}):
            if not path.is_symlink():  # what a link leads to is somebody's own
                with suppress(OSError):
                    (path / OPTIMIZER).unlink()
