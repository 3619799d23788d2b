"""A leader that is frozen (SIGSTOP) while another takes over writes nothing when it wakes up."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from asyncio.subprocess import PIPE
from pathlib import Path

from devkit.rig import Rig
from fallow.kube.client import ApiServer
from fallow.kube.kinds import CONFIG_MAP, LEASE, NAMESPACE
from fallow.kube.lease import Leadership

SECONDS = 2.0


async def test_leader__frozen_while_another_takes_over__finds_its_own_deadline_passed(rig: Rig) -> None:
    namespace = f"frozen-{uuid.uuid4().hex[:8]}"
    async with await ApiServer.connect(rig.hub_kubeconfig, name="hub") as api:
        await api.create(NAMESPACE, {"metadata": {"name": namespace}})
        program = Path(__file__).with_name("leading_process.py")
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(program), str(rig.hub_kubeconfig), namespace, str(SECONDS), stdout=PIPE
        )
        assert child.stdout is not None
        try:
            for number in range(3):
                assert await asyncio.wait_for(child.stdout.readline(), 20) == b"wrote %d\n" % number
            # Right after a write it sleeps: nothing is between its look at the clock and the wire.
            child.send_signal(signal.SIGSTOP)
            successor = Leadership(
                api, namespace=namespace, name="leader", identity="successor", duration_seconds=SECONDS
            )
            assert await asyncio.wait_for(successor.acquire(), 20) == 2
            taken_over = await api.get(LEASE, "leader", namespace=namespace)
            child.send_signal(signal.SIGCONT)
            said = [line async for line in child.stdout]
            await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        assert said == [b"lost\n"]
        listing = await api.list(CONFIG_MAP, namespace=namespace)
        written = [
            each["metadata"] for each in listing.items if each["metadata"]["name"].startswith("write-")
        ]
        assert len(written) == 3
        at = int(taken_over["metadata"]["resourceVersion"])
        assert all(int(each["resourceVersion"]) < at for each in written)
        await api.delete(NAMESPACE, namespace)
