"""Play: a run, and chords, a prompt or nothing, become takes. A prompt is music plus the region of it to write.

generate(run, chords="Cmaj7 Am7 | Dm7 G7", bars=8)         over chords
generate(run, chords="Dm7 G7 Cmaj7", parts="melody")       a part of it alone
generate(run, prompt="song.mid", bars=8)                   eight bars after the end
generate(run, prompt="song.mid", bars="9-12")              bars 9 to 12 anew, all else as it was
generate(run, prompt="song.mid", parts="bass")             a part anew, or a new part, to all the others
generate(run, prompt="tune.mid", melody="auto")            an accompaniment to a melody
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ...progress import Reporter, part, unheard
from ..run import Run, open_run
from .perform import perform
from .settings import ComposeSettings, make_settings
from .takes import Take

STAGES = (0, 0.2, 0.8, 1)  # what is done after making the critic, playing and ranking, where takes are ranked too


def generate(
    run: Run | str | Path,
    settings: ComposeSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> list[Take]:
    """Play takes and return them; `Take.save` writes one.

    `run` is a Run or its folder; settings may be given as keywords: `generate("my-style", chords="Dm7 G7 Cmaj7",
    bars=8, takes=3, seed=1)`. With `best` only so many are returned, best first, and `Take.ranked` tells why; the run's
    style critic is made, and kept, where it has none yet or has learned since; a remark tells where the corpus for that
    is not found. `report` hears the Progress.

    Inside a prompt all events outside the region stay as they are, in the prompt's own ticks, and so do notes that
    sound into it; tempo map, metre, tracks and programs are the prompt's.

    Raises InputError for chords, a metre, a length or a region that cannot be played, FileError for a prompt that
    cannot be read and RunError for a folder that is no run.
    """
    settings = make_settings(settings, changes)
    run = open_run(run, settings.checkpoint)
    if settings.best is None:
        return perform(run, settings, report=report)
    from .rank import critic_of, rank

    first, second, third = (part(report, *stage) for stage in pairwise(STAGES))
    # what cannot be had is told before the playing, not after
    critic = critic_of(run, device=settings.device, report=first)
    takes = perform(run, settings, report=second)
    found = rank(run, takes, critic=critic, best=settings.best, device=settings.device, report=third)
    told = () if critic.learned else (str(critic),)
    return [replace(one.take, ranked=str(one), remarks=(*one.take.remarks, *told)) for one in found]
