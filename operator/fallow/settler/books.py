"""What was ever paid, as the archive's chain of bundles tells: the memory against paying twice.

Kept per job as index ranges, so that it grows with jobs and placements, not with attempts. An
attempt (job, index, number) is paid once, with interval billing each of its seconds; an index has at most
`replicas` paid successes, and where that is more than one, each owner has at most one of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from fallow.resources.elapsed import Elapsed
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.settler.counting import FOR_GOOD, Counted
from fallow.settler.refusals import ClaimRefused

RECEIPTS_REMEMBERED = 65_536
"""So many of the last: an older receipt that comes again is refused as forged, not as replayed."""


class Books:
    """Everything paid up to one epoch, or (in a book of its own) within the epoch being made."""

    def __init__(self) -> None:
        self.by_payer: dict[str, int] = {}
        """Smallest units debited so far."""
        self.by_account: dict[str, int] = {}
        """By namespace/name."""
        self._claim_ids: set[bytes] = set()
        self._receipts: dict[bytes, None] = {}
        self._attempts: dict[tuple[str, int], IndexRanges] = {}
        self._spans: dict[tuple[str, int], list[Elapsed]] = {}
        """Seconds paid of placements with interval billing, as their claims had them."""
        self._successes: dict[str, list[IndexRanges]] = {}
        """By job; entry k holds the indexes with more than k paid successes."""
        self._successes_of: dict[tuple[str, str], IndexRanges] = {}
        """By job and owner, of replicated jobs only."""

    def __contains__(self, claim_id: bytes) -> bool:
        return claim_id in self._claim_ids

    def add(self, paid: Counted) -> None:
        """Count a claim as paid."""
        self._claim_ids.add(paid.claim_id)
        self._receipts[paid.receipt] = None
        if len(self._receipts) > RECEIPTS_REMEMBERED:
            del self._receipts[next(iter(self._receipts))]
        number = paid.job_uid, paid.attempt
        self._attempts[number] = self._attempts.get(number, EMPTY) | paid.indexes
        if paid.spans:
            self._spans.setdefault(number, []).extend(paid.spans)
        layers = self._successes.setdefault(paid.job_uid, [])
        again = paid.succeeded
        for depth, layer in enumerate(layers):
            layers[depth], again = layer | again, layer & again
        if again:
            layers.append(again)
        if paid.replicas > 1:
            whose = paid.job_uid, paid.owner
            self._successes_of[whose] = self._successes_of.get(whose, EMPTY) | paid.succeeded
        self.by_payer[paid.payer] = self.by_payer.get(paid.payer, 0) + paid.amount
        self.by_account[paid.account] = self.by_account.get(paid.account, 0) + paid.amount

    def has_receipt(self, mark: bytes) -> bool:
        """Say whether something was paid on a receipt (`counting.receipt_mark`), lately."""
        return mark in self._receipts

    def attempts(self, job_uid: str, attempt: int) -> IndexRanges:
        """Return the indexes whose attempt of this number is paid."""
        return self._attempts.get((job_uid, attempt), EMPTY)

    def successes_of(self, job_uid: str, owner: str) -> IndexRanges:
        """Return the indexes of a replicated job of which an owner was paid a success."""
        return self._successes_of.get((job_uid, owner), EMPTY)

    def overlap(self, claim: Counted) -> IndexRanges:
        """Return the indexes of which a second that `claim` charges is paid."""
        number = claim.job_uid, claim.attempt
        paid = self._spans.get(number)
        if not paid and not claim.spans:
            return EMPTY
        wanted = claim.spans or (Elapsed(0, FOR_GOOD, claim.indexes),)
        # NB: an attempt that was paid by terms without intervals was paid from its first second.
        whole = self.attempts(*number) - _tasks(one for one in paid or () if one.stop == FOR_GOOD)
        return _overlap(wanted, [*(paid or ()), Elapsed(0, FOR_GOOD, whole)])

    def successes(self, job_uid: str, count: int) -> IndexRanges:
        """Return the indexes with at least `count` paid successes (count >= 1)."""
        layers = self._successes.get(job_uid, [])
        return layers[count - 1] if count <= len(layers) else EMPTY


def refuse_if_paid(claim: Counted, past: Books, present: Books) -> None:
    """Raise ClaimRefused when `past` and `present` (the epoch being made) together already hold
    this claim, one of its attempts, or as many successes of an index as are paid.
    """
    if claim.claim_id in past or claim.claim_id in present:
        raise ClaimRefused("AlreadyPaid", "this claim was settled before")
    for books in (past, present):
        twice = books.attempts(claim.job_uid, claim.attempt) & claim.indexes
        if twice:
            raise ClaimRefused("AlreadyPaid", f"attempt {claim.attempt} of index {twice} was paid before")
        same = books.successes_of(claim.job_uid, claim.owner) & claim.succeeded
        if same:
            raise ClaimRefused("SecondSuccess", f"owner {claim.owner} was paid for index {same} before")
        if twice := books.overlap(claim):
            raise ClaimRefused(
                "SecondsTwice", f"seconds of attempt {claim.attempt} of index {twice} were paid before"
            )
    blocked = EMPTY
    for old in range(claim.replicas + 1):
        # Indexes with `old` successes in the past and the rest of the allowance in this epoch.
        new = claim.replicas - old
        had = past.successes(claim.job_uid, old) if old else claim.succeeded
        has = present.successes(claim.job_uid, new) if new else claim.succeeded
        blocked |= had & has & claim.succeeded
    if blocked:
        raise ClaimRefused("SecondSuccess", f"a success of index {blocked} was paid before")


def _tasks(spans: Iterable[Elapsed]) -> IndexRanges:
    found = EMPTY
    for one in spans:
        found |= one.tasks
    return found


def _overlap(wanted: Iterable[Elapsed], paid: Iterable[Elapsed]) -> IndexRanges:
    found = EMPTY
    for one in paid:
        for other in wanted:
            if one.start < other.stop and other.start < one.stop:
                found |= one.tasks & other.tasks
    return found
