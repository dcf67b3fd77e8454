"""Make an adapter and its base one: a run that needs neither base nor PEFT.

merge("my-style", "my-style-whole") -> Run
"""

from __future__ import annotations

from pathlib import Path

from ... import __version__
from ...errors import RunError
from ...files import built, found_from, new_folder, seen_from
from ...jobs import quiet, refuse_existing
from ..run import Run, open_run, saving
from .publish import publish


def merge(run: Run | str | Path, out: str | Path) -> Run:
    """Write a run with its adapter merged into its base to a new folder, and open it.

    It plays the same, in float32. Takes, log and checkpoints stay with the old run. Raises InputError where `out`
    exists, RunError for a run without an adapter, or whose base is missing or has changed.
    """
    run, out = open_run(run), Path(out)
    if not run.facts["adapter"]:
        raise RunError(run.folder, "it has no adapter to merge; it is whole already")
    refuse_existing(out)
    model = run.model(merge=True)
    facts = run.facts | {"woodshed": __version__, "base": None, "adapter": False, "parameters": model.num_parameters()}
    facts["settings"] = facts["settings"] | {"load_in_4bit": False}
    facts.pop("base_weights")
    if facts.get("corpus_folder"):
        facts["corpus_folder"] = seen_from(out, found_from(run.folder, facts["corpus_folder"]))
    with new_folder(out.parent), saving(out), built(out) as temporary:
        with quiet("transformers"):
            model.save_pretrained(temporary)
        run.tokenizer.save(temporary)
        publish(temporary, temporary, facts, model.config)
    return open_run(out)
