"""A hub restored from an etcd snapshot taken before the last three epochs: nothing twice, nothing lost.

Four jobs are known to the backup: one that was paid, one that runs through everything, and three that
were let run only after it, each paid by an epoch of its own. The restored hub would run those three
again and has never heard of their epochs; the archive and the chain have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import Member, Rig, up
from devkit.scenario.invariants import (
    assert_each_index_succeeded_and_was_paid_once,
    assert_money_is_conserved,
    assert_nothing_is_paid_twice,
)
from devkit.scenario.pod_log import PodLog
from devkit.scenario.restoring import restored, snapshot
from devkit.scenario.submitting import (
    GROUP,
    JOBS,
    Json,
    a_job,
    get,
    running,
    submit,
    wait_for,
    wait_settled,
)

_FALLOW = str(Path(sys.executable).with_name("fallow"))
_TASKS = 4
_LIMIT_SECONDS = 180.0


def run() -> dict[str, Any]:
    """Restore a rig's hub; raises DevkitError with what was paid twice or lost."""
    state = Path(tempfile.mkdtemp(prefix="fallow-restore-"))
    member = Member(name="aurora", nodes=4, gpus_per_node=8)
    with up(state, members=[member], say=print) as rig:
        try:
            return restore_before_three_epochs(rig)
        except AssertionError as error:
            raise DevkitError(f"{error}\nLogs: {state / 'logs'}") from error


def restore_before_three_epochs(rig: Rig) -> dict[str, Any]:
    """Play it on a rig of its own with the member aurora. Raises AssertionError."""
    backup = rig.state / "backup.db"
    with PodLog(rig.members["aurora"]) as pods:
        paid = wait_settled(rig, submit(rig, a_job(_TASKS)))
        held = [submit(rig, a_job(_TASKS, suspend=True)) for _ in range(3)]
        through = submit(rig, a_job(_TASKS, run_seconds=45))
        wait_for(rig, through, lambda now: running(now) == _TASKS, seconds=60, what="to run")
        snapshot(rig, backup)
        before = len(_settlements(rig))
        for job in held:
            _let_run(rig, job)
            wait_settled(rig, job)
        after = _settlements(rig)
        assert len(after) >= before + 3, "each of the three was to be an epoch of its own"

        began = time.monotonic()
        with restored(rig, backup):
            assert len(_settlements(rig)) == before, "the backup knows nothing of the last epochs"
            assert all(get(rig, job)["spec"]["suspend"] for job in held)
            rig.processes.start_again(rig.fallow["settler"])
            rig.hub_client().until(
                "the Settlements replayed", lambda: len(_settlements(rig)) == len(after), seconds=60
            )
            rig.processes.start_again(rig.fallow["hub"])
            _folds(rig)
        restored_seconds = time.monotonic() - began

        for job in held:  # as their owners would, who find them suspended
            _let_run(rig, job)
            wait_settled(rig, job, seconds=_LIMIT_SECONDS)
        wait_settled(rig, through, seconds=_LIMIT_SECONDS)
        fresh = wait_settled(rig, submit(rig, a_job(_TASKS)), seconds=_LIMIT_SECONDS)
        pods.catch_up()
        for job in (paid, *held, through, fresh):
            ran = pods.pods_of(job["metadata"]["uid"])
            assert all(len(ran.get(index, ())) == 1 for index in range(_TASKS)), f"not once each: {ran}"
            assert_each_index_succeeded_and_was_paid_once(rig, job)
        assert_nothing_is_paid_twice(rig)
        assert_money_is_conserved(rig)
    epochs = [one["spec"]["epoch"] for one in _settlements(rig)]
    assert sorted(epochs) == list(range(1, len(epochs) + 1))
    return {
        "epochs_lost_by_the_backup": len(after) - before,
        "epochs_in_the_end": len(epochs),
        "claims_paid_twice": 0,
        "tasks_run_twice": 0,
        "seconds_from_loss_to_restored": round(restored_seconds, 1),
    }


def _let_run(rig: Rig, job: Json) -> None:
    path = f"{JOBS}/{job['metadata']['name']}"
    rig.client("submitter").merge(path, {"spec": {"suspend": False}})


def _settlements(rig: Rig) -> list[Json]:
    found: list[Json] = rig.client("hub_admin").get(f"{GROUP}/settlements")["items"]
    return [one for one in found if (one.get("status") or {}).get("state") != "Abandoned"]


def _folds(rig: Rig) -> None:
    """Run `fallow hub restore` with the administrator's rights."""
    assert rig.chain is not None
    words = ["hub", "restore", "--kubeconfig", str(rig.hub_kubeconfig), "--archive", str(rig.archive)]
    words += ["--rpc", rig.chain["rpc"], "--escrow", rig.chain["escrow"]]
    done = subprocess.run([_FALLOW, *words], capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
