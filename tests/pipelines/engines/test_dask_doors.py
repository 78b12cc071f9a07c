"""Who can talk to a Dask cluster of ours: its user, and nobody else on the machine."""

from __future__ import annotations

import json
import os
import pwd
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection

import psutil
import pytest

from plancast.pipelines.engines.dask import DaskEngine, local_cluster, wait_for
from plancast.planner.model.domain import Worker

pytestmark = pytest.mark.waits
ONE = (Worker("w0", {"cpu": 1000}),)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskEngine]:
    """A scheduler and a worker."""
    address, processes, key = local_cluster(ONE, tmp_path_factory.mktemp("doors"))
    found = DaskEngine(address, ONE, processes, key=key, batch="doors")
    wait_for(found, 1)
    yield found
    found.stop()


def ports(engine: DaskEngine) -> dict[tuple[str, int], str]:
    """Addresses that the cluster's processes listen on, with the process."""
    found = {}
    for name, process in engine.processes.items():
        for link in psutil.Process(process.pid).net_connections("inet"):
            if link.status == psutil.CONN_LISTEN:
                found[link.laddr.ip, link.laddr.port] = name
    return found


def test_everything_listens_on_loopback_and_no_page_is_served(engine: DaskEngine) -> None:
    """Commands and logs could be read, or code be run, from another machine."""
    found = ports(engine)
    assert set(found.values()) == {"(scheduler)", "w0"}
    assert {ip for ip, _ in found} == {"127.0.0.1"}
    pages = ("/", "/info/main/workers.html", "/json/counts.json", "/metrics", "/health", "/status",
             "/api/v1/get_workers")  # fmt: skip
    comms = {engine.client.scheduler.address.rpartition(":")[2]} | {
        address.rpartition(":")[2] for address in engine.name_of
    }
    http = [port for _, port in found if str(port) not in comms]
    assert http
    for port in http:
        for page in pages:
            link = HTTPConnection("127.0.0.1", port, timeout=5)
            link.request("GET", page)
            assert link.getresponse().status == 404, (found["127.0.0.1", port], page)
            link.close()


STRANGER = """
import json, os, sys
from distributed import Client, Security
address, uid, gid, secrets = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
taken = Security.temporary()
pair = open(secrets[0]).read(), open(secrets[1]).read()
given = Security(
    tls_ca_file=pair[0], tls_client_cert=pair[0], tls_client_key=pair[1], require_encryption=True,
)
# Imported as root, for the interpreter may lie where nobody else can read it.
os.setgroups([]); os.setgid(gid); os.setuid(uid); os.chdir("/")

def tried(name, **options):
    try:
        client = Client(name, timeout=3, set_as_default=False, **options)
        return str(client.submit(pow, 2, 3, pure=False).result(10))
    except Exception as error:
        return type(error).__name__

out = {"user": os.getuid()}
for path in secrets:
    try:
        open(path).read()
        out[path] = "read"
    except OSError as error:
        out[path] = type(error).__name__
# The control: with the key it is let in, so that what follows is no fault of the means.
out["key"] = tried(address, security=given)
out["plain"] = tried(address.replace("tls://", "tcp://"))
out["no certificate"] = tried(address, security=Security(require_encryption=True))
out["own certificate"] = tried(address, security=taken)
print(json.dumps(out))
"""


def test_nobody_else_is_let_in(engine: DaskEngine) -> None:
    """Any local user could run code as the master's user, or read the cluster's key."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")
    folder = engine.key.key.parent
    secrets = [engine.key.certificate, engine.key.key, folder / "scheduler.json"]
    found = subprocess.run(
        [sys.executable, "-c", STRANGER, engine.client.scheduler.address, str(nobody.pw_uid),
         str(nobody.pw_gid), *map(str, secrets)],
        timeout=100, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout.splitlines()[-1])
    assert said.pop("user") == nobody.pw_uid
    assert {said.pop(str(path)) for path in secrets} == {"PermissionError"}
    assert said.pop("key") == "8"
    assert set(said) == {"plain", "no certificate", "own certificate"}
    assert "8" not in said.values(), said


def test_workers_ask_for_the_clusters_own_certificate(engine: DaskEngine) -> None:
    """A stranger could talk to a worker directly, past the scheduler."""
    for address in [*engine.name_of, engine.client.scheduler.address]:
        host, _, port = address.removeprefix("tls://").rpartition(":")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _ask(context, host, int(port))


def _ask(context: ssl.SSLContext, host: str, port: int) -> None:
    """Talk TLS to an address; TLS 1.3 refuses who has no certificate only at the first read."""
    with (
        socket.create_connection((host, port), timeout=5) as plain,
        context.wrap_socket(plain) as link,
    ):
        link.sendall(b"\0" * 64)
        while link.recv(1):
            continue
        raise ConnectionError("closed without an answer")
