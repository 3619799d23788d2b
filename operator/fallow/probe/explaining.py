"""Which pod a process belongs to, so that one that belongs to none is noticed.

A container's processes are in a control group below its pod's, and the pod's carries the pod's UID,
with either cgroup driver and version:

    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b…_….slice/cri-containerd-….scope
    /kubepods/besteffort/pod0a1b…-…/4c5d…

The probe sees host PIDs and reads /proc/PID/cgroup; from inside a control-group namespace the paths
start with /../, which is why only the pod's own segment is looked for. The kubelet's pod-resources
socket could say which pod *holds* a device without using it; it is gRPC, whose library would take
20 MB of the 60 the probe may have, and what pods hold the agent knows from their requests.
`PodResources` is where such a source would be put in.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

_UUID = r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}"
# A static pod's UID is a hash of 32 digits.
_POD = re.compile(rf"(?:^|[/-])pod({_UUID}|[0-9a-f]{{32}})(?:\.slice)?(?:/|$)")

HOST = ""
"""The explanation of a process that no pod explains."""


class PodResources(Protocol):
    """Explains processes on devices."""

    def pod_of(self, pid: int, *, device: str) -> str | None:
        """Return the UID of the pod behind a process on a device, HOST if none is, None if it is gone."""


def pod_uid(cgroup: str) -> str:
    """Return the pod's UID out of /proc/PID/cgroup, or HOST."""
    for line in cgroup.splitlines():
        if found := _POD.search(line.rpartition(":")[2]):
            return found[1].replace("_", "-")
    return HOST


class CgroupPodResources:
    """Explains by control groups. `proc` is where the host's /proc is."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._missing: set[int] = set()
        self._missing_before: frozenset[int] = frozenset()

    def pod_of(self, pid: int, *, device: str) -> str | None:
        """See `PodResources`. A process that NVML still shows a look later but /proc never is HOST.

        That is one in a process namespace the probe cannot see: no pod that it could name.
        """
        try:
            text = (self._proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            self._missing.add(pid)  # a process on several devices is asked for several times in one look
            return HOST if pid in self._missing_before else None
        return pod_uid(text)

    def next_look(self) -> None:
        """Say that a look is over: what was missing in it and is missing in the next stays missing."""
        self._missing_before, self._missing = frozenset(self._missing), set()
