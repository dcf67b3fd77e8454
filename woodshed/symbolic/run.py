"""A run is a folder: a trained model with all that is needed to use it, in the Hugging Face layout.

config.json  generation_config.json        the architecture
model.safetensors                          the weights; or, of an adapter over a base,
adapter_config.json  adapter_model.safetensors
tokenizer.json                             what the ids mean
run.json                                   our facts: versions, fingerprints, settings, validation, base
log.jsonl  loss.png  README.md  takes/     how it was trained, a model card, what it has played
checkpoint-*/                              private to the machine that trains: optimizer, scheduler, random state

open_run("my-style") -> Run                run.model() -> PreTrainedModel
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import menu
from ..errors import FileError, RunError, first_line
from ..files import (
    local,
    object_in,
    read_object,
    sha256_of,
    unread,
    write_object,
    writing,
)
from ..jobs import FACTS, checkpoint_folders, quiet
from . import bases
from .tokenizers import Tokenizer, open_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KNOWN = {"tokenizer", "corpus", "base", "settings", "finished"}  # what run.json says from the start
CONFIG = "config.json"
ADAPTER = "adapter_config.json"
PATTERNS = ["*.json", "*.safetensors"]  # what is fetched of a base
STATE = "trainer_state.json"  # of a checkpoint


@dataclass(frozen=True)
class Run:
    """A trained model on disk. `facts` is run.json; `weights` the folder the weights are read from."""

    folder: Path
    tokenizer: Tokenizer
    facts: dict
    weights: Path

    @property
    def place(self) -> Path:
        """Where what is made with it goes: its folder; for a base of the package a folder of its name where you are."""
        return Path(self.folder.name) if self.folder.parent == bases.FOLDER else self.folder

    @property
    def music(self) -> dict:
        """What is usual in the music that it has learned."""
        return self.facts.get("music", {})

    @property
    def knows_chords(self) -> bool:
        """Whether there were chords in what it has learned."""
        return self.music.get("chords", self.tokenizer.knows_chords)

    @property
    def row_length(self) -> int:
        """Ids in a row: as many as it was trained with."""
        return self.facts["settings"]["max_seq_len"]

    def model(self, *, merge: bool = False, device: str = "cpu") -> PreTrainedModel:
        """Load the weights, ready to generate; an adapter over its base, or merged into it. All in float32.

        Every call reads them anew. A RunError names a base that is missing or has changed; a base that was in 4 bits
        needs bitsandbytes (MissingExtra).
        """
        if not (self.weights / ADAPTER).exists():
            return load_model(self.weights, device=device)
        from .models._layers import attach, round_to_4bit

        model = load_base(own_base(self.folder, self.facts), self.tokenizer, device=device)
        if self.facts["settings"].get("load_in_4bit"):
            round_to_4bit(model)
        with quiet("transformers"):
            return attach(model, self.weights, merge=merge)


def located(name: str | Path) -> Path:
    """The folder of a run: the one that is named, or where that is none, of the base model of that name."""
    folder = Path(name)
    return folder if (folder / FACTS).exists() else bases.find(str(name)) or folder


def open_run(folder: Run | str | Path, checkpoint: int | None = None) -> Run:
    """Open a run, one of its checkpoints (by step), or a base model by its name; one that is open already is answered.

    No weights are loaded yet; the files are checked.

    Raises RunError for a folder that is not a run, training that has not finished (unless a checkpoint is chosen),
    tokens that are not those of the weights, truncated weights and a missing base.
    """
    if isinstance(folder, Run):
        return folder
    folder = located(folder)
    facts = read_facts(folder)
    tokenizer = open_tokenizer(folder)
    if tokenizer.fingerprint != facts["tokenizer"]:
        reason = f"its tokenizer is {tokenizer.fingerprint}, its weights were trained on {facts['tokenizer']}"
        raise RunError(folder, f"{reason}; restore its own tokenizer.json and tokenizer_config.json")
    weights = folder if checkpoint is None else _checkpoint(folder, checkpoint)
    chosen = f"with generate, rank and evaluate choose a --checkpoint: {_steps(folder)}"
    check_weights(weights, f"train it to the end (--resume), or {chosen}")
    if (weights / ADAPTER).exists() and local(folder, facts["base"]):
        find_base(facts["base"], folder)
    return Run(folder, tokenizer, facts, weights)


def read_facts(folder: Path) -> dict:
    """run.json, or a RunError."""
    try:
        facts = read_object(folder / FACTS)
    except (OSError, ValueError) as error:
        told = f"not a run: {unread(folder, FACTS, error)}; woodshed train makes one"
        raise RunError(folder, f"{told}, base models: {', '.join(bases.newest()) or 'none'}") from None
    if not facts.keys() >= KNOWN:
        raise RunError(folder, f"not a run: {FACTS} does not hold {', '.join(sorted(KNOWN))}")
    return facts


def write_facts(folder: Path, facts: dict) -> None:
    """Write run.json. Raises FileError where the disk refuses."""
    write_object(folder / FACTS, facts)


def checkpoints(folder: Path) -> dict[int, Path]:
    """The complete checkpoints of a run by step: those whose state, which the Trainer writes last, is of the step that
    they are named by. (One that is named otherwise is a copy of the user's.)"""
    return {step: path for step, path in checkpoint_folders(folder).items() if saved_step(path) == step}


def saved_step(checkpoint: Path) -> int | None:
    """The step whose state a checkpoint holds; None for one that is not complete."""
    return object_in(checkpoint / STATE).get("global_step")


def _steps(folder: Path) -> str:
    return ", ".join(map(str, checkpoints(folder))) or "there is none"


def _checkpoint(folder: Path, step: int) -> Path:
    found = checkpoints(folder)
    if step not in found:
        raise RunError(folder, f"it has no checkpoint {step}; choose from: {_steps(folder)}")
    return found[step]


# --- weights ---------------------------------------------------------------------------------------------------


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a folder, without what macOS puts beside files on some disks: `._model.safetensors`."""
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Whatever keeps the block from writing weights into a folder, a full disk, is a FileError."""
    from safetensors import SafetensorError

    with writing(folder):
        try:
            yield
        except SafetensorError as error:
            told = str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
            raise FileError(folder, f"cannot be written: {told}") from None


def check_weights(folder: Path, remedy: str) -> None:
    """A RunError unless the folder holds safetensors that are whole (header and length are read, not the tensors)."""
    from safetensors import SafetensorError, safe_open

    files = weight_files(folder)
    if not files:
        raise RunError(folder, f"it holds no weights (*.safetensors); {remedy}")
    for file in files:
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise RunError(file, f"truncated or damaged ({error}); copy it again, or {remedy}") from None


def weights_digest(folder: Path) -> str:
    """Twelve hex digits over the weights of a folder; an adapter fits only the base it was trained on."""
    return sha256_of(*weight_files(folder))[:12]


def load_model(folder: Path, *, device: str = "cpu") -> PreTrainedModel:
    """A whole model from a local folder of the Hugging Face layout, float32, in eval mode.

    Raises RunError for a model that cannot be loaded, or of which tensors are missing or have another shape.
    """
    import torch

    from .models._attention import attention_for

    try:
        kind = _model_class(folder)
        with quiet("transformers"):
            asked = {"use_safetensors": True, "local_files_only": True, "dtype": torch.float32}
            asked |= {"trust_remote_code": False}  # else transformers asks the user whether to run it
            # transformers would fill up what is not there at random, with a mere warning
            asked |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
            model, told = kind.from_pretrained(folder, **asked)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(folder, f"its model cannot be loaded ({first_line(error)})") from None
    if lacking := sorted({*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])}):
        more = f" (and {len(lacking) - 1} more)" * (len(lacking) > 1)
        raise RunError(folder, f"of its weights {lacking[0]}{more} is missing or has another shape; copy it again")
    if model._supports_sdpa:
        model.set_attn_implementation(attention_for(device))
    # PEFT would look this name up on the Hub at every save
    model.name_or_path = model.config._name_or_path = ""
    model.config.use_cache = False  # see models.make: with a cache, pieces in one row would see each other
    return model.to(device)


