"""Play a take again from what its file says: the same run, settings and seed give the same notes.

    again("my-style/takes/001/take-2.mid") -> Take

Besides them a take depends on the weights, and on the file it was played in. Their digests stand in its file, and what
has changed since is refused by name: other notes would come, and nobody would know why.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...config import tuples
from ...errors import InputError, RunError
from ...progress import Reporter, unheard
from ..data.songs import content
from ..data.take_files import take_facts, whole_take
from ..music.midi import read_midi
from ..run import Run, open_run
from .generate import generate
from .settings import GenerateSettings, make_settings
from .takes import Take, digests_of, played_by


class Recalled(NamedTuple):
    """What plays a take again."""

    run: Run
    settings: GenerateSettings
    remarks: tuple[str, ...] = ()  # why other notes may come


def again(
    take: str | Path,
    *,
    run: str | Path | None = None,
    prompt: str | Path | None = None,
    device: str | None = None,
    anyway: bool = False,
    report: Reporter = unheard,
) -> Take:
    """Play a take, its .mid or .json, again; arguments and errors are as in recall."""
    found = recall(take, run=run, prompt=prompt, device=device, anyway=anyway)
    played = generate(found.run, found.settings, report=report)[0]
    return replace(played, remarks=(*found.remarks, *played.remarks))


def recall(
    take: str | Path,
    *,
    run: str | Path | None = None,
    prompt: str | Path | None = None,
    device: str | None = None,
    anyway: bool = False,
) -> Recalled:
    """What a take's file says of how it was played. `run` and `prompt` stand for those it names, which may have moved,
    `device` for one that this machine has not.

    Raises FileError for what is no take, InputError where its run or the file it was played in is not found, and, but
    for `anyway`, RunError and InputError where one of them has changed since.
    """
    facts = take_facts(whole_take(Path(take)))
    instead = {"prompt": prompt, "device": device}
    asked = facts["settings"] | {name: value for name, value in instead.items() if value}
    _refuse_wrong_prompt(take, facts, asked.get("prompt"))
    settings = make_settings(None, tuples(asked))
    opened = open_run(run or played_by(take, facts), settings.checkpoint)
    then, now = facts.get("digests") or {}, digests_of(opened, settings.prompt)
    changed = [name for name in now if name in then and then[name] != now[name]]
    if changed and not anyway:
        raise _changed(take, opened, settings.prompt, changed)
    names = {"weights": opened.folder, "base_weights": f"the base of {opened.folder}", "prompt": settings.prompt}
    told = [f"{names[name]} has changed since {take} was played: other notes come" for name in changed]
    told += [f"{take} does not say with which weights it was played"] * ("weights" not in then)
    return Recalled(opened, settings, tuple(told))


def _refuse_wrong_prompt(take: str | Path, facts: dict, prompt: str | Path | None) -> None:
    in_music = bool(facts["region_quarters"] or facts["settings"].get("prompt"))
    if prompt is not None and not in_music:
        raise InputError(f"--prompt {prompt}: {take} was played in no file; leave it out")
    if prompt is None and in_music:
        raise InputError(f"{take}: it was played in music that was no file; save that as MIDI and give --prompt FILE")
    if prompt is not None and not Path(prompt).exists():
        raise InputError(f"{take}: the file that it was played in is not at {prompt}; give it with --prompt FILE")


def _changed(take: str | Path, run: Run, prompt: str | Path | None, changed: list[str]) -> RunError | InputError:
    """The error for the first of what has changed."""
    if changed[0] == "prompt":
        told = f"{prompt} is not as it was when {take} was played in it; give the file of then with --prompt FILE"
        return InputError(f"{told}, or --anyway for other notes")
    whose = "its base's weights are" if changed[0] == "base_weights" else "its weights are"
    reason = f"{whose} not those that played {take}: it was trained since, or is another run of that name"
    return RunError(run.folder, f"{reason}; give the run of then with --run RUN, or --anyway for other notes")


def verdict(take: str | Path, played: str | Path, found: Recalled) -> str:
    """Whether the .mid that was `played` has the notes of the take that was recalled, and if not why; empty where the
    .mid of that is not there."""
    take = whole_take(Path(take).with_suffix(".mid"))
    if not take.exists():
        return ""
    if content(read_midi(take)) == content(read_midi(played)):
        return f"the same notes as {take}"
    then, now = take_facts(take), take_facts(played)
    names = {"woodshed": "another version of woodshed", "engine": "another engine"}
    others = [f"{about}, {then[name]}" for name, about in names.items() if then.get(name) != now[name]]
    why = f"it was played by {' and '.join(others)}" if others else "it was edited, or played on another machine"
    return f"other notes than {take}" + f": {why}" * (not found.remarks)
