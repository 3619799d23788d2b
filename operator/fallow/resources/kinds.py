"""All kinds of the API group."""

from __future__ import annotations

from fallow.resources.account import ACCOUNT
from fallow.resources.base import Kind
from fallow.resources.computejob import COMPUTE_JOB
from fallow.resources.guestset import GUEST_SET
from fallow.resources.offer import OFFER
from fallow.resources.paymentclaim import PAYMENT_CLAIM
from fallow.resources.placement import PLACEMENT
from fallow.resources.provider import PROVIDER
from fallow.resources.providernode import PROVIDER_NODE
from fallow.resources.quote import QUOTE
from fallow.resources.settlement import SETTLEMENT

ALL: tuple[Kind, ...] = (
    ACCOUNT,
    COMPUTE_JOB,
    PROVIDER,
    QUOTE,
    PROVIDER_NODE,
    PLACEMENT,
    PAYMENT_CLAIM,
    SETTLEMENT,
    OFFER,
    GUEST_SET,
)
