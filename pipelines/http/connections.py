"""Connections that are closed when nothing comes of them: no client can hold one for nothing."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from plancast.planner.model.domain import BadRequest

HEADER_S = 10.0
"""Longest time from a connection, or the answer before, to the end of a request's header."""
WRITE_S = 60.0
"""Longest time that a client may take nothing of an answer."""
MOST_CONNECTIONS = 512
"""Connections at a time; the next one is answered with 503."""
BACKLOG = 2048


class TimedProtocol(H11Protocol):
    """HTTP/1.1 whose requests must arrive, and whose answers must be taken, in time.

    Time limits for bodies are kept by ``guards.Guard``, which can still answer.
    """

    header_s = HEADER_S
    write_s = WRITE_S

    def connection_made(self, transport: Any) -> None:
        """A connection is there: its first request is waited for."""
        super().connection_made(transport)
        self._header: asyncio.TimerHandle | None = None
        self._write: asyncio.TimerHandle | None = None
        self._await_header()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come; only a whole header ends the wait for it."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            _cancel(self._header)

    def on_response_complete(self) -> None:
        """An answer was sent whole: the next request is waited for."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self._await_header()

    def pause_writing(self) -> None:
        """The client takes nothing for now."""
        super().pause_writing()
        _cancel(self._write)
        self._write = self.loop.call_later(self.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client takes again."""
        super().resume_writing()
        _cancel(self._write)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        _cancel(self._header)
        _cancel(self._write)
        super().connection_lost(exc)

    def _await_header(self) -> None:
        _cancel(self._header)
        self._header = self.loop.call_later(self.header_s, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class TimedLoop(asyncio.SelectorEventLoop):
    """Event loop of a server whose TLS handshakes must end in time, as headers must."""

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """A server, as of asyncio."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = HEADER_S
        return await super().create_server(*args, **options)


def allow_files() -> None:
    """Let this process have as many open files as it may: idle connections are some, too."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises
    ------
    BadRequest
        Where it cannot: the port is taken, the address is not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadRequest(
            f"cannot listen on host {host}, port {port}: {why}; choose another --port (0: a free "
            "one) or --host"
        ) from None
