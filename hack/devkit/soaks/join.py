"""Thirty providers join at once through invites; each gets work within a minute, and none gets in elsewhere.

Real agents, each on an API server of its own (no scheduler, nodes that are ready for ever), all up before the
clock starts. An admin accepts them one after another; the clock of each starts at its acceptance. Then each
tries twenty calls that its token must not open. FALLOW_SOAK_PROVIDERS sets how many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import Member, Rig, up
from devkit.rig.fallow import offer
from devkit.rig.keys import new_key
from devkit.scenario.joining import (
    GROUP,
    answered,
    door_settings,
    forbidden_calls,
    kept_token,
    provider_state,
    unpacked,
    with_token,
)

HUB_ID = "0x" + "ab" * 32
LIMIT_SECONDS = 60.0
"""From a provider's acceptance until it gets work."""
PATIENCE_SECONDS = 300.0
FALLOW = str(Path(sys.executable).with_name("fallow"))


def run() -> dict[str, Any]:
    """Run on a rig of its own; raises DevkitError with what did not hold."""
    count = int(os.environ.get("FALLOW_SOAK_PROVIDERS") or 30)
    state = Path(tempfile.mkdtemp(prefix="fallow-join-"))
    members = [Member(name=f"member-{number}", nodes=2, bare=True) for number in range(1, count + 1)]
    with up(state, members=members, with_fallow=False, say=print) as rig:
        print(f"{count} members are up after {rig.ready_seconds:.0f} s")
        try:
            return _joined(rig)
        except AssertionError as error:
            raise DevkitError(f"{error}\nLogs: {state / 'logs'}") from error


def _joined(rig: Rig) -> dict[str, Any]:
    names = list(rig.members)
    told = "/api/v1/namespaces/fallow-system/configmaps/fallow-hub-told"
    _start(
        rig,
        "hub",
        {"FALLOW_HUB_ID": HUB_ID, "FALLOW_KUBECONFIG": str(rig.identities["hub"])}
        | door_settings(rig, rig.state),
    )
    client = rig.hub_client()
    _until("the hub tells of itself", lambda: answered(client, "GET", told, None) == 200)

    invited_at = time.monotonic()
    for name in names:
        manifest = rig.state / f"{name}.invite.yaml"
        _provider(rig, "invite", name, "--output", str(manifest))
        member = rig.members[name]
        member.client().apply(f"{GROUP}/offers/default", offer(member.spec))
        _start(
            rig,
            f"agent {name}",
            {
                "FALLOW_KUBECONFIG": str(member.agent_kubeconfig),
                "FALLOW_JOIN__INVITE_FILE": str(unpacked(manifest)),
                "FALLOW_PAYEE": new_key().address,
            },
        )
    _until("all have answered", lambda: _waiting(rig) == len(names))
    answered_seconds = time.monotonic() - invited_at

    accepted: dict[str, float] = {}
    schedulable: dict[str, float] = {}
    for name in names:
        _provider(rig, "accept", name, "--yes")
        accepted[name] = time.monotonic()

    def all_in() -> bool:
        for name in names:
            if name not in schedulable and provider_state(client, name) == "True":
                schedulable[name] = time.monotonic() - accepted[name]
        return len(schedulable) == len(names)

    _until("all get work", all_in)
    late = {name: round(took, 1) for name, took in schedulable.items() if took > LIMIT_SECONDS}
    assert not late, f"more than {LIMIT_SECONDS:.0f} s from acceptance to work: {late}"
    return {
        "providers": len(names),
        "seconds_to_answer": round(answered_seconds, 1),
        "seconds_to_schedulable_max": round(max(schedulable.values()), 1),
        "seconds_to_schedulable_median": round(sorted(schedulable.values())[len(names) // 2], 1),
        "forbidden_calls_refused": _tried(rig, names),
        "load_average": os.getloadavg()[0],
    }


def _tried(rig: Rig, names: list[str]) -> int:
    """Let every agent's token try what it must not; return how many calls were refused."""
    refused = 0
    for at, name in enumerate(names):
        client = with_token(rig, kept_token(rig.members[name].client()))
        assert client.get(f"{GROUP}/namespaces/provider-{name}/quotes")["items"], f"{name} cannot do its work"
        for method, path, body in forbidden_calls(name, names[at - 1]):
            status = answered(client, method, path, body)
            assert status == 403, f"{name}: {method} {path} was answered with {status}"
            refused += 1
    return refused


def _waiting(rig: Rig) -> int:
    rows = json.loads(_provider(rig, "list", "--json"))
    return sum(row["state"] == "Waiting" for row in rows)


def _provider(rig: Rig, *arguments: str) -> str:
    """Run `fallow provider` as the hub's admin."""
    command = [FALLOW, "provider", *arguments, "--kubeconfig", str(rig.identities["hub_admin"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"fallow provider {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _start(rig: Rig, what: str, environ: dict[str, str]) -> None:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LANG") if key in os.environ}
    program = what.partition(" ")[0]
    rig.processes.start(
        f"fallow.{what.replace(' ', '-')}",
        [FALLOW, program],
        environ={**kept, **environ, "FALLOW_METRICS_ADDRESS": "off"},
    )


def _until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {what}"
        time.sleep(0.5)