def _model_class(folder: Path):
    """Our own class for a model of the menu, transformers' for any other."""
    from transformers import AutoModelForCausalLM

    from . import models

    kind = _config(folder).get("model_type")
    classes = (menu.load(models.__name__, name, "model").MODEL for name in models.names())
    return next((own for own in classes if own.config_class.model_type == kind), AutoModelForCausalLM)


# --- bases -----------------------------------------------------------------------------------------------------


def find_base(base: str, folder: Path, *, fetch: bool = False) -> Path:
    """The local folder of the `base` of the run in `folder`: a run, a folder of the Hugging Face layout, a base of the
    package by its name, or the snapshot of a Hugging Face id.

    Only `fetch` downloads that, its JSON and safetensors: for an id that the user has typed, not one that a run names.
    A RunError where there is no such thing, or no network to get it.
    """
    path = local(folder, base)
    if path is not None and not path.is_dir():
        raise RunError(folder, f"its base is not at {path}; put it back there")
    path = path or bases.find(base) or (_snapshot(base) if fetch else _fetched(base, folder))
    check_weights(path, "name another with --base" if fetch else "put the base back there")
    return path


def _fetched(name: str, folder: Path) -> Path:
    """The snapshot of a Hugging Face id that is on this machine."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS, local_files_only=True))
    except (OSError, ValueError):
        told = f"its base {name} is not on this machine; if you trust it: hf download {name}"
        raise RunError(folder, told) from None


def _snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    except (OSError, ValueError, HTTPError) as error:
        ours = ", ".join(bases.names()) or "there are none"
        told = f"no folder of that name, no base model ({ours}), and Hugging Face does not give it"
        told += f" ({first_line(error)})"
        raise RunError(name, f"{told}; check the name, go online once to fetch it, or give a local folder") from None


def own_base(folder: Path, facts: dict) -> Path:
    """The base that an adapter was made for. A RunError where it is missing, or has other weights now."""
    base = find_base(facts["base"], folder)
    if (found := weights_digest(base)) != facts["base_weights"]:
        reason = f"its base {base} has other weights than it was trained on ({found}, not {facts['base_weights']})"
        raise RunError(folder, f"{reason}; put those back, or train it again")
    return base


def base_run(run: Run) -> Run | None:
    """The base of a run as a run of the same tokens; None where it has none, or one that is no such run."""
    if not run.facts["base"]:
        return None
    folder = own_base(run.folder, run.facts)
    if not (folder / FACTS).exists():
        return None
    base = open_run(folder)
    return base if base.tokenizer.fingerprint == run.tokenizer.fingerprint else None


def longest(base: Path) -> int | None:
    """The longest row, in ids, that a base takes; None where its configuration sets no limit."""
    config = _config(base)
    return config.get("max_position_embeddings") or config.get("n_positions")


def _config(folder: Path) -> dict:
    try:
        return read_object(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise RunError(folder, f"its {CONFIG} cannot be read ({error}); copy it again") from None


def load_base(base: Path, tokenizer: Tokenizer, *, device: str = "cpu") -> PreTrainedModel:
    """A base as one whole model: adapters merged, and embeddings grown where a foreign vocabulary is smaller."""
    if (base / ADAPTER).exists():
        return open_run(base).model(merge=True, device=device)
    model = load_model(base, device=device)
    if model.config.vocab_size < tokenizer.vocab_size:
        with quiet("transformers"):
            model.resize_token_embeddings(tokenizer.vocab_size)
    return model
