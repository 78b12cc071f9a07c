"""How a command reaches a living master: by the note that it keeps beside its state, or by URL."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from plancast.pipelines.inputs.files import read_text
from plancast.planner.model.domain import BadRequest

TOKEN_VARIABLE, AUTHORITY_VARIABLE = "PLANCAST_TOKEN", "PLANCAST_CA"
ANSWER_S = 120.0
"""Longest wait for an answer."""

MARK = ("Plancast-Service", "master")
"""A header of all that a master answers: others answer on a wrong address, too."""


class NotReached(Exception):
    """The master does not answer; the text says where it was looked for."""


def note_of(state: Path) -> Path:
    """Where a master says how it is reached, which its user alone can read."""
    return state.with_name(f"{state.name}.serve.json")


def write_note(state: Path, url: str, token: str, shown: str | None = None) -> None:
    """Say how the master of a state is reached, and which certificate (PEM) it shows."""
    new = note_of(state).with_suffix(".new")
    new.unlink(missing_ok=True)
    # Nobody else may read it at any moment, nor a half of it.
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(json.dumps({"url": url, "token": token, "certificate": shown}))
    new.replace(note_of(state))


def remove_note(state: Path, url: str) -> None:
    """Say no more that a master is reached at an address; the note of another one stays."""
    note = note_of(state)
    if note.exists() and json.loads(read_text(note))["url"] == url:
        note.unlink(missing_ok=True)


@dataclass(frozen=True)
class Client:
    """Speaks to one master.

    Parameters
    ----------
    url : str
    token : str
    trust : SSLContext, optional
        Which certificates an ``https`` address may show; those that the machine trusts by default.
    """

    url: str
    token: str
    trust: ssl.SSLContext | None = None

    @classmethod
    def to(cls, master: str, token_file: Path | None = None) -> Client:
        """The client of a master by its state file, or its URL and a token.

        Raises
        ------
        BadRequest
            Where no master says that it is there, or the token is missing, or ``$PLANCAST_CA``
            names no certificates.
        """
        if "://" in master:
            token = os.environ.get(TOKEN_VARIABLE, "").strip()
            if token_file is not None:
                token = read_text(token_file).strip()
            if not token:
                raise BadRequest(f"{master}: name its token by --token-file or ${TOKEN_VARIABLE}")
            source = f"${TOKEN_VARIABLE}" if token_file is None else str(token_file)
            return cls(_address(master), sound_token(token, source), _authority())
        note = note_of(Path(master))
        if not note.exists():
            raise BadRequest(
                f"{master}: no master serves it; start `plancast master serve --state {master}`, "
                "or name another by --master"
            )
        try:
            found = json.loads(read_text(note))
            shown = found.get("certificate")
            return cls(found["url"], found["token"], shown and _pinned(shown))
        except (ValueError, KeyError, TypeError, AttributeError, ssl.SSLError):
            sentence = f"{note}: is damaged; its master writes it anew when it starts"
            raise BadRequest(sentence) from None

    def get(self, path: str, **values: Any) -> Any:
        """What a path answers; `values` are those of its query that are not None."""
        given = {name: value for name, value in values.items() if value is not None}
        return self._asked("GET", f"{path}?{urlencode(given, quote_via=quote)}", None, {})

    def post(self, path: str, body: Any, key: str | None = None) -> Any:
        """What a path answers to a body.

        Raises
        ------
        BadRequest
            Where the master refuses it.
        NotReached
            Where there is no answer, or none now.
        """
        return self._asked("POST", path, body, {"Idempotency-Key": key} if key else {})

    def events(self, after: int | None = None) -> Iterator[dict[str, Any]]:
        """What happens from now on, or after an event, as it happens; ends with the master."""
        link = self._link()
        try:
            query = "" if after is None else f"?after={after}"
            link.request("GET", f"/v1/events{query}", headers=self._headers())
            answer = self._own(link.getresponse())
            if answer.status != 200:
                raise _fault(answer.status, answer.read())
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
                elif line.startswith(b":"):
                    yield {}
        except (OSError, HTTPException) as error:
            raise NotReached(f"{self.url}: {error or 'the master has ended'}") from None
        finally:
            link.close()

    def _asked(self, method: str, path: str, body: Any, more: dict[str, str]) -> Any:
        link = self._link()
        text = None if body is None else json.dumps(body).encode()
        try:
            link.request(method, path, text, {**self._headers(), **more})
            answer = self._own(link.getresponse())
            found = answer.read()
        except (OSError, HTTPException) as error:
            raise NotReached(f"{self.url}: the master does not answer ({error})") from None
        finally:
            link.close()
        if answer.status >= 400:
            raise _fault(answer.status, found)
        return json.loads(found)

    def _own(self, answer: HTTPResponse) -> HTTPResponse:
        """An answer of a master; anybody else's would be taken for "done"."""
        if answer.getheader(MARK[0]) != MARK[1]:
            raise NotReached(
                f"{self.url}: what answers there is no plancast master (status {answer.status})"
            )
        return answer

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _link(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            return HTTPSConnection(host, port, timeout=ANSWER_S, context=self.trust)
        return HTTPConnection(host, port, timeout=ANSWER_S)


def sound_token(token: str, source: str) -> str:
    """A bearer token, as a header can hold it.

    Raises
    ------
    BadRequest
        Where it has other characters than printable ASCII; `source` is its place.
    """
    if not re.fullmatch(r"[ -~]+", token):
        raise BadRequest(f"{source}: holds no token; write one line of printable ASCII")
    return token


def _address(url: str) -> str:
    """The URL of a master without a slash at its end."""
    try:
        parts = urlsplit(url.rstrip("/"))
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
        sound = bool(host) and not re.search(r"[\s@]", url)
        if sound and parts.scheme in ("http", "https") and parts.geturl().endswith(parts.netloc):
            return parts.geturl()
    except ValueError:  # a port that is none, a host that no name server knows how to ask for
        pass
    raise BadRequest(f"{url}: is no address of a master; write http://HOST:PORT, or https")


def _authority() -> ssl.SSLContext | None:
    """Trust in a site's own authority, where ``$PLANCAST_CA`` names its file."""
    path = os.environ.get(AUTHORITY_VARIABLE)
    if not path:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as why:
        raise BadRequest(
            f"${AUTHORITY_VARIABLE} is {path}, which holds no certificates in PEM ({why})"
        ) from None


def _pinned(shown: str) -> ssl.SSLContext:
    """Trust in one certificate, whoever issued it and whatever address it is reached at."""
    trust = ssl.create_default_context(cadata=shown)
    trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trust.check_hostname = False
    return trust


def _fault(status: int, body: bytes) -> Exception:
    try:
        sentence = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        sentence = f"answered {status}"
    if status in (429, 503):
        return NotReached(sentence)
    return BadRequest(sentence.removeprefix("body: "))
