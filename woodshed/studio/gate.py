"""The gate before a page: which requests come from the page itself, and what may become of a file that it has."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

OURS = ("127.0.0.1", "localhost", "::1")
ELSEWHERE = re.compile(r"/(file[=/](https?|ftp):|proxy=)", re.IGNORECASE)  # Gradio would fetch it for a visitor
REFUSAL = b"this page answers as localhost or 127.0.0.1; start it with --auth user:password to use another name\n"
FILE = re.compile(r"/file[=/]")
HARMLESS = [  # a page of HTML, or a picture with a script in it, opened by its address does nothing as this page
    (b"content-security-policy", b"sandbox"),
    (b"x-content-type-options", b"nosniff"),
]


class Gate:
    """An ASGI application before another, which hands on the requests of its own page alone.

    Without a password any site that is open in the same browser could otherwise ask for this page's files, by a name
    of its own that leads to this machine (DNS rebinding) or by a form that sends to it. So `local` pages answer only
    under this machine's names, and no request that another site has made.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], *, local: bool):
        self.app, self.local = app, local

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if ELSEWHERE.search(scope["path"]) or (self.local and not is_own(headers)):
            return await _refuse(scope, send)
        if FILE.search(scope["path"]):
            send = _harmless(send)
        await self.app(scope, receive, send)


def is_own(headers: dict[str, str]) -> bool:
    """Whether a request was made to a name of this machine, by a page of the same address or by no page at all."""
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:  # "[::1"
        return False
    return name in OURS and origin in (None, f"http://{host}", f"https://{host}")


async def _refuse(scope, send) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": REFUSAL})


def _harmless(send):
    async def sent(message) -> None:
        if message["type"] == "http.response.start":
            message = message | {"headers": [*message["headers"], *HARMLESS]}
        await send(message)

    return sent
