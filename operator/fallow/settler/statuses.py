"""What the settler says on claims, Settlements and Accounts: pure, from facts to status objects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fallow.kube.conditions import condition, merged
from fallow.receipts.words import to_hex
from fallow.resources.base import API_VERSION
from fallow.resources.money import format_amount
from fallow.resources.settlement import SettlementTransaction
from fallow.settler.bundle import Bundle
from fallow.settler.gathering import Wait
from fallow.settler.protocol import Purse, Settled
from fallow.settler.refusals import ClaimRefused

JSON = dict[str, Any]
_CHUNK = 1000
_WHOLE_DIGITS = 18
"""Digits before the point that a DecimalAmount has at most."""


def settlement_object(bundle: Bundle, *, name: str, mode: str, signature: str | None) -> JSON:
    """Return the Settlement of an archived bundle."""
    content = bundle.content
    decimals = content["tokenDecimals"]
    names: dict[str, list[str]] = {}
    for claim in bundle.named:
        names.setdefault(claim.provider, []).append(claim.name)
    spec = {
        "epoch": content["epoch"],
        "mode": mode,
        "hubId": content["hubId"],
        "chainId": content["chainId"],
        "escrow": content["escrow"],
        "tokenDecimals": decimals,
        "previousCommitment": content["previousCommitment"],
        "commitment": to_hex(bundle.commitment),
        "claimsRoot": content["claimsRoot"],
        "allocationsRoot": content["allocationsRoot"],
        "bundleHash": to_hex(bundle.hash),
        "lines": [
            {
                "payer": line.payer,
                "payee": line.payee,
                "amount": format_amount(line.amount, decimals=decimals),
            }
            for line in bundle.lines
        ],
        "claims": [
            {"provider": provider, "claims": some[start : start + _CHUNK]}
            for provider, some in sorted(names.items())
            for start in range(0, len(some), _CHUNK)
        ],
        "total": format_amount(sum(line.amount for line in bundle.lines), decimals=decimals),
    }
    if signature is not None:
        spec["signature"] = signature
    return {"apiVersion": API_VERSION, "kind": "Settlement", "metadata": {"name": name}, "spec": spec}


def settlement_recorded(obj: Mapping[str, Any], transaction: SettlementTransaction) -> JSON:
    """Return the status with one more signed transaction, before anyone has seen it."""
    status = dict(obj.get("status") or {})
    earlier = list(status.get("transactions") or [])[-15:]
    # NB: only the newest is ever sent again; a dozen of a long epoch's would not fit into one object.
    earlier[:-3] = [{**each, "raw": "0x"} for each in earlier[:-3]]
    return {**status, "state": status.get("state", "Pending"), "transactions": [*earlier, transaction.wire()]}


def settlement_submitted(obj: Mapping[str, Any], *, now: datetime) -> JSON:
    """Return the status of a Settlement whose transaction is out."""
    status = dict(obj.get("status") or {})
    said = condition("Submitted", True, reason="Broadcast", message="The transaction was sent.")
    conditions = merged(status.get("conditions"), [said], now=now)
    return {**status, "state": "Submitted", "conditions": conditions, "message": ""}


def settlement_waiting(obj: Mapping[str, Any], why: str, *, now: datetime) -> JSON:
    """Return the status of a Settlement that is not sent, or not sent again, while fees are too high."""
    status = dict(obj.get("status") or {})
    sent = status.get("state") == "Submitted"
    message = f"{'Sent, and waits' if sent else 'Waits'}: {why}."
    said = condition("Submitted", sent, reason="FeesAboveCeiling", message=message)
    return {
        **status,
        "conditions": merged(status.get("conditions"), [said], now=now),
        "message": message[:1024],
    }


def is_waiting(obj: Mapping[str, Any]) -> bool:
    """Say whether a Settlement says that it waits for lower fees."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Submitted" and each["reason"] == "FeesAboveCeiling" for each in conditions)


def settlement_undone(obj: Mapping[str, Any], *, now: datetime) -> JSON:
    """Return the status of a Settlement that was final until its block was undone."""
    status = dict(obj.get("status") or {})
    message = f"Block {status.get('block')} was undone after it counted as final; it is sent again."
    said = condition("Confirmed", False, reason="Undone", message=message)
    return {
        **status,
        "state": "Submitted",
        "conditions": merged(status.get("conditions"), [said], now=now),
        "message": message,
    }


