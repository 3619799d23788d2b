"""Replicated jobs in the hub: from placements to copies, and from verdicts to where the job stands.

A verdict is first written into the job's status (`folded.succeeded`, `noMajority`, `dissent`), then claims
follow from what is written there, and only then is a placement absorbed and deleted: a hub that dies in
between decides the same, and nothing that an agent changes later changes a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fallow.hub.folding import Folded, Standing
from fallow.hub.placements import Placed
from fallow.resources.computejob import ComputeJobSpec
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.scheduler.replication import Copy, Rules, Verdicts, judge, to_open, wants

NEVER = 1_000_000_000


def is_replicated(spec: ComputeJobSpec) -> bool:
    """Return whether a job's tasks run in several copies."""
    return spec.verification.type == "Replicate"


def rules_of(spec: ComputeJobSpec, *, extra: int, owners: int) -> Rules:
    """Return how a job is verified; `owners` is how many take part now."""
    return Rules(copies=spec.verification.copies or 2, extra=extra, owners=owners)


def most_paid(spec: ComputeJobSpec, *, extra: int) -> int:
    """Return how many successes of one index are paid at most: all copies, where there is no majority."""
    return (spec.verification.copies or 2) + extra if is_replicated(spec) else 1


def copies_of(folded: Folded, live: Iterable[Placed]) -> list[Copy]:
    """Return the copies that live placements run or ran."""
    return [
        Copy(one.number, one.lane, one.owner, held=one.held, sealed=one.sealed, votes=one.votes)
        for one in live
        if one.number not in folded.placements
    ]


def judged(
    folded: Folded, live: Sequence[Placed], rules: Rules, *, tasks: IndexRanges, failed: IndexRanges
) -> Folded:
    """Return `folded` with the verdicts that have become clear, and without what nobody asks for any more."""
    undecided = tasks - folded.succeeded - folded.split - failed
    found = judge(copies_of(folded, live), undecided, rules)
    present = {one.number for one in live}
    dissent = {number: said for number, said in folded.dissent.items() if number in present}
    if found == Verdicts() and dissent == folded.dissent:
        return folded
    for number, said in found.dissent.items():
        dissent[number] = dissent.get(number, EMPTY) | said
    return replace(
        folded,
        succeeded=folded.succeeded | found.agreed,
        split=folded.split | found.split,
        dissent=dict(sorted(dissent.items())),
    )


def standing_of(
    standing: Standing, folded: Folded, live: Sequence[Placed], rules: Rules, *, tasks: IndexRanges
) -> Standing:
    """Return where a replicated job stands, from where it would stand if it were an ordinary one."""
    failed = standing.failed | folded.split
    undecided = tasks - folded.succeeded - failed
    copies = copies_of(folded, live)
    taken = EMPTY
    for one in copies:
        taken |= one.taken
    return replace(
        standing,
        pending=undecided - taken,
        held=undecided & taken,
        succeeded=folded.succeeded,
        failed=failed,
        running=min(sum(min(one.running, len(one.open)) for one in live), len(undecided & taken)),
        wants=wants(copies, undecided, rules),
        opening=to_open(copies, undecided, rules),
    )


def undecided_in(placed: Placed, folded: Folded, failed: IndexRanges) -> IndexRanges:
    """Return a placement's counted successes on which there is no written verdict yet."""
    return (placed.sealed | IndexRanges.of(placed.votes)) - folded.succeeded - folded.split - failed


def owners_taking_part(providers: Iterable[Mapping[str, object]], replicating: frozenset[str]) -> int:
    """Return how many owners have a provider that takes part in replication."""
    owners = set()
    for provider in providers:
        meta, spec = provider["metadata"], provider["spec"]
        assert isinstance(meta, dict)
        assert isinstance(spec, dict)
        if meta["name"] in replicating and spec.get("desired") != "Removed":
            owners.add(spec["ownerId"])
    return len(owners)
