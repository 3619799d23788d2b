"""Runs a module of a package by name and writes its figures: the command line of hack/bench and hack/soak."""

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from devkit.errors import DevkitError
from devkit.interrupts import terminate_like_ctrl_c


def main(package: ModuleType, arguments: Sequence[str], *, program: str, all_without_name: bool) -> int:
    """Run the named module's `run()`; return the exit status (2 for an unknown name).

    Without a name it lists what there is, or runs all of it when `all_without_name`.
    """
    terminate_like_ctrl_c()
    known = names_in(package)
    parser = argparse.ArgumentParser(prog=program, description=(package.__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", nargs="?", help=f"which: {', '.join(known) or 'there is none yet'}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    given, more = parser.parse_known_args(arguments)
    if given.name is not None and given.name not in known:
        there_is = ", ".join(known) or "none yet"
        print(f"{program}: there is no {given.name}. There is: {there_is}.", file=sys.stderr)
        return 2
    if not known:
        print("There is none yet.")
        return 0
    if given.name is None and not all_without_name:
        for name in known:
            print(f"{name}\t{_headline(package, name)}")
        return 0
    # What a module needs beside its name, it declares in `options(parser)` and gets by keyword.
    wanted = argparse.ArgumentParser(prog=f"{program} {given.name or ''}".strip())
    if given.name is not None and (declare := getattr(_module(package, given.name), "options", None)):
        declare(wanted)
    options = vars(wanted.parse_args(more))
    try:
        names = [given.name] if given.name else known
        figures = {name: _module(package, name).run(**options) for name in names}
    except DevkitError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text = json.dumps(figures[given.name] if given.name else figures, indent=2)
    if given.json:
        given.json.write_text(text + "\n")
    print(text)
    return 0


def names_in(package: ModuleType) -> list[str]:
    """Return the names of a package's modules as a command line spells them: with dashes."""
    return sorted(
        found.name.replace("_", "-")
        for found in pkgutil.iter_modules(package.__path__)
        if not found.name.startswith("_")
    )


def _module(package: ModuleType, name: str) -> ModuleType:
    return importlib.import_module(f"{package.__name__}.{name.replace('-', '_')}")


def _headline(package: ModuleType, name: str) -> str:
    return (_module(package, name).__doc__ or "").strip().split("\n")[0]
