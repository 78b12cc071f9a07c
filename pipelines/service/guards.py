"""What stands before every route: the bearer token, and the limit on a body's size."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/healthz"})
"""What needs no token: a load balancer asks it."""


class _TooLarge(Exception):
    """The body has grown past the limit."""


class Guard:
    """Answers 401 without the right token and 413 past the size limit; else hands on.

    Parameters
    ----------
    app : callable
        The ASGI application behind it.
    token : str, optional
        None: no token is asked for.
    most_bytes : int
        Longest body of a request.
    """

    def __init__(self, app: App, *, token: str | None, most_bytes: int) -> None:
        self.app = app
        self.expected = None if token is None else f"Bearer {token}".encode()
        self.most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not self._welcome(scope["path"], headers.get(b"authorization", b"")):
            await _refuse(send, 401, "send the header 'Authorization: Bearer TOKEN'")
            return
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most_bytes:
            await _refuse(send, 413, self._too_large())
            return
        seen, answering = 0, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most_bytes:
                raise _TooLarge
            return message

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except _TooLarge:
            if not answering:
                await _refuse(send, 413, self._too_large())

    def _welcome(self, path: str, given: bytes) -> bool:
        if self.expected is None or path in OPEN_PATHS:
            return True
        return secrets.compare_digest(given, self.expected)

    def _too_large(self) -> str:
        return f"the body is longer than {self.most_bytes} bytes; raise --max-body-mib"


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    # The rest of the body is not read: the connection cannot be used again.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
