"""woodshed demo-page"""

from ..files import read_object
from ..studio import server
from .terminal import RunPath


def command(run: RunPath, port: int = 7860, host: str = "127.0.0.1", auth: str | None = None):
    """Play from a page in the browser: takes to hear, see and download.

    Args:
        run: a run made by woodshed train or woodshed audio gan train, or a base model
        port: where the page is: http://127.0.0.1:PORT
        host: on which of this machine's addresses it is; another than its own takes --auth
        auth: user:password, to be asked for before the page opens; others on this machine can see it in its list of
            processes
    """
    server.serve(lambda: _page(run), port=port, host=host, auth=auth)


def _page(run: RunPath):
    """The page of what the folder holds; a latent GAN is known by its codec."""
    try:
        sounds = "codec" in read_object(run / "run.json")
    except (OSError, ValueError):
        sounds = False
    if sounds:
        from ..studio import gan_page as kind
    else:
        from ..studio import demo_page as kind
    return kind.open_page(run)
