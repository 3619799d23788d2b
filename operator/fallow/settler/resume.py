"""`fallow settler resume`: a person has looked at transactions of the operator's key that the settler
does not know, and lets it go on.

The word is a ConfigMap in the system namespace, which the settler may only read: a program that
could acknowledge strangers by itself would protect nobody. It says up to which nonce somebody has
looked; the next stranger stops everything again.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from fallow.errors import AlreadyExists, InvalidSetting
from fallow.kube.client import ApiServer
from fallow.settler.hub_objects import CONFIG_MAP, RESUME_KEY, RESUME_NAME


async def resume(api: ApiServer, *, nonce: int, namespace: str = "fallow-system") -> None:
    """Say that every transaction of the operator's key below `nonce` is known to a person.

    Raises Forbidden when `api`'s identity may not; InvalidSetting for a negative nonce.
    """
    if nonce < 0:
        raise InvalidSetting("--nonce must not be negative.")
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": RESUME_NAME, "namespace": namespace},
        "data": {RESUME_KEY: str(nonce)},
    }
    try:
        await api.create(CONFIG_MAP, wanted)
    except AlreadyExists:
        await api.patch(CONFIG_MAP, RESUME_NAME, {"data": wanted["data"]}, namespace=namespace)


def run(arguments: Sequence[str]) -> str:
    """Run the command; returns the sentence to show. Asks before it does what it is asked for."""
    parser = argparse.ArgumentParser(
        prog="fallow settler resume",
        description="Let the settler go on after transactions of the operator's key that it did not sign. "
        "Find out first who sent them: the settler's log, /healthz and metrics name the first one.",
    )
    parser.add_argument(
        "--nonce", type=int, required=True, help="transactions below this nonce are known to you"
    )
    parser.add_argument("--kubeconfig", type=Path, help="path of a kubeconfig for the hub's cluster")
    parser.add_argument("--system-namespace", default="fallow-system", help="Fallow's own namespace")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    if not options.yes:
        question = f"You know every transaction of the operator's key below nonce {options.nonce}? [y/N] "
        if input(question).strip().lower() not in ("y", "yes"):
            raise InvalidSetting("Nothing was done.")

    async def connected() -> None:
        async with await ApiServer.connect(options.kubeconfig, name="hub") as api:
            await resume(api, nonce=options.nonce, namespace=options.system_namespace)

    asyncio.run(connected())
    return f"The settler goes on; transactions from nonce {options.nonce} on are looked at as before."
