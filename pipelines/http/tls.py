"""The certificate that a server shows, checked before it listens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from plancast.pipelines.inputs.files import read_text
from plancast.planner.model.domain import BadRequest


@dataclass(frozen=True)
class Certificate:
    """A certificate, those that it was issued by after it, and its private key: PEM files.

    Parameters
    ----------
    path : Path
    key : Path
    """

    path: Path
    key: Path

    @classmethod
    def of(cls, path: Path | None, key: Path | None) -> Certificate | None:
        """The pair of ``--tls-cert`` and ``--tls-key``; None where neither is given.

        Raises
        ------
        BadRequest
            Where one is given alone, cannot be read, is not PEM, needs a passphrase, or is not
            the other's.
        """
        if path is None and key is None:
            return None
        if path is None or key is None:
            raise BadRequest("--tls-cert and --tls-key belong together: name both, or neither")
        for one in (path, key):
            read_text(one)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key, _no_passphrase)
        except (ssl.SSLError, ValueError) as why:
            reason = getattr(why, "reason", None) or str(why)
            raise BadRequest(
                f"--tls-cert {path} --tls-key {key}: cannot be used ({reason}); both must be PEM, "
                "the key that of the first certificate, without a passphrase"
            ) from None
        return cls(path, key)

    def text(self) -> str:
        """The certificates, as PEM."""
        return read_text(self.path)


def _no_passphrase() -> str:
    """Without it OpenSSL would ask on the terminal, and wait."""
    raise ValueError("the key has a passphrase")
