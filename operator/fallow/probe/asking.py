"""One query to NVML, with its error already turned into its consequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml as nv

from fallow.probe.consequences import InQuery, in_query


class DeviceGone(Exception):  # noqa: N818 - a way out of a device's queries, never seen outside the probe
    """The device answers no more; its text is the driver's."""


class LibraryGone(Exception):  # noqa: N818
    """Library and driver have parted; only a new process helps."""


class Ask:
    """Asks, and remembers what had no answer. One for each device and look."""

    def __init__(self) -> None:
        self.absent: set[str] = set()
        """Functions that gave no figure."""
        self.suspect: set[str] = set()
        """Those of them whose error says nothing about the device."""

    def __call__(self, query: Callable[..., Any], *arguments: Any) -> Any:
        """Return the answer, or None when there is none here. Raises DeviceGone or LibraryGone."""
        try:
            return query(*arguments)
        except nv.NVMLError as error:
            code, words = error.value, str(error)
        except nv.NVMLLibraryMismatchError:  # what the binding makes of a missing function, sometimes
            code, words = nv.NVML_ERROR_FUNCTION_NOT_FOUND, "Function Not Found"
        except UnicodeDecodeError:
            code, words = nv.NVML_ERROR_NO_DATA, "not a text"
        consequence = in_query(code)
        if consequence is InQuery.DEVICE:
            raise DeviceGone(words)
        if consequence is InQuery.RESTART:
            raise LibraryGone(words)
        self.absent.add(query.__name__)
        if consequence is InQuery.SUSPECT:
            self.suspect.add(query.__name__)
        return None
