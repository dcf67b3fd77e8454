"""A run on disk.

generator.safetensors                  what plays: the moving average of the generator's weights
run.json                               our facts: codec and its fingerprint, shape, settings, base, signs of recordings
manifest.json  profile.safetensors     which recordings it has learned from; what their latents are like
codec/                                 a copy of its codec, whatever becomes of that
log.jsonl  progress.png  samples/      how it was trained, and what it played on the way
takes/  evaluations/
latents/  checkpoint-*/  heard.json    private to the machine that trains: latents; all weights, optimizers, course;
                                       how loud and long the recordings are
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...errors import RunError, first_line
from ...files import found_from, local, make_folder, new_folder, read_object, seen_from, write_object
from ...jobs import FACTS, checkpoints_with, going_on_from, remove_checkpoints
from ..codecs import FACTS as CODEC_FACTS
from ..codecs import Codec, open_codec
from ..tensor_files import write_tensors
from .health import Pulse
from .networks import Generator
from .step import Players, from_tensors, to_tensors

WEIGHTS, STATE = "generator.safetensors", "state.safetensors"
COURSE, CODEC = "course.json", "codec"
KNOWN = {"codec", "shape", "settings", "finished"}


@dataclass(frozen=True)
class Run:
    """A trained generator and the codec it speaks to. `facts` is run.json."""

    folder: Path
    facts: dict
    codec: Codec

    @property
    def window(self) -> int:
        return self.facts["shape"]["window"]

    def step(self, checkpoint: int | None = None) -> int:
        """The step of a checkpoint, or the one it has come to."""
        return self.facts["step"] if checkpoint is None else checkpoint

    def generator(self, step: int | None = None) -> Generator:
        """The network that plays, in eval mode; or as it was at one of the checkpoints."""
        shape = self.facts["shape"]
        network = Generator(self.codec.latent_dim, shape["base_channels"], shape["window"] // 2)
        if step is None:
            weights = read_tensors(self.folder / WEIGHTS)
        else:
            path = checkpoint(self.folder, step)
            found = read_tensors(path / STATE).items()
            weights = {name.removeprefix("average."): value for name, value in found if name.startswith("average.")}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise RunError(self.folder, f"its weights do not fit its run.json ({first_line(error)})") from None
        return network.eval().requires_grad_(False)


def open_run(folder: str | Path, *, codec: Codec | str | Path | None = None) -> Run:
    """Open a run with its codec (by default its own copy, or from where run.json says it is).

    Raises RunError for a folder that is no run, and for a codec other than the one it was trained with.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    if codec is None:
        codec = open_codec(place_of_codec(folder, facts), fetch=False)
    codec = open_codec(codec) if isinstance(codec, str | Path) else codec
    refuse_other_codec(folder, facts, codec)
    return Run(folder, facts, codec)


def place_of_codec(folder: Path, facts: dict) -> str | Path:
    """The run's own copy, else the codec's folder or id. Raises RunError where a folder is gone."""
    if (folder / CODEC / CODEC_FACTS).exists():
        return folder / CODEC
    place = facts["codec"]["place"]
    if (found := local(folder, place)) is None:
        return place
    if not found.exists():
        raise RunError(folder, f"its codec is not at {found}; put it back there, or say where it is with --codec")
    return found


def keep_codec(codec: Codec, out: Path) -> None:
    """A copy of the codec in the run, so that it plays when the codec has been moved, or trained further."""
    if not (out / CODEC / CODEC_FACTS).exists():
        with new_folder(out / CODEC):
            codec.save(out / CODEC)


def lineage(run: Run) -> Iterator[Path]:
    """The folder of a run, of its base, of that one's base. Raises RunError where one is not there any more."""
    folder, facts = run.folder, run.facts
    yield folder
    while facts.get("base") is not None:
        base = found_from(folder, facts["base"])
        if not (base / FACTS).exists():
            raise RunError(
                run.folder, f"what it has learned from is unknown without its base, {base}; put it back there"
            )
        folder, facts = base, read_facts(base)
        yield folder


