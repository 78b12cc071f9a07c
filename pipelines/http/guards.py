"""What stands before every route: the bearer token, and limits on a body's size and time."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/healthz"})
"""What needs no token: a load balancer asks it."""
BODY_S = 60.0


class Guard:
    """Answers 401 without the right token, 413 past the size limit, 408 past the time limit.

    And 415 to a packed body: what it unpacks to could be of any size. HEAD is answered as GET is,
    without a body, on every path.

    A plain ASGI application: middleware that reads the body itself would hide its length.

    Parameters
    ----------
    app : callable
        The ASGI application behind it.
    token : str, optional
        None: no token is asked for.
    most_bytes : int
        Longest body of a request.
    body_s : float
        Longest time that a body may take to arrive.
    answered : callable
        Called with the path of the route and the status of every answer.
    open_paths : frozenset of str
        What needs no token.
    mark : pair of str, optional
        A header of every answer, by which a client knows whom it has reached.
    """

    def __init__(
        self,
        app: App,
        *,
        token: str | None,
        most_bytes: int,
        body_s: float = BODY_S,
        answered: Callable[[str, int], None],
        open_paths: frozenset[str] = OPEN_PATHS,
        mark: tuple[str, str] | None = None,
    ) -> None:
        self.app = app
        self.open_paths = open_paths
        self.mark = [] if mark is None else [(mark[0].lower().encode(), mark[1].encode())]
        self.answered = answered
        self.expected = None if token is None else token.encode()
        self.most_bytes = most_bytes
        self.body_s = body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        head = scope["method"] == "HEAD"
        asked = {**scope, "method": "GET"} if head else scope
        ended = False

        async def counted(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                route = getattr(asked.get("route"), "path", "other")
                self.answered(route, message["status"])
                message = {**message, "headers": [*message.get("headers", []), *self.mark]}
            elif head:  # ended at once: a stream of events would go on
                if ended:
                    return
                ended, message = True, {"type": message["type"], "body": b""}
            await send(message)

        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        packed = headers.get(b"content-encoding", b"").strip().lower()
        if not self._welcome(scope["path"], headers.get(b"authorization", b"")):
            await _refuse(counted, 401, "send the header 'Authorization: Bearer TOKEN'")
        elif length.isdigit() and int(length) > self.most_bytes:
            await _refuse(counted, 413, self._too_large())
        elif packed not in (b"", b"identity"):
            await _refuse(counted, 415, "send the body unpacked, without Content-Encoding")
        else:
            await self.app(asked, self._measured(receive), counted)

    def _measured(self, receive: Receive) -> Receive:
        """The same, which ends a body without a length once it is too long."""
        seen, whole = 0, False
        until = asyncio.get_running_loop().time() + self.body_s

        async def measured() -> Message:
            nonlocal seen, whole
            try:
                async with asyncio.timeout_at(None if whole else until):
                    message = await receive()
            except TimeoutError:
                sentence = f"the body did not arrive within {self.body_s:g} s"
                raise HTTPException(408, sentence, {"Connection": "close"}) from None
            whole = whole or not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > self.most_bytes:
                raise HTTPException(413, self._too_large(), {"Connection": "close"})
            return message

        return measured

    def _welcome(self, path: str, given: bytes) -> bool:
        if self.expected is None or path in self.open_paths:
            return True
        # The scheme is written in any case (RFC 7235, 2.1).
        scheme, _, credentials = given.partition(b" ")
        known = scheme.lower() == b"bearer"
        return known & secrets.compare_digest(credentials.strip(), self.expected)

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
