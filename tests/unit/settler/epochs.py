"""Builders of checked claims and bundles in ledger mode."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import money_terms as money
from fallow.receipts.epochs import Epoch
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain
from fallow.settler.bundle import Bundle
from fallow.settler.claim_checks import CheckedClaim, Money, check_claim

DOMAIN = Domain.of_ledger(money.HUB_ID)
MONEY = Money(domain=DOMAIN, token="0x" + "70" * 20, decimals=6)


def a_checked_claim(number: int) -> CheckedClaim:
    """One paid hour of index `number`; the same for the same number."""
    placement = str(uuid.UUID(int=number + 1))
    spec = money.a_claim([f"{number}:0:3600:S:"], terms=money.some_terms(DOMAIN), placement_uid=placement)
    meta = {
        "namespace": "provider-aurora",
        "name": f"claim-{number}",
        "uid": f"uid-{number}",
        "creationTimestamp": timestamp(1_800_000_000),
    }
    return check_claim({"metadata": meta, "spec": spec.wire()}, money=MONEY)


def a_bundle(number: int, previous: bytes, claims: Sequence[CheckedClaim]) -> Bundle:
    """The bundle of epoch `number`."""
    epoch = Epoch.of(
        [claim.claim for claim in claims],
        domain=DOMAIN,
        number=number,
        previous_commitment=previous,
        salt_key=b"s" * 32,
    )
    return Bundle.make(epoch, claims, money=MONEY)