def is_undone(obj: Mapping[str, Any]) -> bool:
    """Say whether a Settlement was final once and is not any more."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Confirmed" and each["reason"] == "Undone" for each in conditions)


def settlement_confirmed(obj: Mapping[str, Any], settled: Settled, *, now: datetime) -> JSON:
    """Return the status of a Settlement that is final and whose claims are all told."""
    status = dict(obj.get("status") or {})
    said = condition("Confirmed", True, reason="Final", message=f"Settled in block {settled.block}.")
    conditions = merged(status.get("conditions"), [said], now=now)
    found: JSON = {
        **status, "state": "Confirmed", "block": settled.block, "conditions": conditions, "message": ""
    }  # fmt: skip
    if settled.gas_used is not None:
        found["gasUsed"] = settled.gas_used
    return found


def settlement_abandoned(obj: Mapping[str, Any], *, reason: str, message: str, now: datetime) -> JSON:
    """Return the status of a Settlement that will never happen; its claims go into another."""
    status = dict(obj.get("status") or {})
    conditions = merged(
        status.get("conditions"), [condition("Confirmed", False, reason=reason, message=message)], now=now
    )
    return {**status, "state": "Abandoned", "message": message[:1024], "conditions": conditions}


def claim_submitted(obj: Mapping[str, Any], bundle: Bundle, *, now: datetime) -> JSON:
    """Return the status of a claim whose epoch is on its way."""
    said = [
        condition("Submitted", True, reason="InEpoch", message=f"In epoch {bundle.settlement.epoch}."),
        condition("Settled", False, reason="InEpoch", message="Its epoch is not final yet."),
    ]
    return {
        **_with(obj, said, now=now),
        "state": "Submitted",
        "epoch": bundle.settlement.epoch,
        "commitment": to_hex(bundle.commitment),
        "message": "",
    }


def claim_settled(obj: Mapping[str, Any], bundle: Bundle, settled: Settled, *, now: datetime) -> JSON:
    """Return the status of a claim that is paid for good."""
    said = [
        condition("Submitted", True, reason="InEpoch", message=f"In epoch {bundle.settlement.epoch}."),
        condition("Settled", True, reason="Final", message=f"Settled in block {settled.block}."),
        *_payee_registered(obj),
    ]
    status = {
        **_with(obj, said, now=now),
        "state": "Settled",
        "epoch": bundle.settlement.epoch,
        "commitment": to_hex(bundle.commitment),
        "block": settled.block,
        "message": "",
    }
    if settled.transaction is not None:
        status["transaction"] = settled.transaction
    return status


def claim_nothing_owed(obj: Mapping[str, Any], *, now: datetime) -> JSON:
    """Return the status of a claim of amount 0."""
    said = condition("Settled", True, reason="NothingOwed", message="The amount is 0.")
    return {**_with(obj, [said], now=now), "state": "Settled", "message": ""}


def claim_refused(obj: Mapping[str, Any], refusal: ClaimRefused, *, now: datetime) -> JSON:
    """Return the status of a claim that can never be paid."""
    said = condition("Settled", False, reason=refusal.reason, message=str(refusal))
    return {**_with(obj, [said], now=now), "state": "Refused", "message": str(refusal)[:1024]}


def claim_waiting(obj: Mapping[str, Any], wait: Wait, *, now: datetime) -> JSON:
    """Return the status of a claim that somebody else has to make payable."""
    said = [condition("Settled", False, reason=wait.reason, message=wait.message)]
    if wait.reason == "PayeeUnregistered":
        said.append(condition("PayeeUnregistered", True, reason=wait.reason, message=wait.message))
    else:
        said += _payee_registered(obj)
    status = {**_with(obj, said, now=now), "state": "Pending", "message": wait.message}
    for name in ("epoch", "commitment"):
        status.pop(name, None)
    return status


def account_status(
    obj: Mapping[str, Any],
    purse: Purse,
    *,
    unbound: tuple[str, str] | None,
    proven: list[JSON] | None = None,
    settled: int,
    decimals: int,
    block: int,
    must_show_block: bool,
    now: datetime,
) -> JSON:
    """Return an Account's status as of `block`.

    `unbound` is why the authorization does not hold (reason, message), or None; `proven` the authorizations
    that a payer which is a contract has accepted. The block moves on
    only when something else changed or `must_show_block`: else every block would be a write.
    """
    generation = obj["metadata"].get("generation", 0)
    balance = _shown(purse.balance, decimals=decimals)
    notice = min(purse.under_notice, balance)
    free = balance - notice
    amount = format_amount(free, decimals=decimals)
    reason, message = unbound or ("Bound", "The payer has authorised this namespace.")
    said = [
        condition("Bound", unbound is None, reason=reason, message=message, observed_generation=generation),
        condition(
            "Funded",
            free > 0,
            reason="Funded" if free > 0 else "NoBalance",
            message=f"{amount} can be spent."
            if free > 0
            else f"The payer {obj['spec']['payer']} has nothing to spend: deposit to the escrow.",
            observed_generation=generation,
        ),
    ]
    before = obj.get("status") or {}
    status = {
        **before,
        "observedGeneration": generation,
        "conditions": merged(before.get("conditions"), said, now=now),
        "balance": format_amount(balance, decimals=decimals),
        "underNotice": format_amount(notice, decimals=decimals),
        "settled": format_amount(_shown(settled, decimals=decimals), decimals=decimals),
    }
    if proven:
        status["proven"] = proven
    if must_show_block or status != before:
        status["observedBlock"] = block
    return status


def _shown(amount: int, *, decimals: int) -> int:
    """Return an amount as far as the API can show it: a ledger account without limit has more."""
    most: int = 10 ** (_WHOLE_DIGITS + decimals) - 1
    return min(amount, most)


def _with(obj: Mapping[str, Any], said: list[JSON], *, now: datetime) -> JSON:
    status = dict(obj.get("status") or {})
    generation = obj["metadata"].get("generation", 0)
    marked = [{**each, "observedGeneration": generation} for each in said]
    status["observedGeneration"] = generation
    status["conditions"] = merged(status.get("conditions"), marked, now=now)
    return status


def _payee_registered(obj: Mapping[str, Any]) -> list[JSON]:
    """Take back an earlier PayeeUnregistered; nothing where it never was."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    if any(each["type"] == "PayeeUnregistered" and each["status"] == "True" for each in conditions):
        return [
            condition("PayeeUnregistered", False, reason="Registered", message="The payee is registered.")
        ]
    return []
