"""A checkpoint becomes the run: its weights, configuration, facts and model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ...files import holds, local, read_object, replacing, write_file, write_object, writing
from ..run import ADAPTER, Run, open_run, read_facts, weight_files, write_facts
from ..tokenizers import BOS, EOS, PAD


def publish(folder: Path, checkpoint: Path, facts: dict, config) -> Run:
    """Make the weights of a checkpoint the run's own, with config, generation config, facts and model card.

    A model card that somebody has edited stays as it is.
    """
    from transformers import GenerationConfig

    with writing(folder):
        config.save_pretrained(folder)
        GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD).save_pretrained(folder)
        (folder / "takes").mkdir(exist_ok=True)
    for file in weight_files(checkpoint):
        with replacing(folder / file.name) as temporary:
            shutil.copyfile(file, temporary)
    if (checkpoint / ADAPTER).exists():
        adapter = read_object(checkpoint / ADAPTER)
        write_object(folder / ADAPTER, adapter | {"base_model_name_or_path": facts["base"]})
    card = folder / "README.md"
    if not card.exists() or _untouched(card):
        write_file(card, _card(facts))
    write_facts(folder, facts)
    return open_run(folder)


def _untouched(card: Path) -> bool:
    """Whether a model card is still what the run.json beside it says."""
    try:
        ours = _card(read_facts(card.parent))
    except KeyError:  # nothing was published yet
        return False
    return holds(card, ours)


def _card(facts: dict) -> str:
    """The model card: front matter for the Hub, then what a reader wants to know."""
    head = {"library_name": "peft" if facts["adapter"] else "transformers", "tags": ["music", "midi", "woodshed"]}
    if facts["base"] and not local(".", facts["base"]):
        head["base_model"] = facts["base"]
    validation = facts["validation"]
    rows = [
        ("validation", ", ".join(f"{value:.3f} {name.replace('_', ' ')}" for name, value in validation.items())),
        ("step", f"{facts['best_step']} of {facts['step']}"),
        ("parameters", f"{facts['parameters']:,}, of which {facts['trainable']:,} were trained"),
        ("corpus", facts["corpus"]),
        ("tokenizer", facts["tokenizer"]),
        ("base", facts["base"] or "none"),
    ]
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---", f"# {facts['style']}", ""]
    lines += ["A music model trained with Woodshed; `tokenizer.json` says what its ids mean.", "", "| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows if value), ""])
