"""`fallow settler --dry-run`: what would be settled and sent now, as JSON, for a person to read.

Looks as the cycle does, at the same chain, archive and claims, and writes and sends nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from fallow.receipts.words import from_hex, to_hex
from fallow.resources.money import format_amount
from fallow.settler.beginning import Beginner
from fallow.settler.bundling import draft
from fallow.settler.parts import Parts, state_of
from fallow.settler.protocol import Position
from fallow.settler.refusals import EscrowRefused, FeesTooHigh

JSON = dict[str, Any]


async def look(parts: Parts) -> JSON:
    """Return what a cycle would find and do. Raises what a cycle raises."""
    position = await parts.payments.position()
    await parts.history.follow(position.commitment)
    await parts.payments.account_for_sender()
    found: JSON = {
        "block": position.block,
        "finalEpoch": position.epoch,
        "settledEpoch": position.settled,
        "begun": _begun(parts, position),
        "refusedClaims": sum(claim.refusal is not None for claim in parts.hub.claims),
    }
    gathered = await Beginner(parts).look(position)
    found["waitingClaims"] = dict(sorted(Counter(w.reason for w in gathered.waiting.values()).items()))
    found["nothingOwedClaims"] = len(gathered.nothing_owed)
    if gathered.chosen:
        settlement, lines = draft(gathered.chosen, position=position)
        decimals = parts.money.decimals
        found["epoch"] = {
            "number": settlement.epoch,
            "previousCommitment": to_hex(settlement.previous_commitment),
            "claims": len(gathered.chosen),
            "total": format_amount(sum(line.amount for line in lines), decimals=decimals),
            "lines": [
                {
                    "payer": line.payer,
                    "payee": line.payee,
                    "amount": format_amount(line.amount, decimals=decimals),
                }
                for line in lines
            ],
        }
        try:
            found["transaction"] = await parts.payments.preview(settlement, lines)
        except (EscrowRefused, FeesTooHigh) as error:
            found["notSent"] = str(error)
    return found


def _begun(parts: Parts, position: Position) -> list[JSON]:
    """Return epochs that were begun and are not final: they would be carried on first."""
    return [
        {"name": obj["metadata"]["name"], "epoch": obj["spec"]["epoch"], "state": state_of(obj)}
        for obj in parts.hub.index.unfinished()
        if state_of(obj) != "Abandoned"
        and (
            obj["spec"]["epoch"] > position.epoch
            or parts.history.commitment(obj["spec"]["epoch"]) == from_hex(obj["spec"]["commitment"])
        )
    ]
