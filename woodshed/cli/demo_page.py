"""woodshed demo-page"""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..audio.ace.run import KNOWN as ADAPTER
from ..errors import InputError, RunError
from ..files import read_object
from ..studio import server


def command(
    what: Annotated[Positional[Path], arg(metavar="RUN|DATASET")],
    port: int = 7860,
    host: str = "127.0.0.1",
    auth: str | None = None,
    device: str = "auto",
):
    """A page in the browser: takes of a run to hear, see and download; or a dataset to look through and edit.

    Args:
        what: a run made by woodshed train or woodshed audio gan train, or a base model; or the .json of woodshed audio
            scan
        port: where the page is: http://127.0.0.1:PORT
        host: on which of this machine's addresses it is; another than its own takes --auth
        auth: user:password, to be asked for before the page opens; others on this machine can see it in its list of
            processes
        device: where a run of woodshed train computes: cpu, cuda, cuda:1 or mps; auto is the GPU where there is one
    """
    server.serve(lambda: _page(what, device), port=port, host=host, auth=auth)


def _page(what: Path, device: str = "auto") -> server.Page:
    """The page of a dataset, or of what a folder holds: a latent GAN is known by its codec."""
    try:
        facts = read_object(what / "run.json")
    except (OSError, ValueError):
        facts = {}
        what = what / "dataset.json" if (what / "dataset.json").is_file() else what
    if facts.keys() >= ADAPTER:
        remedy = f"play it with: woodshed audio ace generate ACE-STEP --adapter {what} --prompt WORDS"
        raise RunError(what, f"an adapter over ACE-Step, which has no page; {remedy}")
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
