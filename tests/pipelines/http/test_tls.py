"""HTTPS: a token is sent to nobody who does not show the certificate that is expected."""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plancast.pipelines.http.tls import Certificate
from plancast.pipelines.inputs.user_files import ClusterFile, write_cluster
from plancast.pipelines.master.client import Client, NotReached, note_of, write_note
from plancast.planner.model.domain import BadRequest, Worker


def pair(folder: Path, name: str, passphrase: bytes | None = None) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    closed = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, closed)
    )
    return paths


def test_what_cannot_be_shown_is_refused_before_anything_listens(tmp_path: Path) -> None:
    """A server would be up that no client can speak to, or ask for a passphrase and hang."""
    assert Certificate.of(None, None) is None
    path, key = pair(tmp_path, "one")
    assert Certificate.of(path, key) == Certificate(path, key)
    with pytest.raises(BadRequest, match="belong together"):
        Certificate.of(path, None)
    with pytest.raises(BadRequest, match=r"missing\.pem"):
        Certificate.of(path, tmp_path / "missing.pem")
    _, other = pair(tmp_path, "two")
    _, closed = pair(tmp_path, "three", b"secret")
    (tmp_path / "text").write_text("no certificate")
    for wrong in ((path, other), (path, closed), (tmp_path / "text", key), (key, path)):
        with pytest.raises(BadRequest, match="cannot be used"):
            Certificate.of(*wrong)


QUICK = """
from plancast.pipelines.cli import main
from plancast.pipelines.http import connections
connections.HEADER_S = 3.0
main()
"""


class Master:
    """A master that speaks HTTPS, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "m.db"
        self.certificate, key = pair(folder, "master")
        write_cluster(ClusterFile((Worker("w", {"cpu": 1000}),)), folder / "cluster.yaml")
        command = [
            sys.executable, "-c", QUICK, "master", "serve", "--cluster",
            str(folder / "cluster.yaml"), "--state", str(self.state), "--json", "--speed", "60",
            "--tls-cert", str(self.certificate), "--tls-key", str(key),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        self.url: str = json.loads(self.process.stdout.readline())["url"]
        while not self.is_ready():
            assert self.process.poll() is None
            time.sleep(0.1)

    def is_ready(self) -> bool:
        """Whether it takes tasks."""
        try:
            return bool(Client.to(str(self.state)).get("/readyz"))
        except NotReached:
            return False

    @property
    def token(self) -> str:
        """What it asks for."""
        found: str = json.loads(note_of(self.state).read_text())["token"]
        return found


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """One for all tests."""
    found = Master(tmp_path_factory.mktemp("tls"))
    yield found
    found.process.send_signal(signal.SIGTERM)
    assert found.process.wait(60) == 0


def test_commands_reach_it_by_its_note(master: Master) -> None:
    """They would trust nobody, as its certificate is its own, or anybody."""
    assert master.url.startswith("https://127.0.0.1:")
    client = Client.to(str(master.state))
    client.post("/v1/tasks", {"tasks": [{"id": "a", "cpus": 1, "requested_s": 60}]})
    assert client.get("/v1/why", task="a")["task"] == "a"


def test_by_its_url_only_a_trusted_certificate_is_spoken_to(
    master: Master, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token would be sent to whoever listens there."""
    monkeypatch.setenv("PLANCAST_TOKEN", master.token)
    with pytest.raises(NotReached, match="CERTIFICATE_VERIFY_FAILED"):
        Client.to(master.url).get("/v1/status")
    monkeypatch.setenv("PLANCAST_CA", str(master.certificate))
    assert Client.to(master.url).get("/v1/status")["workers"]
    other, _ = pair(tmp_path, "other")
    monkeypatch.setenv("PLANCAST_CA", str(other))
    with pytest.raises(NotReached, match="CERTIFICATE_VERIFY_FAILED"):
        Client.to(master.url).get("/v1/status")
    monkeypatch.setenv("PLANCAST_CA", str(tmp_path / "none.pem"))
    with pytest.raises(BadRequest, match=r"PLANCAST_CA is .*none\.pem"):
        Client.to(master.url)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(master.url.replace("https", "http") + "/healthz", timeout=30)


def test_a_note_trusts_one_certificate_alone(master: Master, tmp_path: Path) -> None:
    """Who takes its port when it has ended would be handed the token."""
    other, _ = pair(tmp_path, "other")
    write_note(tmp_path / "m.db", master.url, master.token, other.read_text())
    with pytest.raises(NotReached, match="CERTIFICATE_VERIFY_FAILED"):
        Client.to(str(tmp_path / "m.db")).get("/v1/status")


@pytest.mark.slow
def test_a_handshake_that_does_not_come_is_not_waited_for(master: Master) -> None:
    """Connections that say nothing would be open files for a minute each."""
    address = urllib.parse.urlsplit(master.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as silent:
        assert silent.recv(1) == b""


@pytest.mark.slow
def test_a_server_may_open_as_many_files_as_its_limit_allows() -> None:
    """A few hundred idle connections would use up what a shell gives by default."""
    code = (
        "import resource as r; n = r.RLIMIT_NOFILE; most = r.getrlimit(n)[1]\n"
        "from plancast.pipelines.http.connections import allow_files\n"
        "r.setrlimit(n, (64, most)); allow_files(); assert r.getrlimit(n) == (most, most)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
