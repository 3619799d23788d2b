"""`fallow agent leave`: what an uninstall does, so that an owner who leaves gets everything back.

Before the agent ends it pauses the Offer and waits until no guest is left: only a living agent takes the
finalizers off guests and reports how they ended. After the probes have ended, `--nodes` takes their
annotation off the nodes. The chart runs both as hooks; by hand they do the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from fallow.errors import FallowError, NotFound
from fallow.kube.client import ApiServer
from fallow.kube.kinds import NODE, OFFER, POD
from fallow.resources.offer import OFFER_NAME
from fallow.resources.probe_report import PROBE_ANNOTATION

_PAUSE_SECONDS = 1.0
_REPORT_SECONDS = 3.0
"""What the agent gets to tell the hub of the last guest, before it is asked to end. It also flushes then."""


class GuestsStay(FallowError):  # noqa: N818  (a sentence, as all in errors.py)
    """Guests are still there after the time they were given."""


async def give_back_capacity(api: ApiServer, *, namespace: str, seconds: float) -> None:
    """Pause the Offer and return once no guest is left in `namespace`.

    Raises GuestsStay after `seconds`; the Offer stays paused then.
    """
    with contextlib.suppress(NotFound):  # the agent never got as far as making one
        await api.patch(OFFER, OFFER_NAME, {"spec": {"paused": True}})
    deadline = time.monotonic() + seconds
    while guests := (await api.list(POD, namespace=namespace)).items:
        if time.monotonic() > deadline:
            names = ", ".join(guest["metadata"]["name"] for guest in guests[:3])
            raise GuestsStay(
                f"{len(guests)} guests are still in {namespace} after {seconds:.0f} s ({names}). "
                "The Offer is paused. Does the agent run? Only it takes away its finalizers."
            )
        await asyncio.sleep(_PAUSE_SECONDS)
    await asyncio.sleep(_REPORT_SECONDS)


async def clean_nodes(api: ApiServer) -> int:
    """Take the probe's annotation off every node; return off how many."""
    cleaned = 0
    for node in (await api.list(NODE)).items:
        if PROBE_ANNOTATION in (node["metadata"].get("annotations") or {}):
            patch = {"metadata": {"annotations": {PROBE_ANNOTATION: None}}}
            await api.patch(NODE, node["metadata"]["name"], patch)
            cleaned += 1
    return cleaned


def run(arguments: Sequence[str]) -> str:
    """Run the command; return the sentence to show."""
    parser = argparse.ArgumentParser(
        prog="fallow agent leave",
        description="Pause the Offer and wait until every guest is gone: what an uninstall does first.",
    )
    parser.add_argument("--nodes", action="store_true", help="instead: take the probe's annotation off nodes")
    parser.add_argument("--namespace", default="fallow-guests", help="where guests are (fallow-guests)")
    parser.add_argument("--wait-seconds", type=float, default=600, help="how long guests get (600)")
    parser.add_argument("--kubeconfig", type=Path, help="path of a kubeconfig; without it, the pod's own")
    options = parser.parse_args(arguments)

    async def connected() -> str:
        async with await ApiServer.connect(options.kubeconfig, name="member") as api:
            if options.nodes:
                return f"The probe's annotation is off {await clean_nodes(api)} nodes."
            await give_back_capacity(api, namespace=options.namespace, seconds=options.wait_seconds)
            return f"The Offer is paused and no guest is left in {options.namespace}."

    return asyncio.run(connected())
