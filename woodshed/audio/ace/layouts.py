"""How programs write an adapter for ACE-Step 1.5, and one way to read them all.

    run of ours, PEFT    adapter_config.json, adapter_model.safetensors   layers.0.self_attn.to_q.lora_A.weight
    ACE-Step, Side-Step  the same files, also in adapter/, final/adapter/ base_model.model. ... .q_proj.lora_A.weight
    diffusers            pytorch_lora_weights.safetensors, alpha inside   transformer. ... .to_q.lora_A.weight
    LyCORIS              lokr_weights.safetensors                         lycoris_layers_0_self_attn_q_proj.lokr_w1
    ComfyUI              one .safetensors of any name                     as these, or diffusion_model.decoder. ...

ACE-Step calls the projections q_proj, k_proj, v_proj and o_proj, diffusers to_q, to_k, to_v and to_out.0.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FileError, InputError, RunError
from ...files import object_of, read_object
from ..wave import digest_of
from .run import FACTS, checkpoints

if TYPE_CHECKING:
    import torch

CONFIG, PEFT, LYCORIS = "adapter_config.json", "adapter_model.safetensors", "lokr_weights.safetensors"
DIFFUSERS, DIFFUSERS_CONFIG = "pytorch_lora_weights.safetensors", "lora_adapter_metadata"
FOLDERS = (".", "adapter", "final", "final/adapter")  # where an adapter may lie in a folder
PICKLES = (".bin", ".pt", ".pth", ".ckpt")

NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "o_proj": "to_out.0"}
WHOLE = {"proj_in.1": "proj_in_conv", "proj_out.1": "proj_out_conv"}
PREFIXES = ("base_model.model.", "diffusion_model.", "decoder.", "transformer.")
FLAT = re.compile(r"(?:lycoris|lora_unet)_(?:decoder_)?(.+)")
LAYER = re.compile(r"layers_(\d+)_(self_attn|cross_attn|mlp)_(.+)")
KEY = re.compile(
    r"(?P<module>.+?)\.(?:(?P<lora>lora_A|lora_B|lora_down|lora_up)(?:\.\w+)?\.weight"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.\w+)*"
    r"|(?P<lokr>lokr_w[12](?:_[ab])?)(?:\.\w+)?|(?P<alpha>alpha))"
)
PARTS = {"lora_A": "A", "lora_down": "A", "lora_B": "B", "lora_up": "B", "lora_magnitude_vector": "magnitude"}
FOREIGN = {"hada_": "LoHa", "oft_": "OFT", "ia3_": "IA3", "vera_": "VeRA", "lokr_t2": "LoKr of convolutions"}


@dataclass(frozen=True)
class Adapter:
    """What a training changes of a base: for each module, named as diffusers names it, its weights and their factor.

    lora: A (rank, in), B (out, rank); dora: magnitude (out,) besides; lokr: lokr_w1, lokr_w2, or _a and _b of them.
    """

    path: Path
    kind: str  # lora, dora or lokr
    modules: dict[str, dict[str, torch.Tensor]] = field(repr=False)
    scaling: dict[str, float] = field(repr=False)  # alpha / rank
    digest: str  # of the file of weights
    facts: dict = field(default_factory=dict, repr=False)  # run.json, where it is a run of ours
    remarks: tuple[str, ...] = ()

    def shape(self, module: str) -> tuple[int, int]:
        """The weight that the module changes, (out, in)."""
        parts = self.modules[module]
        if self.kind != "lokr":
            return parts["B"].shape[0], parts["A"].shape[1]
        (a, b), (c, d) = (factor_shape(parts, name) for name in ("lokr_w1", "lokr_w2"))
        return a * c, b * d

    def change(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """What it adds to a weight (out, in) at scale 1."""
        import torch

        parts = {part: tensor.float() for part, tensor in self.modules[module].items()}
        if self.kind == "lokr":
            return self.scaling[module] * torch.kron(*(factor(parts, name) for name in ("lokr_w1", "lokr_w2")))
        added = self.scaling[module] * parts["B"] @ parts["A"]
        if self.kind == "lora":
            return added
        lengths = (weight + added).norm(dim=1)
        return (parts["magnitude"] / lengths)[:, None] * (weight + added) - weight


def ranks_for_peft(adapter: Adapter, naming: Callable[[str], str] = str) -> dict[str, Any]:
    """The settings of PEFT's LoraConfig by which each module of a LoRA or DoRA has its own rank and factor."""
    ranks = {naming(module): parts["A"].shape[0] for module, parts in adapter.modules.items()}
    alphas = {naming(module): said * len(adapter.modules[module]["A"]) for module, said in adapter.scaling.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: own for name, own in ranks.items() if own != rank},
        "alpha_pattern": {name: own for name, own in alphas.items() if own != alpha},
        "target_modules": list(ranks),
        "use_dora": adapter.kind == "dora",
    }


