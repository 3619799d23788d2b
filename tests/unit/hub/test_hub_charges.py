"""Sums that are kept equal sums worked out anew, whatever came and went in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fallow.hub.charges import DAY_SECONDS, Charge, Charges

NOW = 10 * DAY_SECONDS

a_charge = st.builds(
    Charge,
    payer=st.sampled_from(("0xa", "0xb")),
    account=st.sampled_from(("n/one", "n/two")),
    amount=st.integers(0, 1000),
    created=st.sampled_from((NOW, NOW - 5, NOW - DAY_SECONDS + 1, NOW - DAY_SECONDS, NOW - 3 * DAY_SECONDS)),
    settled_in=st.one_of(st.none(), st.integers(0, 5)),
    refused=st.booleans(),
)
a_change = st.tuples(
    st.sampled_from(("reserve", "claim", "ask")),
    st.sampled_from(("k1", "k2", "k3", "k4")),
    st.one_of(st.none(), a_charge),
)


@given(st.lists(a_change, max_size=40), st.integers(-1, 6))
def test_charges__after_any_changes__are_the_sums_over_what_is_there(
    changes: list[tuple[str, str, Charge | None]], block: int
) -> None:
    kept = Charges()
    reserved: dict[str, Charge] = {}
    claims: dict[str, Charge] = {}
    for what, key, charge in changes:
        if what == "ask":  # drops what is over a day old
            kept.in_a_day("n/one", now=NOW)
            continue
        known = reserved if what == "reserve" else claims
        (kept.set_reserved if what == "reserve" else kept.set_claim)(key, charge)
        known.pop(key, None)
        if charge is not None:
            known[key] = charge

    def owed(one: Charge) -> bool:
        return not one.refused and (one.settled_in is None or one.settled_in > block)

    open_ = [*reserved.values(), *filter(owed, claims.values())]
    for payer in ("0xa", "0xb"):
        want = sum(one.amount for one in open_ if one.payer == payer)
        assert kept.of_payer(payer, observed_block=block) == want
    for account in ("n/one", "n/two"):
        today = [one for one in claims.values() if NOW - one.created < DAY_SECONDS]
        want = sum(one.amount for one in [*reserved.values(), *today] if one.account == account)
        assert kept.in_a_day(account, now=NOW) == want
        unsettled = [one for one in claims.values() if not one.refused and one.settled_in is None]
        late = [one for one in claims.values() if owed(one) and one.settled_in is not None]
        want = sum(one.amount for one in [*reserved.values(), *unsettled] if one.account == account)
        want += sum(one.amount for one in late if one.account == account and one.payer == "0xa")
        assert kept.of_account(account, "0xa", observed_block=block) == want
