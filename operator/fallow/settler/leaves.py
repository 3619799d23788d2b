"""An archived epoch as the disputes contract takes it: its header, its lines, and leaves with proofs.

What was committed to is in the bundle; here it is only put into the contract's words. A leaf that
does not hold is found out by the contract, so nothing is checked twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fallow.errors import MoneyError
from fallow.receipts import merkle
from fallow.receipts.epochs import Line, pack_lines
from fallow.receipts.messages import Settlement
from fallow.receipts.words import checksummed, from_hex, keccak, uid_bytes
from fallow.resources.money import parse_amount
from fallow.resources.paymentclaim import PaymentClaimSpec
from fallow.settler.bundle import Bundle
from fallow.settler.claim_checks import as_claim


class NoSuchLine(MoneyError):  # noqa: N818 - says what happened, as in fallow.errors
    """An epoch has no line, or no claim, as asked for."""


@dataclass(frozen=True)
class EpochLeaves:
    """The leaves of one archived epoch."""

    bundle: Bundle

    @property
    def header(self) -> tuple[Any, ...]:
        """The contract's `Epochs.Header`."""
        return header_of(self.bundle.settlement)

    @cached_property
    def lines(self) -> bytes:
        """The lines as `settle` was given them."""
        return pack_lines(self.bundle.lines)

    def line_index(self, payer: str, payee: str) -> int:
        """Return the index of the line between two. NoSuchLine when there is none."""
        return line_index(self.bundle.lines, payer=payer, payee=payee, epoch=self.bundle.settlement.epoch)

    def claims_of_line(self, line: int) -> list[int]:
        """Return the indexes of a line's claims, ascending by claim id as the contract wants them."""
        return [index for index, claim in enumerate(self._entries) if claim["line"] == line]

    def claim_id(self, index: int) -> bytes:
        """Return a claim's id."""
        return from_hex(self._entries[index]["spec"]["claimId"])

    def find(self, claim_id: bytes) -> int:
        """Return the index of a claim. NoSuchLine when the epoch does not have it."""
        for index in range(len(self._entries)):
            if self.claim_id(index) == claim_id:
                return index
        raise NoSuchLine(f"epoch {self.bundle.settlement.epoch} has no claim 0x{claim_id.hex()}")

    def line_of(self, index: int) -> int:
        """Return the index of a claim's line."""
        return int(self._entries[index]["line"])

    def leaf(self, index: int) -> tuple[Any, ...]:
        """Return the contract's `Leaf`: a claim with its place in both trees."""
        return (
            self._claim(index),
            merkle.proof_in(self._claim_tree, self._claim_leaves[index]),
            merkle.proof_in(self._allocation_tree, self._allocation_leaves[index]),
        )

    @cached_property
    def _entries(self) -> Sequence[Any]:
        return list(self.bundle.entries())

    @cached_property
    def _claim_leaves(self) -> list[bytes]:
        return [from_hex(entry["claimLeaf"]) for entry in self._entries]

    @cached_property
    def _allocation_leaves(self) -> list[bytes]:
        return [from_hex(entry["allocationLeaf"]) for entry in self._entries]

    @cached_property
    def _claim_tree(self) -> list[bytes]:
        return merkle.tree(self._claim_leaves)

    @cached_property
    def _allocation_tree(self) -> list[bytes]:
        return merkle.tree(self._allocation_leaves)

    def _claim(self, index: int) -> tuple[Any, ...]:
        entry = self._entries[index]
        spec = PaymentClaimSpec.model_validate(entry["spec"])
        amount = parse_amount(spec.amount, decimals=spec.terms.token_decimals)
        claim = as_claim(spec, amount)
        return (
            from_hex(entry["salt"]),
            index,
            claim.claim_id,
            keccak(claim.provider.encode()),
            uid_bytes(claim.job_uid),
            uid_bytes(claim.placement_uid),
            claim.quote_hash,
            claim.receipt_hash,
            claim.attempts_root,
            claim.payer,
            claim.payee,
            claim.total_seconds,
            claim.price_per_task_hour,
            claim.amount,
        )


def header_of(settlement: Settlement) -> tuple[Any, ...]:
    """Return an epoch as the contract's `Epochs.Header`."""
    return (
        settlement.epoch,
        settlement.previous_commitment,
        settlement.lines_hash,
        settlement.claims_root,
        settlement.allocations_root,
        settlement.bundle_hash,
    )


def line_index(lines: Sequence[Line], *, payer: str, payee: str, epoch: int) -> int:
    """Return the index of the line between two. NoSuchLine when the epoch has none."""
    wanted = checksummed(payer), checksummed(payee)
    for index, line in enumerate(lines):
        if (checksummed(line.payer), checksummed(line.payee)) == wanted:
            return index
    raise NoSuchLine(f"epoch {epoch} has no line from {wanted[0]} to {wanted[1]}")
