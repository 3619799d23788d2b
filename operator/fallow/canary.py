"""`fallow canary`: a guest that tries what guests must not reach, and says what it reached.

An ordinary guest pod runs it: same namespace, same policies, same rights. It needs nothing but the standard
library and starts in a blink. Two of them: `listen` is a neighbour that waits to be reached, `probe` tries
the API server, the kubelets, the metadata services and that neighbour, and looks for its process limit. What
it found is one line of JSON, its termination message:

    {"version": 1, "reached": {"Metadata": "169.254.169.254:80 answers"}, "pids": 1024}

`reached` has the checks of `Offer.spec.acceptUnproven` that failed, with words; `pids` is null where there is
no limit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

NEIGHBOUR_PORT = 7070
SECONDS = 3.0
"""How long a connection may take: a policy that drops packets makes it take for ever."""
MOST_PROCESSES = 5000
"""Threads tried where no limit can be read: a pod's limit is its parent group's, which no container sees."""
KUBELET_PORTS = (10250, 10255)
METADATA = (
    ("169.254.169.254", 80),  # nearly every cloud
    ("fd00:ec2::254", 80),
    ("100.100.100.200", 80),
    ("169.254.170.2", 80),  # credentials of containers
)
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
PIDS_MAX = (Path("/sys/fs/cgroup/pids.max"), Path("/sys/fs/cgroup/pids/pids.max"))

Address = tuple[str, int]
Connects = Callable[[Address], bool]


def main(arguments: Sequence[str]) -> int:
    """Run as neighbour or probe; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fallow canary", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("role", choices=("listen", "probe"))
    parser.add_argument("--neighbour", default="", help="address of the pod that listens")
    parser.add_argument("--kubelets", default="", help="addresses of other nodes, separated by commas")
    parser.add_argument("--message", type=Path, default=Path("/dev/termination-log"), help="where to write")
    given = parser.parse_args(arguments)
    if given.role == "listen":
        listen()
        return 0
    found = probe(
        environ=os.environ,
        neighbour=given.neighbour,
        kubelets=[each for each in given.kubelets.split(",") if each],
    )
    text = json.dumps(found, ensure_ascii=False)
    given.message.write_text(text)
    sys.stdout.write(text + "\n")
    return 0


def listen() -> None:
    """Accept connections on every address until told to end."""
    family = socket.AF_INET6 if socket.has_ipv6 and socket.has_dualstack_ipv6() else socket.AF_INET
    host = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - being reached is its purpose
    dual = family == socket.AF_INET6
    server = socket.create_server((host, NEIGHBOUR_PORT), family=family, dualstack_ipv6=dual)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        server.accept()[0].close()


def probe(
    *, environ: Mapping[str, str], neighbour: str, kubelets: Sequence[str], connects: Connects | None = None
) -> dict[str, object]:
    """Try everything; return what is to be told. `connects` says whether an address can be connected to."""
    tries = dict(_tries(environ, neighbour=neighbour, kubelets=kubelets, connects=connects or connected))
    said: dict[str, list[str]] = {}
    lock = threading.Lock()

    def attempt(key: tuple[str, str], look: Callable[[], str]) -> None:
        words = look()
        if words:
            with lock:
                said.setdefault(key[0], []).append(words)

    threads = [threading.Thread(target=attempt, args=each, daemon=True) for each in tries.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=4 * SECONDS)
    limit = process_limit()
    if limit is None:
        said.setdefault("Pids", []).append(f"no limit up to {MOST_PROCESSES} processes")
    reached = {check: "; ".join(sorted(words))[:300] for check, words in sorted(said.items())}
    return {"version": 1, "reached": reached, "pids": limit}


def _tries(
    environ: Mapping[str, str], *, neighbour: str, kubelets: Sequence[str], connects: Connects
) -> Iterator[tuple[tuple[str, str], Callable[[], str]]]:
    """Yield what to look at: a check and a name, and what returns words when it was reached."""

    def plain(host: str, port: int) -> Callable[[], str]:
        return lambda: f"{host}:{port} answers" if connects((host, port)) else ""

    yield ("ApiServer", "token"), lambda: f"a token is at {TOKEN}" if TOKEN.exists() else ""
    if api := environ.get("KUBERNETES_SERVICE_HOST"):
        port = int(environ.get("KUBERNETES_SERVICE_PORT") or 443)
        yield ("ApiServer", api), plain(api, port)
    if own := environ.get("FALLOW_HOST_IP"):
        # NB: no policy can block a pod's own node; there it counts what the kubelet tells strangers.
        yield ("Kubelet", own), lambda: _kubelet_tells(own)
        yield ("Kubelet", f"{own} read-only"), plain(own, KUBELET_PORTS[1])
    for other in kubelets:
        for port in KUBELET_PORTS:
            yield ("Kubelet", f"{other}:{port}"), plain(other, port)
    for host, port in METADATA:
        yield ("Metadata", host), plain(host, port)
    if neighbour:
        yield ("Neighbour", neighbour), plain(neighbour, NEIGHBOUR_PORT)


def connected(address: Address) -> bool:
    """Say whether a TCP connection comes about in time."""
    try:
        with socket.create_connection(address, timeout=SECONDS):
            return True
    except OSError:
        return False


def _kubelet_tells(host: str) -> str:
    """Ask the own node's kubelet for pods without any credentials; words when it tells."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is told to it either
    connection = http.client.HTTPSConnection(host, KUBELET_PORTS[0], timeout=SECONDS, context=context)
    try:
        connection.request("GET", "/pods")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    return f"{host}:{KUBELET_PORTS[0]} serves /pods to anybody" if status < 400 else ""


def process_limit(*, files: Sequence[Path] = PIDS_MAX, most: int = MOST_PROCESSES) -> int | None:
    """Return the most processes this pod may have; None when none was found up to `most`."""
    for path in files:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return int(text)
    return _tried_limit(most)


def _tried_limit(most: int) -> int | None:
    """Start threads, which count as processes, until the kernel refuses one."""
    over = threading.Event()
    before = threading.stack_size(65_536)
    started: list[threading.Thread] = []
    try:
        for number in range(most):
            thread = threading.Thread(target=over.wait, daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError):  # "can't start new thread"
                return number + 1
            started.append(thread)
        return None
    finally:
        over.set()
        for thread in started:
            thread.join()
        threading.stack_size(before)
