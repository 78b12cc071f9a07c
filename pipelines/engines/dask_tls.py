"""The key and certificate of one Dask cluster: who does not hold them is not let in.

Whoever may talk to a Dask scheduler may run code as its user, so that loopback is not enough on
a machine that others use too. Each cluster has a key of its own, which only its user can read;
scheduler, workers and clients all show the certificate that belongs to it, and trust no other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

YEARS = 10


@dataclass(frozen=True, slots=True)
class ClusterKey:
    """Where the certificate and the private key of a cluster are."""

    certificate: Path
    key: Path

    @classmethod
    def made_in(cls, folder: Path) -> ClusterKey:
        """A new pair, in files that only their owner can read."""
        found = cls.in_(folder)
        certificate, key = _pair()
        for path, text in ((found.certificate, certificate), (found.key, key)):
            path.unlink(missing_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(text)
        return found

    @classmethod
    def in_(cls, folder: Path) -> ClusterKey:
        """The pair of a cluster whose folder this is."""
        return cls(folder / "cluster.crt", folder / "cluster.key")

    def security(self) -> Any:
        """What a client of the cluster needs (``distributed.Security``)."""
        from distributed import Security

        pair = {
            f"tls_{role}_{part}": str(path)
            for role in ("client", "scheduler", "worker")
            for part, path in (("cert", self.certificate), ("key", self.key))
        }
        return Security(  # type: ignore[no-untyped-call]
            tls_ca_file=str(self.certificate), require_encryption=True, **pair
        )

    def arguments(self) -> list[str]:
        """What a scheduler or worker needs on its command line."""
        return ["--tls-ca-file", str(self.certificate), "--tls-cert", str(self.certificate),
                "--tls-key", str(self.key), "--protocol", "tls"]  # fmt: skip


CLOSED_ROUTES: Mapping[str, str] = {
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
}
"""Environment of scheduler and workers: the HTTP server that each starts has no page, for its
pages show commands and logs to whoever can reach the port, without a password."""


def _pair() -> tuple[bytes, bytes]:
    """A self-signed certificate and its private key, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "plancast cluster")])
    now = datetime.now(UTC)
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )  # fmt: skip