def factor(parts: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """One of the two factors of a LoKr, whole."""
    return parts[name] if name in parts else parts[f"{name}_a"] @ parts[f"{name}_b"]


def factor_shape(parts: dict[str, torch.Tensor], name: str) -> tuple[int, int]:
    if name in parts:
        return tuple(parts[name].shape)
    return parts[f"{name}_a"].shape[0], parts[f"{name}_b"].shape[1]


def lokr_rank(parts: dict[str, torch.Tensor]) -> int | None:
    """The rank of a LoKr, None where both of its factors are whole."""
    return next((parts[name].shape[0] for name in ("lokr_w1_b", "lokr_w2_b") if name in parts), None)


def read_adapter(path: str | Path) -> Adapter:
    """An adapter in any layout, from a folder or a file, on the CPU.

    Raises FileError where there is none, and RunError for one that is no LoRA, DoRA or LoKr, is not whole, or comes
    without the alpha it was trained with.
    """
    found = _opened(Path(path))
    modules, alphas, names = _sorted(found.place, found.tensors)
    kind = _kind(found.place, modules)
    scaling = {
        module: _scaling(found, kind, parts, names[module], alphas.get(module)) for module, parts in modules.items()
    }
    remarks = (_without_alpha(found),) if any(map(math.isnan, scaling.values())) else ()
    scaling = {module: 1.0 if math.isnan(said) else said for module, said in scaling.items()}
    return Adapter(found.place, kind, modules, scaling, digest_of(found.file), _facts(found.file), remarks)


# --- files -----------------------------------------------------------------------------------------------------


def find_weights(place: Path) -> Path:
    """The file of weights that a path means: itself, or the one in a folder."""
    if place.is_file():
        if place.suffix in PICKLES:
            raise FileError(place, "only safetensors are read, since a pickle may run any program; convert it first")
        return place
    if not place.is_dir():
        raise FileError(place, "there is no such adapter; give the folder of a run, or a .safetensors file")
    for folder in FOLDERS:
        for name in (PEFT, LYCORIS, DIFFUSERS):
            if (place / folder / name).is_file():
                return place / folder / name
    single = sorted(place.glob("*.safetensors"))
    if len(single) == 1:
        return single[0]
    if single:
        raise InputError(f"{place} holds {len(single)} .safetensors files; give one of them, as {single[0]}")
    if (place / FACTS).is_file():
        found = checkpoints(place)
        told = f"give its newest checkpoint, {found[max(found)]}, or go on" if found else "go on"
        raise RunError(place, f"its training has not come to the end; {told} with woodshed audio ace train --resume")
    pickled = [found for kind in PICKLES for found in place.glob(f"*{kind}")]
    more = f"; {pickled[0].name} is a pickle, which may run any program" if pickled else ""
    raise RunError(place, f"it holds no adapter ({PEFT}, {LYCORIS} or another .safetensors){more}")


@dataclass(frozen=True)
class _File:
    """A file of weights, and what is said of them beside it or inside."""

    place: Path
    file: Path
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]
    config: dict  # PEFT's; empty where there is none


def _opened(place: Path) -> _File:
    from safetensors import SafetensorError, safe_open

    file = find_weights(place)
    try:
        with safe_open(file, framework="pt") as opened:
            keys = opened.keys()
            tensors, metadata = {key: opened.get_tensor(key) for key in keys}, opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FileError(file, f"cannot be read as safetensors: {error}; copy it again") from None
    beside = file.with_name(CONFIG)
    config = _json(beside) if beside.is_file() else _json(file, metadata.get(DIFFUSERS_CONFIG, "{}"))
    config = {key.removeprefix("transformer."): value for key, value in config.items()}
    return _File(place, file, tensors, metadata, config if config.keys() & {"peft_type", "r"} else {})


def _facts(file: Path) -> dict:
    """run.json of the run that the weights, or their checkpoint, lie in, where it is one of ours."""
    folder = file.parent.parent if file.parent.name.startswith("checkpoint-") else file.parent
    return _json(folder / FACTS) if (folder / FACTS).is_file() else {}


def _json(path: Path, text: str | None = None) -> dict:
    """The JSON object of a file, or in a text out of it."""
    try:
        return read_object(path) if text is None else object_of(text)
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot be read: {error}; copy it again") from None


# --- keys ------------------------------------------------------------------------------------------------------


def module_name(name: str) -> str:
    """A module of ACE-Step's transformer as diffusers names it, whoever named it."""
    shortened = True
    while shortened:
        shortened = [name := name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)]
    if flat := FLAT.fullmatch(name):
        name = _dotted(flat[1])
    head, dot, last = name.rpartition(".")
    return WHOLE.get(name) or head + dot + NAMES.get(last, last)


def _dotted(flat: str) -> str:
    """`layers_0_self_attn_q_proj` with its dots back; both spellings of the projections occur."""
    if layer := LAYER.fullmatch(flat):
        return ".".join((f"layers.{layer[1]}", layer[2], layer[3].replace("to_out_0", "to_out.0")))
    return re.sub(r"^(time_embed(?:_r)?|proj_in|proj_out)_(?=linear|time_proj|1)", r"\1.", flat)


