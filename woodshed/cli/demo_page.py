"""woodshed demo-page"""

from ..studio.demo_page import serve
from .terminal import RunPath


def command(run: RunPath, port: int = 7860, host: str = "127.0.0.1", auth: str | None = None):
    """Play from a page in the browser: chords in, takes to hear, see and download out.

    Args:
        run: a run made by woodshed train, or a base model
        port: where the page is: http://127.0.0.1:PORT
        host: on which of this machine's addresses it is; another than its own takes --auth
        auth: user:password, to be asked for before the page opens; others on this machine can see it in its list of
            processes
    """
    serve(run, port=port, host=host, auth=auth)
