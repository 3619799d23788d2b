"""What is kept of a failed guest's log."""

from __future__ import annotations

import pytest

from fallow.agent.last_lines import LINES, clipped
from fallow.resources.placement import MAX_LOG_BYTES


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("", "", id="nothing written"),
        pytest.param("one\ntwo\n", "one\ntwo", id="the last line's end is no line"),
        pytest.param("a\x00b", "ab", id="no null bytes: no API server would store them"),
        pytest.param("".join(f"{i}\n" for i in range(30)), "\n".join(map(str, range(10, 30))), id="20 lines"),
    ],
)
def test_clipped__short_lines__are_kept(text: str, want: str) -> None:
    assert clipped(text) == want


@pytest.mark.parametrize("line", ["x" * 500, "ä" * 500, "x" * 9000])
def test_clipped__long_lines__the_end_is_kept_within_the_bytes(line: str) -> None:
    text = "".join(f"{line}{i}\n" for i in range(LINES))
    kept = clipped(text)
    assert kept.endswith(f"{line[-100:]}{LINES - 1}")
    assert len(kept.encode()) <= MAX_LOG_BYTES
