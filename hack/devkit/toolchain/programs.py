"""Find or build the pinned programs: KUBEBUILDER_ASSETS, PATH, the cache, and last the Go modules.

A build's place carries its version, so another pin never meets an old binary. Each program has a lock
of its own: a second call waits for the first and then finds the result.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from devkit.errors import ToolchainError
from devkit.toolchain import cache, runtimes
from devkit.toolchain.pins import PROGRAMS, Program, fits, parse_version
from devkit.toolchain.progress import Display

MODULES = Path(__file__).parent / "modules"
_TICK_SECONDS = 0.25


def ensure(*names: str, display: Display | None = None) -> Mapping[str, Path]:
    """Return where each named program lies, building what is missing (minutes when cold).

    Raises ToolchainError with the log's path when one cannot be built.
    """
    wanted = [program for program in PROGRAMS.values() if program.name in names]
    unknown = set(names) - set(PROGRAMS)
    if unknown:
        raise ToolchainError(f"No such program: {', '.join(sorted(unknown))}. Known: {', '.join(PROGRAMS)}.")
    found = {program.name: path for program in wanted if (path := _existing(program))}
    missing = [program for program in wanted if program.name not in found]
    if missing:
        display = display or Display(program.estimate_seconds for program in missing)
        compiler = runtimes.go(display)
        for program in missing:
            found[program.name] = _build(program, compiler, display)
    return found


def place_of(program: Program) -> Path:
    """Return where the cache keeps `program`, whether it is there or not."""
    return cache.cache_root() / program.module / program.version / cache.target() / program.name


def _existing(program: Program) -> Path | None:
    for directory in (os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH")):
        candidate = shutil.which(program.name, path=directory) if directory else None
        if candidate and fits(program, _version_of(program, Path(candidate))):
            return Path(candidate)
    place = place_of(program)
    return place if place.exists() else None


def _version_of(program: Program, binary: Path) -> tuple[int, ...] | None:
    try:
        done = subprocess.run(
            [str(binary), *program.version_arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stdout) if done.returncode == 0 else None


def _build(program: Program, compiler: Path, display: Display) -> Path:
    place = place_of(program)
    label = f"{program.name} {program.version}"
    waiting = f"Another command is building {label}; waiting for it."
    with cache.locked(f"{program.name}-{program.version}", waiting=lambda: display.say(waiting)):
        if place.exists():
            return place
        log = cache.log_path(f"{program.name}-{program.version}")
        with cache.making(place) as temporary:
            work = display.working(f"building {label}", estimate_seconds=program.estimate_seconds)
            with work as tick, log.open("w") as output:
                code = _run(_command(program, compiler, temporary), _environment(), output, log, tick)
            if code != 0:
                raise ToolchainError(
                    f"{_tail(log)}Building {label} failed; the whole log is {log}. "
                    "If it could not download, see to the network (GOPROXY, proxies) and run this again: "
                    "what is built already is kept."
                )
    return place


def _command(program: Program, compiler: Path, output: Path) -> list[str]:
    flags = " ".join(("-s -w", *program.linker_flags))
    head = [str(compiler), "-C", str(MODULES / program.module), "build", "-v", "-trimpath", "-ldflags", flags]
    # -modcacherw: what Go downloads can be deleted again by whoever owns it.
    return [*head, "-mod=readonly", "-modcacherw", "-buildvcs=false", "-o", str(output), program.package]


def _environment() -> dict[str, str]:
    """Return the environment of a build: the caller's proxies and caches, but nothing that changes output."""
    kept = {key: value for key, value in os.environ.items() if key not in ("GOFLAGS", "GOOS", "GOARCH")}
    return {**kept, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _run(
    command: list[str],
    environ: dict[str, str],
    output: IO[str],
    log: Path,
    tick: Callable[[str], None],
) -> int:
    """Run a build to its end, however that comes: an interrupt must not leave a compiler behind."""
    process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environ)
    try:
        while (code := process.poll()) is None:
            tick(_last_line(log))
            time.sleep(_TICK_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return code


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 200, 0))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else ""


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line]
    return "".join(f"  {line}\n" for line in lines[-12:])
