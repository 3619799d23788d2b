"""The settler as a process of its own, which a test may kill at any step and start again.

Processes come from a fork server that has imported web3 already: a start costs 0.2 s, not 3 s, and
is a process like any other.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from eth_account import Account

import money_terms as money
from devkit.rig import Rig
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import keccak, to_hex

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["fallow.settler.app"])
STOP_SECONDS = 60


class SettlerProcess:
    """`fallow settler` for one escrow, or for a ledger, of one hub."""

    def __init__(
        self,
        rig: Rig,
        directory: Path,
        domain: Domain,
        *,
        token: str = "0x" + "70" * 20,
        rpc_url: str | None = None,
        confirmations: int = 2,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.archive = directory / "archive"
        self.log = directory / "settler.log"
        self.revealer = directory / "revealer.json"
        """Keystore of a key that may answer disputes; its password is in `password`."""
        self.revealer.write_text(
            json.dumps(Account.encrypt(money.key("revealer").key, "secret", kdf="pbkdf2", iterations=1000))
        )
        self.password = directory / "password"
        keystore, password, salt = (directory / name for name in ("key.json", "password", "salt"))
        # Few iterations: the key is a test's, and opening it should not take a second.
        keystore.write_text(
            json.dumps(Account.encrypt(money.key("operator").key, "secret", kdf="pbkdf2", iterations=1000))
        )
        password.write_text("secret\n")
        salt.write_text(keccak(b"salt").hex())
        self._settings = {
            "kubeconfig": str(rig.identities["settler"]),
            "hub-id": to_hex(domain.hub_id),
            "payments.mode": "ledger" if rpc_url is None else "chain",
            "payments.chain-id": str(domain.chain_id),
            "payments.escrow": domain.escrow,
            "payments.token": token,
            "operator.keystore": str(keystore),
            "operator.password-file": str(password),
            "salt-key-file": str(salt),
            "archive-directory": str(self.archive),
            "epochs.max-age-seconds": "0",
            "epochs.poll-seconds": "0.05",
            "epochs.resync-seconds": "1",
            "epochs.tell-submitted-seconds": "0",
            "chain.confirmations": str(confirmations),
            "lease.enabled": "false",
            "metrics-address": "off",
            "log-format": "console",
        }
        if rpc_url is not None:
            self._settings["chain.rpc-urls"] = rpc_url
        self._process: BaseProcess | None = None

    def arguments(self, **settings: str | None) -> list[str]:
        """Return the command line's flags. A setting that is None is left out."""
        chosen: dict[str, str | None] = dict(self._settings)
        chosen |= {name.replace("__", ".").replace("_", "-"): value for name, value in settings.items()}
        return [f"--{name}={value}" for name, value in chosen.items() if value is not None]

    def start(self, *, fault: str = "", **settings: str | None) -> None:
        """Start it; with `fault` it kills itself at that step."""
        arguments = self.arguments(fault_point=fault, **settings)
        self._process = _server.Process(target=_run, args=(arguments, str(self.log)), daemon=True)
        self._process.start()

    def wait(self, *, seconds: float = 120) -> int:
        """Wait for its end and return its exit status."""
        assert self._process is not None
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"still running after {seconds} s:\n{self.said()}"
        return self._process.exitcode

    @property
    def ended(self) -> int | None:
        """Its exit status, or None while it runs."""
        return None if self._process is None else self._process.exitcode

    def stop(self) -> int:
        """Ask it to end, as Kubernetes does."""
        assert self._process is not None
        self._process.terminate()
        return self.wait(seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Kill it at a moment that nobody chose."""
        assert self._process is not None
        self._process.kill()
        self._process.join()

    def said(self) -> str:
        """Return the end of its log."""
        return self.log.read_text()[-6000:] if self.log.exists() else "(no log)"

    def __enter__(self) -> SettlerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is not None and self._process.is_alive():
            self.kill()
        if kind is not None:
            print(self.said())


def _run(arguments: Sequence[str], log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(output, number)
    from fallow.cli import run

    run.settler(list(arguments))


def claim_object(spec: Any, *, name: str, namespace: str) -> dict[str, Any]:
    """Return a PaymentClaim as the hub creates it."""
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "PaymentClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec.wire(),
    }
