"""Unit tests cannot reach the network: whatever tries raises, whichever library it came through.

An audit hook sees every socket that Python makes, which no import order or alias can go around.
A hook cannot be taken off, so it acts only while a unit test runs. Sockets between the threads of
one process (AF_UNIX pairs: every event loop has one) are none of its business.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

# A machine that does other things too makes examples slowly: that says nothing about what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


class NetworkReached(BaseException):
    """A unit test reached for the network. Not an Exception: nobody may catch it by accident."""


_guarding = False
_NETWORK = {socket.AF_INET, socket.AF_INET6}


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if not _guarding or not event.startswith("socket."):
        return
    if event == "socket.__new__" and arguments[1] in _NETWORK:
        raise NetworkReached(f"a unit test opened a socket of family {arguments[1]!r}")
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        raise NetworkReached(f"a unit test looked up {arguments[0]!r}")
    if event in ("socket.connect", "socket.bind", "socket.sendto") and arguments[0].family in _NETWORK:
        raise NetworkReached(f"a unit test reached {arguments[1]!r}")


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Guard every test of this directory."""
    global _guarding
    _guarding = True
    yield
    _guarding = False


@pytest.fixture(autouse=True)
def logging_kept() -> Iterator[None]:
    """Put back what a test that configures logging changed: its stream is closed after it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
