"""Ledger mode's counterpart of the escrow: Settlements in a file, chained and signed by the settler.

There is no chain to ask. What stands in for it is the settler's signature over each commitment;
whoever verifies has to know its address from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fallow.cli.proofs import Place
from fallow.errors import InvalidSetting, MoneyError
from fallow.receipts.epochs import Line, commitment, genesis_commitment, pack_lines
from fallow.receipts.messages import Settlement
from fallow.receipts.typed_data import Domain, check_signed_by
from fallow.receipts.words import ZERO_ADDRESS, ZERO_WORD, from_hex, keccak, to_hex
from fallow.resources.money import parse_amount
from fallow.resources.settlement import SettlementSpec


class LedgerReader:
    """The chain of a ledger's Settlements; with `settler`, each has to be signed by that address."""

    def __init__(self, specs: Sequence[SettlementSpec], *, settler: str | None = None) -> None:
        ledger = sorted((one for one in specs if one.mode == "ledger"), key=lambda one: one.epoch)
        if not ledger:
            raise InvalidSetting("--settlements has none of ledger mode.")
        self._domain = Domain.of_ledger(from_hex(ledger[0].hub_id))
        self._decimals = ledger[0].token_decimals
        self._commitments = [genesis_commitment(self._domain)]
        for spec in ledger:
            self._commitments.append(self._checked(spec, settler=settler))

    @classmethod
    def of_file(cls, path: Path, *, settler: str | None = None) -> LedgerReader:
        """Read `kubectl get settlements -o json`."""
        try:
            content: Any = json.loads(path.read_text())
            objects = content["items"] if content.get("kind", "").endswith("List") else [content]
            specs = [SettlementSpec.model_validate(one["spec"]) for one in objects]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            first = str(error).splitlines()[0]
            raise InvalidSetting(f"--settlements {path} cannot be read: {first}.") from None
        return cls(specs, settler=settler)

    def place(self) -> Place:
        """Return the ledger's domain; it has no token of its own."""
        return Place(domain=self._domain, token=ZERO_ADDRESS, decimals=self._decimals)

    def last_epoch(self) -> int:
        """Return the number of the last epoch."""
        return len(self._commitments) - 1

    def commitment(self, epoch: int) -> bytes:
        """Return an epoch's commitment; zeros when there is none."""
        return self._commitments[epoch] if epoch < len(self._commitments) else ZERO_WORD

    def _checked(self, spec: SettlementSpec, *, settler: str | None) -> bytes:
        if spec.epoch != len(self._commitments):
            raise MoneyError(f"the ledger lacks epoch {len(self._commitments)}, or has it twice")
        lines = [
            Line(one.payer, one.payee, parse_amount(one.amount, decimals=spec.token_decimals))
            for one in spec.lines
        ]
        message = Settlement(
            epoch=spec.epoch,
            previous_commitment=self._commitments[-1],
            lines_hash=keccak(pack_lines(lines)),
            claims_root=from_hex(spec.claims_root),
            allocations_root=from_hex(spec.allocations_root),
            bundle_hash=from_hex(spec.bundle_hash),
        )
        if to_hex(commitment(message)) != spec.commitment:
            raise MoneyError(f"the Settlement of epoch {spec.epoch} is not what its commitment says")
        if settler is not None:
            check_signed_by(settler, self._domain, message, signature=spec.signature or "0x")
        return commitment(message)
