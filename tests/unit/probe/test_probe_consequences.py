"""Every error of NVML has a consequence, and those that the design names have the right one."""

from __future__ import annotations

import pynvml as nv
import pytest

from fallow.probe.asking import Ask, DeviceGone, LibraryGone
from fallow.probe.consequences import AT_START, IN_QUERY, AtStart, InQuery, at_start, in_query


def test_tables__each_error_the_binding_knows__has_a_consequence_at_start_and_in_a_query() -> None:
    codes = {value for name, value in vars(nv).items() if name.startswith("NVML_ERROR_")}
    assert codes == set(AT_START) == set(IN_QUERY)


@pytest.mark.parametrize(
    ("code", "start", "query"),
    [
        (nv.NVML_ERROR_LIBRARY_NOT_FOUND, AtStart.CPU_ONLY, InQuery.RESTART),
        (nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH, AtStart.RESTART, InQuery.RESTART),
        (nv.NVML_ERROR_UNKNOWN, AtStart.RESTART, InQuery.SUSPECT),
        (nv.NVML_ERROR_DRIVER_NOT_LOADED, AtStart.WAIT, InQuery.RESTART),
        (nv.NVML_ERROR_NOT_SUPPORTED, AtStart.WAIT, InQuery.ABSENT),
        (nv.NVML_ERROR_FUNCTION_NOT_FOUND, AtStart.WAIT, InQuery.ABSENT),
        (nv.NVML_ERROR_GPU_IS_LOST, AtStart.WAIT, InQuery.DEVICE),
        (nv.NVML_ERROR_RESET_REQUIRED, AtStart.WAIT, InQuery.DEVICE),
        (nv.NVML_ERROR_TIMEOUT, AtStart.WAIT, InQuery.SKIP),
        (31, AtStart.RESTART, InQuery.SUSPECT),
    ],
)
def test_consequence__of_an_error__is(code: int, start: AtStart, query: InQuery) -> None:
    assert (at_start(code), in_query(code)) == (start, query)


def failing(error: Exception) -> object:
    def query(_handle: object) -> None:
        raise error

    return query


@pytest.mark.parametrize(
    ("error", "absent", "suspect"),
    [
        (nv.NVMLError(nv.NVML_ERROR_NOT_SUPPORTED), True, False),
        (nv.NVMLError(nv.NVML_ERROR_UNKNOWN), True, True),
        (nv.NVMLLibraryMismatchError("use _v2"), True, False),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), True, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ask__query_fails__figure_is_absent(error: Exception, absent: bool, suspect: bool) -> None:
    ask = Ask()
    assert ask(failing(error), 1) is None  # type: ignore[arg-type]
    assert (ask.absent == {"query"}, ask.suspect == {"query"}) == (absent, suspect)


@pytest.mark.parametrize(
    ("code", "want"),
    [(nv.NVML_ERROR_GPU_IS_LOST, DeviceGone), (nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH, LibraryGone)],
)
def test_ask__more_than_a_figure_is_gone__raises(code: int, want: type[Exception]) -> None:
    with pytest.raises(want):
        Ask()(failing(nv.NVMLError(code)), 1)  # type: ignore[arg-type]
