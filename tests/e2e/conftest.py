"""The whole of Fallow on a rig, as the demo has it: hub, two members, a chain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devkit.rig import Member, Rig, up

AURORA = Member(
    name="aurora",
    nodes=16,
    region="eu-north-1",
    prices={"gpu": "2.00", "cpu": "0.01", "memory_gib": "0.001"},
)
BOREALIS = Member(
    name="borealis",
    nodes=8,
    region="us-east-1",
    prices={"gpu": "2.20", "cpu": "0.012", "memory_gib": "0.0012"},
)


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Aurora with 16 × 8 H100 and borealis with 8 × 8, everything running, paid on a chain."""
    with up(tmp_path_factory.mktemp("e2e"), members=[AURORA, BOREALIS]) as rig:
        print(f"\nrig ready after {rig.ready_seconds:.1f} s: {rig.state}")
        yield rig


@pytest.fixture(scope="session")
def ledger_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The same in ledger mode: no chain, no chain keys."""
    with up(tmp_path_factory.mktemp("ledger"), members=[AURORA, BOREALIS], payments="ledger") as rig:
        yield rig
