"""Accounts: whether the payer's authorization holds, and what the account itself limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fallow.errors import FallowError
from fallow.receipts.epochs import MAX_LINE_AMOUNT
from fallow.receipts.statements import check_authorization, unix_seconds
from fallow.receipts.words import checksummed
from fallow.resources.account import AccountSpec
from fallow.resources.money import parse_amount
from fallow.settler.claim_checks import Money
from fallow.settler.protocol import Purse


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


def why_unbound(
    account: Mapping[str, Any], purse: Purse, *, money: Money, namespace_uid: str | None, now: int
) -> tuple[str, str] | None:
    """Return why an Account may charge nobody (reason, sentence), or None when it may.

    On a chain it takes both: the payer's signature for this namespace, and its binding of the
    escrow to this hub. In ledger mode the hub admin's word is enough.
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
        check_authorization(spec, domain=money.domain, namespace_uid=namespace_uid, decimals=money.decimals)
        given = spec.authorization
        if given is None or unix_seconds(given.expires_at) <= now:
            return "AuthorizationExpired", "The payer's authorization has expired: sign a new one."
    except (ValidationError, FallowError, ValueError) as error:
        return "AuthorizationInvalid", f"{str(error).splitlines()[0]}."
    if not purse.bound:
        return "PayerUnbound", f"The payer {spec.payer} has to bind itself to this hub at the escrow."
    return None
