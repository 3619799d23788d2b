"""Accounts: whether the payer's authorization holds, and what the account itself limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from fallow.errors import FallowError
from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.epochs import MAX_LINE_AMOUNT
from fallow.receipts.statements import NotThePayersKey, check_authorization, unix_seconds
from fallow.receipts.words import checksummed
from fallow.resources.account import AccountSpec
from fallow.resources.money import parse_amount
from fallow.settler.claim_checks import Money
from fallow.settler.protocol import Purse
from fallow.settler.refusals import ClaimRefused


def payer_of(account: Mapping[str, Any]) -> str | None:
    """Return an Account's payer, checksummed; None when what it names is no address."""
    try:
        return checksummed(account["spec"]["payer"])
    except ValueError:
        return None


def limit_of(account: Mapping[str, Any], *, decimals: int) -> int | None:
    """Return an Account's limit maxTotal in smallest units.

    The largest amount when it has none; None when it cannot be read: whoever wrote it must not be
    able to stop the settler by it.
    """
    limit = (account["spec"].get("limits") or {}).get("maxTotal")
    try:
        return MAX_LINE_AMOUNT if limit is None else parse_amount(limit, decimals=decimals)
    except FallowError:
        return None


Why = tuple[str, str]
"""Reason and sentence."""


def why_unbound(
    account: Mapping[str, Any], purse: Purse, *, money: Money, namespace_uid: str | None, now: int
) -> Why | ContractSignature | None:
    """Return why an Account may charge nobody, or None when it may.

    On a chain it takes both: the payer's signature for this namespace, and its binding of the
    escrow to this hub. In ledger mode the hub admin's word is enough. When all holds but that no key of the
    payer's made the signature, returns what the payer has to be asked, should it be a contract.
    """
    if payer_of(account) is None:
        return "AuthorizationInvalid", f"{account['spec']['payer']} is no address: a digit is mistyped."
    if limit_of(account, decimals=money.decimals) is None:
        return "AuthorizationInvalid", "The limit maxTotal has more decimal places than the token."
    if money.domain.chain_id == 0:
        if account["spec"].get("authorization"):
            # NB: anybody may write one of these, so it must not reach the credit of whom it names.
            return (
                "AuthorizationInvalid",
                "In ledger mode the hub admin grants credit: nobody signs.",
            )
        return None
    try:
        spec = AccountSpec.model_validate(account["spec"])
        if namespace_uid is None:
            return "NamespaceUnknown", "Its namespace was not seen yet."
        given = spec.authorization
        if given is not None and unix_seconds(given.expires_at) <= now:
            return "AuthorizationExpired", "The payer's authorization has expired: sign a new one."
        check_authorization(spec, domain=money.domain, namespace_uid=namespace_uid, decimals=money.decimals)
    except NotThePayersKey as error:
        return error.asked
    except (ValidationError, FallowError, ValueError) as error:
        return "AuthorizationInvalid", f"{str(error).splitlines()[0]}."
    return why_not_bound(spec.payer, purse)


def why_not_bound(payer: str, purse: Purse) -> Why | None:
    """Return that a payer has yet to bind itself to this hub, or None when it has."""
    if not purse.bound:
        return "PayerUnbound", f"The payer {payer} has to bind itself to this hub at the escrow."
    return None


def why_contract_refuses(asked: ContractSignature, accepted: bool | None) -> Why | None:
    """Return why a payer that no key stands for is not bound, given what its contract answered."""
    if accepted is None:
        return "PayerUnproven", f"The contract {asked.account} cannot be asked now whether it agrees."
    if not accepted:
        said = "did not sign, and is no contract that agrees"
        return "AuthorizationInvalid", f"The payer {asked.account} {said}."
    return None


def refuse_stranger(spec: Mapping[str, Any], namespace: Mapping[str, Any] | None) -> None:
    """Raise ClaimRefused when a namespace charges a payer that signed for another one.

    `namespace` is the account's, as the hub has it. One that is gone, or was made anew since the work was
    placed, tells nothing: whose the authorization was, was checked when the account was bound.
    """
    given = spec["terms"]["account"].get("authorization")
    if given is None or namespace is None:
        return
    meta = namespace["metadata"]
    placed_at = unix_seconds(spec["observations"]["placedAt"])
    if given["namespaceUid"] != meta["uid"] and unix_seconds(meta["creationTimestamp"]) <= placed_at:
        raise ClaimRefused(
            "StrangersPayer",
            f"the payer authorised the namespace with UID {given['namespaceUid']}, and "
            f"{meta['name']} ({meta['uid']}) charges it",
        )


def payers_by_namespace(accounts: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return the payers (lower case) that each namespace's Accounts name."""
    found: dict[str, set[str]] = {}
    for one in accounts:
        found.setdefault(one["metadata"]["namespace"], set()).add(str(one["spec"]["payer"]).lower())
    return found


def why_no_account(spec: Mapping[str, Any], payers: Mapping[str, set[str]]) -> Why | None:
    """Return why a claim may not charge its payer in ledger mode, by its namespace's Accounts.

    There the hub admin writes Accounts, and may put one back: the claim waits.
    """
    terms = spec["terms"]
    namespace = terms["accountNamespace"]
    if terms["account"]["payer"].lower() in payers.get(namespace, ()):
        return None
    if namespace in payers:
        return "StrangersPayer", f"No Account of namespace {namespace} has the payer that this claim charges."
    return "AccountUnbound", f"Namespace {namespace} has no Account."
