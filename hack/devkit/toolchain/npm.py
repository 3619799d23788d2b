"""forge, anvil, solc and OpenZeppelin, installed by npm from contracts/package-lock.json into the cache.

The directory is keyed by the lock file, so another pin never meets old packages, and the checkout gets
no node_modules. The Foundry binaries come from the packages of the platform themselves: those around
them only copy it in a post-install script, and no package's script is run. solc is WebAssembly; forge
takes it through a small executable that passes standard JSON in and out.
"""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import ToolchainError
from devkit.toolchain import cache, runtimes
from devkit.toolchain.pins import parse_version
from devkit.toolchain.progress import Display

CONTRACTS = Path(__file__).parents[3] / "contracts"
_PINS = ("package.json", "package-lock.json", ".npmrc")
_SOLC_PROGRAM = """\
// The part of solc's command line that forge uses, over the WebAssembly compiler.
const solc = require("./node_modules/solc");
const fs = require("fs");
if (process.argv.includes("--version")) {
  console.log("solc, the solidity compiler commandline interface\\nVersion: " + solc.version());
} else if (process.argv.includes("--standard-json")) {
  process.stdout.write(solc.compile(fs.readFileSync(0, "utf8")));
} else {
  console.error("only --version and --standard-json are understood");
  process.exit(2);
}
"""


@dataclass(frozen=True, kw_only=True)
class ContractsToolchain:
    """Where the contract tools lie."""

    forge: Path
    anvil: Path
    solc: Path
    """An executable that understands --version and --standard-json, as forge's `solc = PATH` needs."""
    openzeppelin: Path
    """The directory of @openzeppelin/contracts, for `@openzeppelin/contracts/=…/` in a remapping."""


def contracts_toolchain(*, display: Display | None = None) -> ContractsToolchain:
    """Return the contract tools, installing them when missing (about half a minute).

    Raises ToolchainError with the log's path when npm fails or a binary does not run here.
    """
    pinned = b"".join((CONTRACTS / name).read_bytes() for name in _PINS) + _SOLC_PROGRAM.encode()
    key = hashlib.sha256(pinned).hexdigest()[:16]
    place = cache.cache_root() / "npm" / key / cache.target()
    if not place.exists():
        display = display or Display([30])
        waiting = "Another command is installing the contract tools; waiting for it."
        shown = display
        with cache.locked(f"npm-{key}", waiting=lambda: shown.say(waiting)):
            if not place.exists():
                _install(place, display)
    return _paths(place)


def _install(place: Path, display: Display) -> None:
    node = runtimes.node(display)
    log = cache.log_path("npm")
    with cache.making(place) as temporary:
        temporary.mkdir()
        for name in _PINS:
            shutil.copy(CONTRACTS / name, temporary / name)
        work = display.working("contract tools (npm)", estimate_seconds=30)
        with work as tick, log.open("w") as output:
            tick("")
            command = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            code = subprocess.call(
                command, cwd=temporary, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        if code != 0:
            raise ToolchainError(
                f"npm could not install the contract tools; its words are in {log}. "
                "See to the network (npm config get registry) and run this again."
            )
        _write_solc(temporary, node.node)
        tools = _paths(temporary)
        for binary in (tools.forge, tools.anvil, tools.solc):
            _version_text(binary)


def _write_solc(directory: Path, node: Path) -> None:
    (directory / "solc.js").write_text(_SOLC_PROGRAM)
    script = directory / "solc"
    script.write_text(f'#!/bin/sh\nexec "{node}" "$(dirname -- "$0")/solc.js" "$@"\n')
    script.chmod(0o755)


def _foundry(modules: Path, name: str) -> Path:
    """Return npm's binary for this platform, else one on PATH of the pinned version.

    The lock file pins the platform that CI has; npm skips it elsewhere without an error.
    """
    own = modules / "@foundry-rs" / f"{name}-{cache.target()}" / "bin" / name
    if own.exists():
        return own
    version = json.loads((CONTRACTS / "package.json").read_text())["optionalDependencies"][
        f"@foundry-rs/{name}-linux-amd64"
    ]
    found = shutil.which(name)
    if found and parse_version(_version_text(Path(found))) == parse_version(version):
        return Path(found)
    raise ToolchainError(
        f"npm has no {name} for {cache.target()} among the pins, and PATH has none of version {version}. "
        f"Install Foundry {version} and run this again."
    )


def _version_text(binary: Path) -> str:
    """Return what `binary --version` prints; raises ToolchainError when it does not run here."""
    try:
        done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise ToolchainError(f"{binary} does not run here: {error}.") from error
    if done.returncode != 0:
        raise ToolchainError(f"{binary} does not run here: {done.stderr.strip()}")
    return done.stdout


def _paths(place: Path) -> ContractsToolchain:
    modules = place / "node_modules"
    return ContractsToolchain(
        forge=_foundry(modules, "forge"),
        anvil=_foundry(modules, "anvil"),
        solc=place / "solc",
        openzeppelin=modules / "@openzeppelin" / "contracts",
    )
