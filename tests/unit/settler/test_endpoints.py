"""Whom to believe among endpoints that contradict each other."""

from __future__ import annotations

import pytest

from fallow.settler.endpoints import judge
from fallow.settler.rpc import Rpc


@pytest.mark.parametrize(
    ("sentence", "votes", "configured", "want"),
    [
        ("one alone is believed", "a", 1, ([0], [])),
        ("all say the same", "aaa", 3, ([0, 1, 2], [])),
        ("those that are silent do not vote against anybody", "a", 3, ([0], [])),
        ("two of three overrule the third", "bab", 3, ([0, 2], [1])),
        ("one against one is nobody's majority", "ab", 2, None),
        ("two of four configured are no majority, though the others are silent", "aab", 4, None),
        ("three of five overrule two that differ", "abaca", 5, ([0, 2, 4], [1, 3])),
        ("two against two", "aabb", 4, None),
    ],
)
def test_judge(sentence: str, votes: str, configured: int, want: tuple[list[int], list[int]] | None) -> None:
    verdict = judge(list(votes), configured=configured)
    found = None if verdict is None else (verdict.believed, verdict.overruled)
    assert found == want, sentence


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("https://mainnet.example/v3/0123456789abcdef", "https://mainnet.example"),
        ("https://user:secret@node.example:8545/", "https://node.example:8545"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
    ],
)
def test_endpoint__in_logs__shows_no_secret_of_its_address(url: str, want: str) -> None:
    assert Rpc(url).name == want
