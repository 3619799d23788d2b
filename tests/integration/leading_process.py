"""A process that leads and writes while it may: `leading_process.py KUBECONFIG NAMESPACE SECONDS`.

Says "wrote N" after each write and "lost" when its lease is gone. Used by test_frozen_leader.py.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fallow.kube.client import ApiServer
from fallow.kube.kinds import CONFIG_MAP
from fallow.kube.lease import Leadership
from fallow.telemetry import configure_logging


async def main(kubeconfig: Path, namespace: str, seconds: float) -> None:
    async with await ApiServer.connect(kubeconfig, name="hub") as api:
        leadership = Leadership(
            api,
            namespace=namespace,
            name="leader",
            identity="frozen",
            duration_seconds=seconds,
            renew_seconds=seconds / 5,
        )
        await leadership.acquire()
        keeping = asyncio.create_task(leadership.keep())
        number = 0
        while leadership.may_write():
            meta = {"name": f"write-{number}", "namespace": namespace}
            await api.create(CONFIG_MAP, {"metadata": meta, "data": {"term": str(leadership.term)}})
            print(f"wrote {number}", flush=True)
            number += 1
            await asyncio.sleep(0.1)
        print("lost", flush=True)
        keeping.cancel()


if __name__ == "__main__":
    configure_logging(program="leader", log_format="console")
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
