"""Who may ask a page for something: told by the headers of a request, and seen from a real server."""

import asyncio
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from browsers import serving
from test_takes_page import SLOW

from woodshed.studio.gate import Gate


def answer(path, *, local=True, kind="http", **headers):
    """What comes of a request: the first message that is sent back."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})

    async def send(message):
        sent.append(message)

    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(Gate(app, local=local)({"type": kind, "path": path, "headers": listed}, None, send))
    return sent[0]


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:8000", "[::1]:7860"])
@pytest.mark.parametrize("scheme", [None, "http", "https"])
def test_the_page_itself_is_answered(host, scheme):
    origin = {"origin": f"{scheme}://{host}"} if scheme else {}
    assert answer("/", host=host, **origin)["status"] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "[::1"},
        {"host": "127.0.0.1.evil.example:7860"},
        {"host": "localhost:7860", "origin": "http://evil.example"},
        {"host": "localhost:7860", "origin": "http://localhost:3000"},
        {"host": "localhost:7860", "origin": "null"},
        {},
    ],
)
def test_other_sites_and_names_are_refused(headers):
    assert answer("/gradio_api/upload", **headers)["status"] == 403
    assert answer("/gradio_api/queue", kind="websocket", **headers) == {"type": "websocket.close", "code": 1008}
    assert answer("/", local=False, **headers)["status"] == 200  # where a password is asked for


@pytest.mark.parametrize(
    "path", ["/gradio_api/file=https://x.example/a", "/file/HTTP://x.example/", "/proxy=https://x"]
)
def test_nothing_is_fetched_from_elsewhere_for_a_visitor(path):
    assert answer(path, local=False, host="music.example")["status"] == 403


def test_a_file_cannot_act_as_the_page():
    headers = dict(answer("/gradio_api/file=/takes/x.html", host="localhost")["headers"])
    assert headers[b"content-security-policy"] == b"sandbox" and headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"content-type"] == b"text/html" and len(answer("/", host="localhost")["headers"]) == 1


def test_a_real_page_answers_at_its_own_address_alone(tmp_path):
    (tmp_path / "a take.txt").write_text("music")
    with serving(str(SLOW), str(tmp_path)) as address:
        place = f"{address}/gradio_api/file={tmp_path}/a%20take.txt"
        with urlopen(place) as found:
            assert found.read() == b"music" and found.headers["content-security-policy"] == "sandbox"
        for more in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            with pytest.raises(HTTPError, match="403"):
                urlopen(Request(place, headers=more))
