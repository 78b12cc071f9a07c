"""How a command reaches a master, and whom it takes for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.cli.serving import token_of
from plancast.pipelines.master.client import TOKEN_VARIABLE, Client, NotReached, note_of
from plancast.planner.model.domain import BadRequest

ANSWERS = [
    (200, b"{}"), (202, b'{"ask": 1, "again": false, "tasks": 1}'), (200, b"<html>"), (204, b""),
    (307, b""), (500, b"{}"), (404, b'{"error": "Not Found"}'),
]  # fmt: skip


@pytest.fixture(scope="module")
def stranger() -> Iterator[Any]:
    """Somebody else's server, at an address that was meant to be a master's."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = self.server.says  # type: ignore[attr-defined]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that the environment names."""
    monkeypatch.setenv(TOKEN_VARIABLE, "t0ken")


@pytest.mark.parametrize("says", ANSWERS)
def test_nobody_else_is_taken_for_a_master(says: tuple[int, bytes], stranger: Any) -> None:
    """``hold`` said "held" of what some web server answered; ``status`` ended in a traceback."""
    stranger.says = says
    client = Client.to(f"http://127.0.0.1:{stranger.server_port}")
    sentence = f"what answers there is no plancast master .status {says[0]}."
    with pytest.raises(NotReached, match=sentence):
        client.get("/v1/status")
    with pytest.raises(NotReached, match=sentence):
        client.post("/v1/tasks/hold", {"names": ["a"]})
    with pytest.raises(NotReached, match=sentence):
        list(client.events())


@pytest.mark.parametrize(
    "url",
    ["http://h:abc", "http://h:99999", "http://", "ftp://h:1", "http://a b:1", "http://[::1",
     "http://h:1/prefix", "http://h:1?x=1", "http://me@h:1", f"http://{'h' * 70}:1", "http://h\n:1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """It would end in a traceback, or something else be asked than what was named."""
    with pytest.raises(BadRequest, match="is no address of a master; write http://HOST:PORT"):
        Client.to(url)


def test_addresses_are_taken() -> None:
    """A master could not be reached by the address that it prints."""
    for url in ("http://127.0.0.1:8485", "https://master.example", "http://[::1]:80"):
        assert Client.to(f"{url}/").url == url


@pytest.mark.parametrize("text", ["a\nb", "t\u20acken", "a\x00b"])
def test_a_token_that_no_header_holds_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Client and server alike would take it, and end in a traceback or let nobody in."""
    path = tmp_path / "token"
    path.write_text(text)
    sentence = "holds no token; write one line of printable ASCII"
    for take in (lambda: Client.to("http://h:1", path), lambda: token_of(path)):
        with pytest.raises(BadRequest, match=sentence):
            take()
    if "\x00" not in text:
        monkeypatch.setenv(TOKEN_VARIABLE, text)
        for take in (lambda: Client.to("http://h:1"), lambda: token_of(None)):
            with pytest.raises(BadRequest, match=sentence):
                take()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "http://h:1"}', "3"])
def test_a_damaged_note_is_named(text: str, tmp_path: Path) -> None:
    """A full disk at the master's start would end every command in a traceback."""
    state = tmp_path / "m.db"
    note_of(state).write_text(text)
    with pytest.raises(BadRequest, match=r"m.db.serve.json: is damaged"):
        Client.to(str(state))