def ace_name(module: str) -> str:
    """A module as ACE-Step, Side-Step and ComfyUI name it."""
    for theirs, ours in (*NAMES.items(), *WHOLE.items()):
        module = re.sub(rf"(^|\.){re.escape(ours)}$", rf"\g<1>{theirs}", module)
    return module


def _sorted(place: Path, tensors: dict[str, torch.Tensor]):
    """Weights and alphas by module, and the name that the file has for each; a key that is unknown is a RunError."""
    modules, alphas, names = defaultdict(dict), {}, {}
    for key, tensor in tensors.items():
        found = KEY.fullmatch(key)
        if not found:
            raise RunError(place, _unknown(key))
        module = module_name(found["module"])
        if found["alpha"] and tensor.numel() == 1:
            alphas[module] = float(tensor)
            continue
        if found["alpha"]:
            raise RunError(place, f"its {key} is not one number; write it anew from its training")
        part = found["lokr"] or PARTS[found["lora"] or found["magnitude"]]
        if part in modules[module]:
            raise RunError(place, f"it has {module} twice, once as {key}; write it anew from its training")
        modules[module][part] = tensor
        names[module] = found["module"]
    if not modules:
        raise RunError(place, f"it holds no weights of an adapter, but {len(tensors)} other tensors")
    if lonely := alphas.keys() - modules.keys():
        raise RunError(place, f"it has an alpha of {min(lonely)}, but no weights; copy the file again")
    return dict(modules), alphas, names


def _unknown(key: str) -> str:
    if key.endswith("dora_scale"):
        return "it is a DoRA in LyCORIS' layout, which peft cannot repeat; train with weight_decompose off"
    kind = next((name for mark, name in FOREIGN.items() if mark in key), None)
    known = "Woodshed plays LoRA, DoRA and LoKr"
    return f"it is a {kind} adapter; {known}" if kind else f"its key {key} belongs to no adapter; {known}"


def _kind(place: Path, modules: dict[str, dict]) -> str:
    """lora, dora or lokr; an adapter that is not whole, or is a mixture, is a RunError."""
    kinds = set()
    for module, parts in modules.items():
        have = set(parts)
        if have in ({"A", "B"}, {"A", "B", "magnitude"}):
            fits = parts["A"].shape[0] == parts["B"].shape[1]
            kinds.add("dora" if "magnitude" in have else "lora")
        else:
            whole = [{name} <= have or {f"{name}_a", f"{name}_b"} <= have for name in ("lokr_w1", "lokr_w2")]
            fits = all(whole) and all(part.startswith("lokr_") for part in have)
            kinds.add("lokr")
        axes = all(tensor.ndim == (1 if part == "magnitude" else 2) for part, tensor in parts.items())
        if not fits or not axes or not all(tensor.numel() for tensor in parts.values()):
            raise RunError(place, f"{module} is not whole, it has {', '.join(sorted(have))}; copy the file again")
    if len(kinds) > 1:
        raise RunError(place, f"it is a mixture of {' and '.join(sorted(kinds))}; write it anew from its training")
    return kinds.pop()


# --- alpha -----------------------------------------------------------------------------------------------------


def _scaling(found: _File, kind: str, parts: dict, name: str, alpha: float | None) -> float:
    """The factor that its training multiplied the weights of a module with; nan where nothing says it."""
    rank = lokr_rank(parts) if kind == "lokr" else parts["A"].shape[0]
    if found.config and alpha is None:
        return _by_config(found, kind, name, rank)
    if rank is None:
        return 1.0  # LyCORIS ignores alpha where both factors are whole
    said = found.metadata.get("ss_network_alpha", "") if alpha is None else alpha
    try:
        return float(said) / rank
    except ValueError:
        return math.nan


def _by_config(found: _File, kind: str, name: str, rank: int | None) -> float:
    """alpha / rank as PEFT's config says, which may hold patterns for some modules."""
    config, place = found.config, found.place
    try:
        alpha = _matching(config.get("alpha_pattern"), name, config.get("alpha" if kind == "lokr" else "lora_alpha"))
        said = _matching(config.get("rank_pattern"), name, config.get("r"))
    except re.error as error:
        raise RunError(place, f"{CONFIG} holds a pattern that is none: {error}") from None
    if not (isinstance(alpha, int | float) and isinstance(said, int) and said > 0):
        raise RunError(place, f"its {CONFIG} names no alpha or no rank; copy it from where the weights come from")
    if rank is not None and rank != said:
        raise RunError(place, f"{CONFIG} says rank {said}, {name} has rank {rank}: they are of two trainings")
    return alpha / (math.sqrt(said) if config.get("use_rslora") else said)


def _matching(pattern: dict | None, name: str, default):
    """The value of the first pattern that fits the end of a module's name, as PEFT looks it up."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


def _without_alpha(found: _File) -> str:
    """What to say of weights whose strength nobody tells; of PEFT's own file a RunError, for its config is lost."""
    if found.file.name == PEFT:
        reason = f"{CONFIG} is missing, and with it the alpha that says how strong it is"
        raise RunError(found.place, f"{reason}; copy it from where {PEFT} comes from")
    return f"{found.file.name} names no alpha: it plays at alpha = rank, as in ComfyUI"
