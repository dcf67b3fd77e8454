"""A page that plays without a model, for as long as is asked: `python slow_page.py FOLDER`, until Ctrl-C."""

import sys
import time
from pathlib import Path

from woodshed.progress import Progress
from woodshed.studio.server import serve
from woodshed.studio.takes_page import show, takes_page

PAUSE = 0.05  # seconds between two tellings of what is done


def form(gradio):
    return {"seconds": gradio.Number(600, label="Seconds"), "name": gradio.Textbox("anna", label="Name")}


def play(asked, report):
    for step in range(int(asked["seconds"] / PAUSE)):
        report(Progress(step * PAUSE / asked["seconds"], "playing"))
        time.sleep(PAUSE)
    yield show([f"<article>{asked['name']}</article>"], Path("takes"))


if __name__ == "__main__":
    try:
        serve(lambda: takes_page("slow", [Path(sys.argv[1])], "Slow.", form=form, play=play), port=0)
    except KeyboardInterrupt:
        sys.exit(130)
