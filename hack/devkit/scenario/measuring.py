"""What a stretch of work cost: processor time of every process of a rig, and requests to its API servers.

Processor time is the kernel's own account (/proc/PID/stat, utime + stime), so it counts what a program really
used, whoever asked for it. Requests are the API servers' own counters.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devkit.rig import Rig

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")
_REQUEST = re.compile(r"^apiserver_request_total\{(?P<labels>.*)\} (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Counters at one moment; subtract two to get what lies between."""

    cpu_seconds: Mapping[str, float]
    """By process of the rig."""
    writes: Counter[tuple[str, str, str]]
    """Successful writes by (plane, resource, verb)."""

    @classmethod
    def read(cls, rig: Rig) -> Meter:
        """Read all counters now."""
        cpu = {name: _cpu_seconds(rig, name) for name in rig.processes.names()}
        writes: Counter[tuple[str, str, str]] = Counter()
        planes = {"hub": rig.hub_client()} | {name: one.client() for name, one in rig.members.items()}
        for plane, client in planes.items():
            for labels, value in _requests(client.get("/metrics")["text"]):
                if labels["verb"] in _WRITES and labels["code"].startswith("2"):
                    resource = "/".join(filter(None, (labels["resource"], labels["subresource"])))
                    writes[plane, resource, labels["verb"]] += value
        return cls(cpu_seconds=cpu, writes=writes)

    def since(self, before: Meter) -> Meter:
        """Return what was used between `before` and this."""
        return Meter(
            cpu_seconds={
                name: seconds - before.cpu_seconds.get(name, 0.0)
                for name, seconds in self.cpu_seconds.items()
            },
            writes=self.writes - before.writes,
        )

    def cpu_ms_per(self, count: int) -> dict[str, float]:
        """Return milliseconds per one of `count`, by program: hub, agents, settler, planes, chain."""
        groups: Counter[str] = Counter()
        for name, seconds in self.cpu_seconds.items():
            groups[_program(name)] += int(seconds * 1e6)
        return {name: round(value / 1000 / count, 2) for name, value in groups.most_common()}

    def writes_per(self, count: int) -> dict[str, float]:
        """Return writes per one of `count`, by side, resource and verb, most first."""
        groups: Counter[str] = Counter()
        for (plane, resource, verb), value in self.writes.items():
            side = "hub" if plane == "hub" else "member"
            groups[f"{side} {verb} {resource}"] += value
        return {name: round(value / count, 2) for name, value in groups.most_common(20)}


def _program(name: str) -> str:
    head, _, tail = name.partition(".")
    if head == "fallow":
        return "agents" if tail.startswith("agent-") else tail
    return f"{'hub' if head == 'hub' else 'member'} {tail}" if tail else head


def _cpu_seconds(rig: Rig, name: str) -> float:
    identity = rig.processes.identity(name)
    if identity is None:
        return 0.0
    try:
        fields = Path(f"/proc/{identity.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _requests(text: str) -> list[tuple[dict[str, str], int]]:
    return [
        (dict(_LABEL.findall(match["labels"])), int(float(match["value"])))
        for match in _REQUEST.finditer(text)
    ]
