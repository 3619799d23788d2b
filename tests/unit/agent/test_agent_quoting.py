from __future__ import annotations

from typing import Any

import pytest

from fallow.agent.quoting import next_quote
from fallow.receipts.statements import check_quote
from fallow.resources.offer import OfferSpec
from fallow.resources.quote import QuoteSpec
from unit.agent.guest_pods import at
from unit.agent.some_work import LEDGER, an_identity, an_offer


def the_next(
    current: QuoteSpec | None, offer: OfferSpec | None = None, *, seconds: float = 0, **more: Any
) -> QuoteSpec | None:
    return next_quote(
        current, offer or an_offer(), an_identity(), now=at(seconds), valid_seconds=3600, **more
    )


def the_first(offer: OfferSpec | None = None) -> QuoteSpec:
    quote = the_next(None, offer)
    assert quote is not None
    return quote


def test_quote__none_yet__is_signed_and_says_what_the_offer_says() -> None:
    offer = an_offer(max_run_seconds=77, images=("a/*",))
    quote = the_first(offer)
    check_quote(quote, domain=LEDGER)
    assert (quote.sequence, quote.closed, quote.prices) == (1, False, offer.prices)
    assert (quote.limits.max_run_seconds, quote.image_patterns) == (77, ("a/*",))


def test_quote__nothing_changed__is_left_alone() -> None:
    assert the_next(the_first(), seconds=1000) is None


def test_quote__half_its_validity_is_over__is_renewed_with_a_higher_sequence() -> None:
    first = the_first()
    assert the_next(first, seconds=1799) is None
    renewed = the_next(first, seconds=1801)
    assert renewed is not None
    assert (renewed.sequence, renewed.valid_until > first.valid_until) == (2, True)


@pytest.mark.parametrize(
    "fields", [{"paused": True}, {"max_guests": 3}, {"images": ("x",)}, {"accept_unproven": ()}]
)
def test_quote__the_offer_changed__is_written_anew(fields: dict[str, Any]) -> None:
    changed = the_next(the_first(), an_offer(**fields))
    assert changed is not None
    assert changed.sequence == 2
    assert changed.closed is bool({"paused", "accept_unproven"} & fields.keys())


def test_quote__somebody_changed_it__is_written_anew() -> None:
    forged = the_first().model_copy(update={"signature": "0x" + "11" * 65})
    again = the_next(forged)
    assert again is not None
    check_quote(again, domain=LEDGER)


def test_quote__somebody_deleted_it__sequence_goes_on_rising() -> None:
    again = the_next(None, last_sequence=41)
    assert again is not None
    assert again.sequence == 42
