"""The hub's etcd restored from a snapshot of before the last three epochs."""

from __future__ import annotations

from pathlib import Path

from devkit.rig import Member, up
from devkit.soaks.restore import restore_before_three_epochs


def test_restore__from_a_snapshot_before_three_epochs__then_nothing_runs_or_is_paid_twice_or_lost(
    tmp_path: Path,
) -> None:
    with up(tmp_path, members=[Member(name="aurora", nodes=4, gpus_per_node=8)]) as rig:
        figures = restore_before_three_epochs(rig)
    assert figures["epochs_lost_by_the_backup"] >= 3
