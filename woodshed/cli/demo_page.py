"""woodshed demo-page"""

import os
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..audio.ace.run import KNOWN as ADAPTER
from ..errors import InputError, RunError, WoodshedError
from ..files import object_in, quoted
from ..jobs import FACTS
from ..studio import server
from ..symbolic import bases
from ..symbolic.run import Run, open_run


def command(
    what: Annotated[Positional[Path | None], arg(metavar="RUN|FOLDER|DATASET")] = None,
    port: int = 7860,
    host: str = "127.0.0.1",
    auth: str | None = None,
    device: str = "auto",
):
    """A page in the browser: takes of a run to hear, see and download; or a dataset to look through and edit.

    Args:
        what: a run made by woodshed train or woodshed audio gan train, or a base model; or a folder of runs of woodshed
            train, to choose from beside the base models on the page, by default that where you are; or the .json of
            woodshed audio scan
        port: where the page is: http://127.0.0.1:PORT
        host: on which of this machine's addresses it is; another than its own takes --auth
        auth: user:password, to be asked for before the page opens; others on this machine can see it in its list of
            processes
        device: where a run of woodshed train computes: cpu, cuda, cuda:1 or mps; auto is the CPU for models of less
            than 50 million parameters, else the GPU where there is one
    """
    server.serve(lambda: _page(what, device), port=port, host=host, auth=auth)


def _page(what: Path | None, device: str = "auto") -> server.Page:
    """The page of a dataset, of what a folder holds (a latent GAN is known by its codec), or of several runs."""
    if what is None:
        return _page_of_several(Path(), found_runs(Path()), device)
    facts = object_in(what / FACTS)
    what = what / "dataset.json" if not facts and (what / "dataset.json").is_file() else what
    if facts.keys() >= ADAPTER:
        remedy = f"play it with: woodshed audio ace generate ACE-STEP --adapter {quoted(what)} --prompt WORDS"
        raise RunError(what, f"an adapter over ACE-Step, which has no page; {remedy}")
    if not facts and what.is_dir() and (runs := found_runs(what)):
        return _page_of_several(what, runs, device)
    if what.suffix != ".json" and "codec" not in facts:
        from ..studio.demo_page import open_page

        return open_page(what, device=device)
    if device != "auto":
        raise InputError(f"--device {device}: {what} computes on the CPU; leave it out")
    if what.suffix == ".json":
        from ..studio import dataset_page as kind
    else:
        from ..studio import gan_page as kind
    return kind.open_page(what)


def found_runs(folder: Path) -> list[Run]:
    """The runs in a folder that write music. What cannot be opened, or has a page of its own, is told."""
    found = []
    for path in sorted(path for path in folder.iterdir() if os.path.isfile(path / FACTS)):
        facts = object_in(path / FACTS)
        if "codec" in facts or facts.keys() >= ADAPTER:
            print(f"left out: {path}: it plays sound; woodshed demo-page {quoted(path)} tells more", file=sys.stderr)
            continue
        try:
            found.append(open_run(path))
        except WoodshedError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def _page_of_several(folder: Path, runs: list[Run], device: str) -> server.Page:
    """The page of the runs in a folder and of the base models."""
    from ..studio import demo_page

    newest = map(bases.find, bases.newest())
    return demo_page.open_page(*runs, *newest, name=folder.absolute().name or "woodshed", device=device)
