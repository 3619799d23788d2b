"""The index over Settlements always answers as a walk over all of them would."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fallow.settler.settlement_index import SettlementIndex, state_of, transactions_of

OTHER_HUB = "other"


def _word(number: int) -> str:
    return f"0x{number:064x}"


def _settlement(name: int, epoch: int, state: str, nonces: list[int], hub: str) -> dict[str, Any]:
    transactions = [
        {
            "hash": _word(1000 * name + nonce), "nonce": nonce, "gasLimit": 1, "maxFeePerGasWei": "1",
            "maxPriorityFeePerGasWei": "1", "raw": "0x",
        }
        for nonce in nonces
    ]  # fmt: skip
    return {
        "metadata": {"name": f"epoch-{name}"},
        "spec": {
            "epoch": epoch, "hub": hub, "previousCommitment": _word(epoch - 1),
            "commitment": _word(100 + name),
        },
        "status": {"state": state, "transactions": transactions},
    }  # fmt: skip


changes = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 4),
        st.sampled_from(["Pending", "Submitted", "Confirmed", "Abandoned"]),
        st.lists(st.integers(0, 3), max_size=2, unique=True),
        st.sampled_from(["", OTHER_HUB]),
    ),
    max_size=20,
)


@given(changes)
def test_index__after_any_changes__is_what_a_walk_would_find(changes: list[Any]) -> None:
    index = SettlementIndex(lambda spec: spec["hub"] != OTHER_HUB)
    objects: dict[str, dict[str, Any]] = {}
    hubs: dict[str, str] = {}
    for deleted, number, state, nonces, hub in changes:
        name = f"epoch-{number}"
        hub = hubs.setdefault(name, hub)  # a spec never changes
        obj = _settlement(number, number // 2 + 1, state, nonces, hub)
        if deleted:
            if name in objects:
                index.changed("DELETED", objects.pop(name))
            continue
        index.changed("MODIFIED" if name in objects else "ADDED", obj)
        objects[name] = obj
    own = [obj for obj in objects.values() if obj["spec"]["hub"] != OTHER_HUB]

    def names(found: Any) -> list[str]:
        return sorted(obj["metadata"]["name"] for obj in found)

    assert names(index.all()) == names(own)
    assert names(index.unfinished()) == names(o for o in own if state_of(o) != "Confirmed")
    for epoch in range(1, 4):
        same = [obj for obj in own if obj["spec"]["epoch"] == epoch]
        assert names(index.of_epoch(epoch)) == names(same)
        assert names(index.following(_word(epoch - 1))) == names(same)
    for nonce in range(4):
        want = sorted(t.hash for o in own for t in transactions_of(o) if t.nonce == nonce)
        assert sorted(t.hash for t in index.recorded(nonce)) == want
    confirmed = [obj["spec"]["epoch"] for obj in own if state_of(obj) == "Confirmed"]
    last = index.last_confirmed()
    assert (last["spec"]["epoch"] if last else None) == max(confirmed, default=None)
