"""The only reader of flags and environment, and what it says when something in them is wrong."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import CliSettingsSource
from pydantic_settings import SettingsError as ParserError

from fallow.errors import InvalidSetting
from fallow.settings.agent import AgentSettings
from fallow.settings.base import ENV_PREFIX, NESTED, ProgramSettings
from fallow.settings.hub import HubSettings
from fallow.settings.probe import ProbeSettings
from fallow.settings.settler import SettlerSettings

S = TypeVar("S", bound=ProgramSettings)


def parse(program: type[S], arguments: Sequence[str], *, name: str = "fallow") -> tuple[S, list[str]]:
    """Read a program's settings from flags and environment; flags win.

    Returns the settings and warnings, one sentence each, about `FALLOW_` variables that nothing
    reads. `name` is what `--help` calls the program. Raises InvalidSetting with one sentence;
    `--help` prints and exits 0 (argparse's SystemExit).
    """
    try:
        flags: CliSettingsSource[argparse.ArgumentParser] = CliSettingsSource(
            program, cli_prog_name=name, formatter_class=argparse.HelpFormatter
        )
        flags.root_parser.usage = f"{name} [--FLAG VALUE]..."
        settings = program(_cli_settings_source=flags(args=list(arguments)))
    except ValidationError as error:
        raise InvalidSetting(_sentence(program, error)) from None
    except ParserError as error:
        raise InvalidSetting(_parser_sentence(program, str(error))) from None
    return settings, unknown_variables(program, os.environ)


def variables(program: type[BaseModel], prefix: str = ENV_PREFIX) -> list[str]:
    """List all environment variables that `program` reads, groups unfolded."""
    names = []
    for name, field in program.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += variables(field.annotation, f"{prefix}{name.upper()}{NESTED}")
        else:
            names.append(f"{prefix}{name.upper()}")
    return names


def unknown_variables(program: type[ProgramSettings], environment: Mapping[str, str]) -> list[str]:
    """Write one sentence for each `FALLOW_` variable that no program reads, with the nearest name.

    A variable of another program is no mistake: one environment may serve all.
    """
    programs = (HubSettings, AgentSettings, SettlerSettings, ProbeSettings)
    known = {name for each in programs for name in variables(each)}
    groups = {name.rsplit(NESTED, 1)[0] for name in known if NESTED in name}
    sentences = []
    for name in sorted(environment):
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in known | groups:
            continue
        near = difflib.get_close_matches(name.upper(), variables(program) or sorted(known), n=1)
        hint = f": did you mean {near[0]}?" if near else "."
        sentences.append(f"{name} is not a setting of Fallow and is ignored{hint}")
    return sentences


def flag_of(path: Sequence[str]) -> str:
    """Return the flag of a setting: ("payments", "chain_id") → "--payments.chain-id"."""
    return "--" + ".".join(part.replace("_", "-") for part in path)


def variable_of(path: Sequence[str]) -> str:
    """Return the variable of a setting: ("payments", "chain_id") → "FALLOW_PAYMENTS__CHAIN_ID"."""
    return ENV_PREFIX + NESTED.join(part.upper() for part in path)


_PATTERNS = {
    "^0x[0-9a-f]{64}$": "0x and 64 hexadecimal digits",
    "^0x[0-9a-fA-F]{40}$": "0x and 40 hexadecimal digits",
    "^(off|": "host:port or off",
    "^[a-z0-9]([-a-z0-9.]*": "a Node's name",
    "^[a-z0-9](": "at most 63 lower-case letters, digits and dashes, as Kubernetes names are",
}


def _sentence(program: type[ProgramSettings], error: ValidationError) -> str:
    """Say the first problem of a validation as one sentence with flag, variable and what is allowed."""
    problem = error.errors(include_url=False)[0]
    path = [str(part) for part in problem["loc"] if not isinstance(part, int)]
    path = _real_path(program, path)
    where = f"{flag_of(path)} ({variable_of(path)})"
    if problem["type"] == "missing":
        return f"{where} must be set."
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(variable_of(path), variables(program), n=1)
        return f"{where} is not a setting" + (f": did you mean {near[0]}?" if near else ".")
    text = problem["msg"]
    if problem["type"] == "value_error":  # of our own validators; they speak of fields of their group
        said = text.removeprefix("Value error, ")
        first, _, rest = said.partition(" ")
        inner = [*path, first]
        return f"{flag_of(inner)} ({variable_of(inner)}) {rest}."
    allowed = next((said for start, said in _PATTERNS.items() if start in text), None)
    if allowed is None:
        allowed = text.removeprefix("Input should be ").replace("unable to parse string as ", "")
        if problem["type"].endswith("_parsing"):
            allowed = {"int_parsing": "a whole number", "bool_parsing": "true or false"}.get(
                problem["type"], "a number"
            )
    return f"{where} must be {allowed}, not {problem['input']!r}."


def _real_path(program: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Drop what pydantic adds to a location that is no field (branches of unions)."""
    real: list[str] = []
    model: type[BaseModel] | None = program
    for part in path:
        if model is None:
            break
        real.append(part)
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return real


def _parser_sentence(program: type[ProgramSettings], text: str) -> str:
    """Say what argparse says, with the nearest flag where one is unknown."""
    said = text.removeprefix("error parsing CLI: ")
    unknown = re.search(r"unrecognized arguments: (\S+)", said)
    if unknown is None:
        return said.rstrip(".") + "."
    flag = unknown[1].split("=")[0]
    flags = [flag_of(name.removeprefix(ENV_PREFIX).lower().split(NESTED)) for name in variables(program)]
    near = difflib.get_close_matches(flag, flags, n=1)
    return f"{flag} is not a flag" + (f": did you mean {near[0]}?" if near else "; see --help.")
