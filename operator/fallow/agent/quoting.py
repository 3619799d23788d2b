"""The signed Quote: the owner's Offer as terms that a payer can hold the provider to.

It is written anew when its content changes or half of its validity is over, each time with a higher
sequence; nothing else touches it, so that a watching hub sees only real changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eth_account.signers.local import LocalAccount

from fallow import __version__
from fallow.agent.cage import NOTHING_PROVEN, Cage
from fallow.agent.closing import member_closed
from fallow.agent.isolation import offered_isolations
from fallow.receipts.statements import check_quote, sign_quote, timestamp, unix_seconds
from fallow.receipts.typed_data import Domain, SignatureError
from fallow.receipts.words import checksummed
from fallow.resources.offer import OfferSpec
from fallow.resources.quote import QuoteLimits, QuoteSpec

_VOLATILE = {"valid_until", "sequence", "signature"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who signs, for which hub, and who is paid."""

    provider: str
    payee: str
    key: LocalAccount
    domain: Domain
    token: str
    token_decimals: int

    @property
    def signer(self) -> str:
        """The signing key's address."""
        return checksummed(str(self.key.address))


def next_quote(
    current: QuoteSpec | None,
    offer: OfferSpec,
    identity: Identity,
    *,
    now: datetime,
    valid_seconds: float,
    shut: str = "",
    cage: Cage = NOTHING_PROVEN,
    last_sequence: int = 0,
    signature_checked: bool = False,
) -> QuoteSpec | None:
    """Return the Quote to write, signed; None while the current one still says the right thing.

    `shut` is what the schedule says against offering. `last_sequence` is the highest that this process wrote:
    it matters only when somebody deleted the Quote.
    `signature_checked` spares the check of a signature that was found good before (it takes 10 ms).
    """
    sequence = max(current.sequence if current else 0, last_sequence) + 1
    valid_until = int((now + timedelta(seconds=valid_seconds)).timestamp())
    wanted = QuoteSpec(
        provider=identity.provider,
        prices=offer.prices,
        closed=bool(member_closed(offer, token_decimals=identity.token_decimals, shut=shut, cage=cage)),
        limits=QuoteLimits(
            max_run_seconds=offer.max_run_seconds,
            max_guests=offer.max_guests,
            max_ephemeral_storage_mib=offer.max_ephemeral_storage_mib,
        ),
        isolation=offered_isolations(offer),
        egress=offer.egress,
        image_patterns=image_patterns(offer),
        accounts_allowed=offer.accounts_allowed,
        accounts_refused=offer.accounts_refused,
        replicate=offer.replicate,
        payee=identity.payee,
        signer=identity.signer,
        agent_version=__version__,
        valid_until=timestamp(valid_until),
        sequence=sequence,
        signature="0x00",
    )
    if (
        current is not None
        and _same_terms(current, wanted)
        and _valid_long_enough(current, wanted, now=now, valid_seconds=valid_seconds)
        and (signature_checked or _signed(current, identity))
    ):
        return None
    return sign_quote(wanted, domain=identity.domain, key=identity.key)


def image_patterns(offer: OfferSpec) -> tuple[str, ...]:
    """Return the patterns of the Quote: where digests are wanted, only names with one match."""
    if not offer.image_digests:
        return offer.images
    return tuple(p if "@" in p else f"{p}@sha256:*" for p in offer.images)


def renew_at(quote: QuoteSpec, *, valid_seconds: float) -> datetime:
    """Return when half of a Quote's validity is over."""
    end = datetime.fromisoformat(quote.valid_until)
    return end - timedelta(seconds=valid_seconds / 2)


def _same_terms(current: QuoteSpec, wanted: QuoteSpec) -> bool:
    return current.model_dump(exclude=_VOLATILE) == wanted.model_dump(exclude=_VOLATILE)


def _valid_long_enough(current: QuoteSpec, wanted: QuoteSpec, *, now: datetime, valid_seconds: float) -> bool:
    if now >= renew_at(current, valid_seconds=valid_seconds):
        return False
    # Much longer than we would promise: written under another setting, or by a clock that ran ahead.
    return unix_seconds(current.valid_until) <= unix_seconds(wanted.valid_until) + 60


def _signed(quote: QuoteSpec, identity: Identity) -> bool:
    try:
        check_quote(quote, domain=identity.domain)
    except SignatureError:
        return False
    return True
