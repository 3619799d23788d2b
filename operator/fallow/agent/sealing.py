"""Results of replicated tasks: committed to when the task ends, revealed when the hub asks.

The salt follows from the agent's key, the placement and the index, so there is nothing to store for it; the
digest is kept with the opening in the GuestSet, in the same write that records the end. Whatever dies in
between, the same task is committed to and opened in the same way.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import replace

from eth_account.signers.local import LocalAccount

from fallow.agent.outcomes import Ending
from fallow.agent.work import Work
from fallow.resources.ended import Ended, Outcome
from fallow.resources.placement import InlineResult, Progress
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.resources.reveal import SALT_BYTES, Reveal


def reveal_of(ended: Ended, *, work: Work, key: LocalAccount) -> Reveal | None:
    """Return what will open a task's commitment; None where there is no result to commit to."""
    if ended.outcome is not Outcome.SUCCEEDED or not ended.digest:
        return None
    about = b"fallow salt 1" + uuid.UUID(work.uid).bytes + ended.index.to_bytes(4, "big")
    return Reveal(ended.index, hmac.digest(bytes(key.key), about, "sha256")[:SALT_BYTES], ended.digest)


def sealed(ending: Ending, reveal: Reveal, *, placement_uid: str) -> Ending:
    """Return an ending that says the commitment where it said the digest."""
    return replace(ending, ended=replace(ending.ended, digest=reveal.commitment(placement_uid)))


def told_of(work: Work, progress: Progress) -> tuple[tuple[str, ...], tuple[InlineResult, ...], IndexRanges]:
    """Return of a record what the hub may hear: openings, results; and the tasks that still hide theirs.

    A placement with hidden results is not finished, but for tasks that were released: nobody will ask.
    """
    if not work.sealed:
        return (), progress.results, EMPTY
    wanted = work.reveal
    reveals = [(text, int(text.partition(":")[0])) for text in progress.reveals]
    committed = (Ended.parse(text) for text in progress.ended)
    hidden = IndexRanges.of(one.index for one in committed if one.outcome is Outcome.SUCCEEDED and one.digest)
    return (
        tuple(text for text, index in reveals if index in wanted),
        tuple(one for one in progress.results if one.index in wanted),
        hidden - wanted - work.released,
    )
