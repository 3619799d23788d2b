"""Epochs as an honest settler makes them on a chain, and as others would like to have them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import money_terms as money
from fallow.cli.epoch_proofs import BundleFile
from fallow.cli.proofs import Place
from fallow.receipts.epochs import Epoch, genesis_commitment
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain
from fallow.resources.paymentclaim import Observations, PaymentClaimSpec
from fallow.settler.bundle import Bundle
from fallow.settler.claim_checks import Money, check_claim

DOMAIN = Domain(chain_id=31337, escrow="0x" + "e5" * 20, hub_id=money.HUB_ID)
TOKEN = "0x" + "70" * 20
PLACE = Place(domain=DOMAIN, token=TOKEN, decimals=money.DECIMALS)
PLACED_AT = 1_800_000_000

JSON = dict[str, Any]


def a_spec(number: int = 0, *, ended: Sequence[str] = (), **changes: Any) -> PaymentClaimSpec:
    """One paid hour of index `number`, observed by the hub; other terms by keyword."""
    terms = money.some_terms(DOMAIN, **({"token": TOKEN} | changes.pop("terms", {})))
    spec = money.a_claim(
        ended or [f"{number}:0:3600:S:"],
        terms=terms,
        placement_uid=str(uuid.UUID(int=number + 1)),
        **changes,
    )
    seen = Observations(placed_at=timestamp(PLACED_AT), finished_at=timestamp(PLACED_AT + 3600))
    return spec.model_copy(update={"observations": seen})


def a_bundle(
    specs: Sequence[PaymentClaimSpec], *, number: int = 1, previous: bytes | None = None
) -> BundleFile:
    """The bundle that a settler makes of these claims."""
    checked = [
        check_claim(
            {
                "metadata": {
                    "namespace": "provider-aurora",
                    "name": f"claim-{at}",
                    "uid": f"uid-{at}",
                    "creationTimestamp": timestamp(PLACED_AT),
                },
                "spec": spec.wire(),
            },
            money=Money(domain=DOMAIN, token=TOKEN, decimals=money.DECIMALS),
        )
        for at, spec in enumerate(specs)
    ]
    epoch = Epoch.of(
        [one.claim for one in checked],
        domain=DOMAIN,
        number=number,
        previous_commitment=previous or genesis_commitment(DOMAIN),
        salt_key=b"s" * 32,
    )
    made = Bundle.make(epoch, checked, money=Money(domain=DOMAIN, token=TOKEN, decimals=money.DECIMALS))
    return BundleFile.of(made.data)


def changed(bundle: BundleFile, change: Callable[[JSON], None]) -> BundleFile:
    """The bundle with something changed in it."""
    content = json.loads(bundle.data)
    change(content)
    return BundleFile.of(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
