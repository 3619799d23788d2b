"""From flags and environment to a running program: settings, then logs, then the program itself.

Each program is a module with `run(settings) -> None`, which returns after SIGTERM.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from fallow import __version__
from fallow.errors import SettingsError
from fallow.settings import AgentSettings, HubSettings, ProbeSettings, ProgramSettings, SettlerSettings, parse
from fallow.telemetry import configure_logging

S = TypeVar("S", bound=ProgramSettings)


def hub(arguments: Sequence[str]) -> None:
    """Run the hub's operator until it is told to stop."""
    _start("hub", HubSettings, arguments)


def agent(arguments: Sequence[str]) -> None:
    """Run a member's agent until it is told to stop."""
    _start("agent", AgentSettings, arguments)


def settler(arguments: Sequence[str]) -> None:
    """Run the settler until it is told to stop."""
    _start("settler", SettlerSettings, arguments)


def probe(arguments: Sequence[str]) -> None:
    """Run the probe of one node until it is told to stop."""
    _start("probe", ProbeSettings, arguments)


def _start(program: str, kind: type[S], arguments: Sequence[str]) -> None:
    settings, warnings = parse(kind, arguments, name=f"fallow {program}")
    configure_logging(program=program, log_format=settings.log_format, level=settings.log_level)
    log = structlog.get_logger(__name__)
    for warning in warnings:
        log.warning(warning)
    log.info("starting", version=__version__, settings=settings.model_dump(mode="json"))
    _entry(program)(settings)
    log.info("stopped")


def _entry(program: str) -> Callable[[ProgramSettings], None]:
    try:
        module = importlib.import_module(f"fallow.{program}.app")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "fallow":
            raise
        raise SettingsError(
            f'`fallow {program}` needs the Python package {error.name}: pip install "fallow[{program}]".'
        ) from error
    entry: Callable[[ProgramSettings], None] = module.run
    return entry
