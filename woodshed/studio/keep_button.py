"""The button that keeps a take: it does what `woodshed keep` does, and tells what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from ..errors import InputError
from ..files import quoted
from ..page import counted, tag
from ..symbolic.data.kept import FOLDER
from ..symbolic.data.take_files import takes_in
from ..symbolic.playing.keep import keep
from ..symbolic.run import Run

HINT = "Keep the takes that you like: a next model can learn from them."
NEXT = "woodshed prepare MY-MIDI --out corpus-2 --augment --kept"
IN_THE_BROWSER = """
const kept = new Set()
const mark = () => element.querySelectorAll("button[data-take]:not([aria-pressed])").forEach(button => {
    if (!kept.has(button.dataset.take)) return
    button.setAttribute("aria-pressed", "true")
    button.firstChild.data = "Kept"
})
new MutationObserver(mark).observe(element, {childList: true, subtree: true})
document.addEventListener("kept", event => { kept.add(event.detail); mark() })
element.addEventListener("click", event => {
    const button = event.target.closest("button[data-take]:not([aria-pressed])")
    if (button) trigger("click", {take: button.dataset.take})
})
"""  # what was kept stays marked when one more take is shown
TELL = "take => { if (take) document.dispatchEvent(new CustomEvent('kept', {detail: take})) }"


class Keeper:
    """Keeps takes of some runs in their folders; those of a base in the package in the folder of its name where you
    are."""

    def __init__(self, folders: Mapping[Path, Run]):
        self.folders = folders  # of takes

    def keep(self, take: str) -> str:
        """Keep a take, a path that a button named; `told` of it. InputError for what is no take of these runs."""
        path = Path(take).resolve()
        if path.suffix != ".mid" or not any(folder in path.parents for folder in self.folders):
            raise InputError(f"{path.name}: not a take of this page")
        keep(path)
        return self.told()

    def told(self) -> str:
        """How many takes are kept, and the command that makes something of them, as HTML."""
        places = dict.fromkeys(run.place for run in self.folders.values())
        counts = {place: len(takes_in(place / FOLDER)) for place in places if (place / FOLDER).is_dir()}
        lines = [self._told(place, count) for place, count in counts.items() if count]
        return "\n".join(lines) or tag("p", HINT)

    @staticmethod
    def _told(place: Path, count: int) -> str:
        command = f"{NEXT} {quoted(place)}"
        where = escape(f"{counted(count, 'take')} kept in {place / FOLDER}. To learn from them beside your own music:")
        return f'<p role="status">{where}</p><pre><code>{escape(command)}</code></pre>'


def keep_button(number: int, take: Path) -> str:
    """The button of a take, as HTML."""
    about = f'<span class="sr-only"> take {number}</span>'
    return f'<button type="button" class="keep" data-take="{escape(str(take))}">Keep{about}</button>'