def refuse_other_codec(folder: Path, facts: dict, codec: Codec) -> None:
    wanted = facts["codec"]
    if codec.fingerprint != wanted["fingerprint"]:
        reason = f"it speaks to codec {wanted['fingerprint']} ({wanted['place']}), this is {codec.fingerprint}"
        own = f", {folder / CODEC}" if (folder / CODEC / CODEC_FACTS).exists() else ""
        raise RunError(folder, f"{reason}; give its own with --codec{own}")


def read_facts(folder: Path) -> dict:
    """run.json, or a RunError."""
    remedy = "make one with woodshed audio gan train"
    try:
        facts = read_object(folder / FACTS)
    except (OSError, ValueError) as error:
        raise RunError(folder, f"not a run: {FACTS} cannot be read ({error}); {remedy}") from None
    if not facts.keys() >= KNOWN:
        raise RunError(folder, f"not a run of a GAN: {FACTS} does not hold {', '.join(sorted(KNOWN))}; {remedy}")
    return facts


def write_facts(folder: Path, facts: dict) -> None:
    write_object(folder / FACTS, facts)


def codec_facts(codec: Codec, place: str | Path, out: Path) -> dict:
    """What run.json says of a codec; a local folder as seen from the run, so that both can move together."""
    names = ("fingerprint", "kind", "sample_rate", "channels", "latent_rate", "latent_dim")
    known = {name: getattr(codec, name) for name in names}
    return {"place": seen_from(out, place) if place and Path(place).is_dir() else str(place)} | known


# --- checkpoints -------------------------------------------------------------------------------------------------


@dataclass
class Course:
    """What a run has come to; every checkpoint keeps it."""

    rate: float
    asked: float = 0.0  # the rate of the settings when this one was set; 0 is not known
    forgiven: int = 0  # rollbacks when a rate was last asked for: only later ones count towards the end
    step: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    retried: bool = False  # whether a rollback has led here before
    sounded: bool = False  # whether its samples have been healthy once
    age: int = 0  # steps, those of the base included
    switch: float = -1.0
    pulse: Pulse = field(default_factory=Pulse)


def checkpoints(folder: Path) -> dict[int, Path]:
    """The complete checkpoints of a run by step: those with their course, which is written last."""
    return checkpoints_with(folder, COURSE)


def checkpoint(folder: Path, step: int) -> Path:
    found = checkpoints(folder)
    if step not in found:
        raise RunError(folder, f"it has no checkpoint {step}; choose from: {', '.join(map(str, found)) or 'none'}")
    return found[step]


def save_checkpoint(out: Path, players: Players, course: Course, *, keep: int, say: Callable[[str], None]) -> None:
    """All that training changes; older checkpoints beyond `keep` go, and `say` is told of those that do not."""
    folder = out / f"checkpoint-{course.step}"
    course.age, course.switch = players.age, players.switch
    make_folder(folder)
    write_tensors(folder / STATE, to_tensors(players))
    write_course(folder, course)
    remove_checkpoints(list(checkpoints(out).values())[:-keep], COURSE, say)


def load_checkpoint(folder: Path, players: Players) -> Course:
    """Put a checkpoint's weights and optimizers into the players; its course."""
    course = read_course(folder)
    with going_on_from(folder):
        from_tensors(players, load_file(folder / STATE))
    players.switch, players.age = course.switch, course.age
    return course


def read_course(folder: Path) -> Course:
    """The course that a checkpoint keeps, or a RunError."""
    with going_on_from(folder):
        saved = read_object(folder / COURSE)
        return Course(**saved | {"pulse": Pulse(**saved["pulse"])})


def write_course(folder: Path, course: Course) -> None:
    write_object(folder / COURSE, asdict(course))


def publish(out: Path, players: Players, facts: dict) -> None:
    """Write what plays: the moving average of the generator, and run.json."""
    write_tensors(out / WEIGHTS, players.average.state_dict())
    write_facts(out, facts)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or a RunError."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(path, f"missing or damaged ({error}); copy it again, or go on training with --resume") from None
