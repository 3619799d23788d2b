"""A short seeded run of the chaos; the long one is `hack/soak chaos`."""

from __future__ import annotations

from pathlib import Path

from devkit.rig import up
from devkit.scenario.chaos import MEMBERS, Chaos

SEED = 20_261_122
SECONDS = 60


def test_chaos__when_everything_breaks_for_a_minute__then_all_converges_and_is_paid_once(
    tmp_path: Path,
) -> None:
    with up(tmp_path, members=MEMBERS) as rig:
        figures = Chaos(rig, seed=SEED).run(seconds=SECONDS)
    print(figures)
    assert figures["jobs"] > 5
    assert len(figures["faults"]) > 3
