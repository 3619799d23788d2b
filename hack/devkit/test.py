"""`hack/test`: everything that must hold before a change lands, cheapest first.

    hack/test                 all steps
    hack/test lint unit       only these
    hack/test --list          what there is

Each step is a command that can be run by itself; its line says which. All steps run even when one fails, so
that one run shows all there is to mend; the exit status is 1 when any did.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import DevkitError
from devkit.rig.real import prepare, why_not
from devkit.toolchain import CONTROL_PLANES, REAL_NODES, contracts_toolchain, ensure

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / ".fallow" / "test"
SOURCES = ("operator", "hack", "tests")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One check: a command, run from the project's root."""

    name: str
    what: str
    command: tuple[str, ...]
    needs: Callable[[], object] | None = None
    """Installs what the command needs, before its time is taken."""


def _planes() -> None:
    ensure(*CONTROL_PLANES)


def _planes_and_helm_and_chain() -> None:
    _helm()
    _planes_and_chain()


def _helm() -> None:
    ensure("helm")


def _planes_and_chain() -> None:
    _planes()
    contracts_toolchain()


def _planes_and_chain_and_real_nodes() -> None:
    _planes_and_chain()
    if reason := why_not():
        print(f"Tests with real containers are skipped: {reason}")
        return
    prepare()
    ensure(*REAL_NODES)


def _pytest(directory: str, *, workers: int = 0) -> tuple[str, ...]:
    """Return the command of a directory's tests.

    With workers, files are dealt to so many processes, each with rigs of its own: what talks to control
    planes mostly waits. Durations are shown, so that a slow test is seen in the run that made it slow.
    """
    spread = ("-n", str(workers), "--dist", "loadfile") if workers else ()
    return (sys.executable, "-m", "pytest", "--durations=5", *spread, f"tests/{directory}")


STEPS: tuple[Step, ...] = (
    Step(name="lint", what="ruff's rules", command=(sys.executable, "-m", "ruff", "check", *SOURCES)),
    Step(
        name="format",
        what="ruff's format",
        command=(sys.executable, "-m", "ruff", "format", "--check", *SOURCES),
    ),
    Step(name="types", what="mypy --strict", command=(sys.executable, "-m", "mypy", *SOURCES)),
    Step(name="layers", what="imports point one way", command=("lint-imports",)),
    Step(
        name="drift",
        what="generated files are up to date",
        command=(sys.executable, "-m", "devkit.generate", "--check"),
    ),
    Step(name="unit", what="decisions, without network or clock", command=_pytest("unit")),
    Step(
        name="charts",
        what="helm's lint, schemas, rendering; config/ and the table of rights are the charts'",
        command=(sys.executable, "-m", "devkit.charts"),
        needs=_helm,
    ),
    Step(
        name="contracts",
        what="Foundry's unit, fuzz and invariant tests; artifacts up to date",
        command=(sys.executable, "-m", "devkit.contracts"),
        needs=contracts_toolchain,
    ),
    Step(
        name="integration",
        what="each part against real API servers and a real chain",
        command=_pytest("integration", workers=2),
        needs=_planes_and_helm_and_chain,
    ),
    Step(
        name="e2e",
        what="jobs, kills and payment on the whole rig",
        command=_pytest("e2e", workers=2),
        needs=_planes_and_chain_and_real_nodes,
    ),
    Step(
        name="chaos",
        what="a minute of kills and freezes from a seed, then all must have converged",
        command=_pytest("chaos"),
        needs=_planes_and_chain,
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the steps asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help="names of steps; without any, all")
    parser.add_argument("--list", action="store_true", help="list the steps and end")
    options = parser.parse_args(arguments)
    if options.list:
        for step in STEPS:
            print(f"{step.name:12} {step.what}")
        return 0
    known = {step.name for step in STEPS}
    if unknown := [name for name in options.steps if name not in known]:
        print(f"No such step: {', '.join(unknown)}. Known: {', '.join(step.name for step in STEPS)}.")
        return 2
    chosen = [step for step in STEPS if not options.steps or step.name in options.steps]
    LOGS.mkdir(parents=True, exist_ok=True)
    results = [(step, *_run(step)) for step in chosen]
    print("\n" + "─" * 60)
    for step, passed, seconds in results:
        print(f"{'ok    ' if passed else 'FAILED'}  {step.name:12} {seconds:6.1f} s  {step.what}")
    failed = [step.name for step, passed, _ in results if not passed]
    print(f"Logs: {LOGS.relative_to(ROOT)}/<step>.log")
    if failed:
        print(f"Run what failed again with: hack/test {' '.join(failed)}")
    return 1 if failed else 0


def _run(step: Step) -> tuple[bool, float]:
    """Run one step, its output shown and kept in a log; return whether it passed and its seconds."""
    print(f"\n── {step.name}: {step.what}\n   {_shown(step.command)}", flush=True)
    if step.needs is not None:
        try:
            step.needs()
        except DevkitError as error:
            print(error)
            return False, 0.0
    started = time.monotonic()
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "hack"), "PYTHONUNBUFFERED": "1"}
    with (LOGS / f"{step.name}.log").open("wb") as log:
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            while piece := process.stdout.read1(65_536):  # type: ignore[attr-defined]
                log.write(piece)
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal sent it to the step as well: let its fixtures take their rigs down.
            process.wait()
            raise
    return code == 0, time.monotonic() - started


def _shown(command: tuple[str, ...]) -> str:
    return " ".join("python" if word == sys.executable else word for word in command)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted; what ran was ended.")
        sys.exit(130)
