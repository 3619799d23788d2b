"""The contracts: build, test, and the artifacts that Python deploys and calls them with.

    python -m devkit.contracts             what hack/test runs: format, lint, tests, drift (short profile)
    python -m devkit.contracts soak        the invariant suites with hundreds of thousands of calls
    python -m devkit.contracts coverage    lines and branches of src/
    python -m devkit.contracts slither     static analysis, with slither on PATH

Artifacts (ABI, bytecode, compiler) are committed as package data, so that a rig needs anvil only and
an installed Fallow no compiler. `drift` says what is not as it would be generated now; the build
is deterministic (pinned compiler, no metadata hash), so equal sources give equal bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from devkit import money_vectors
from devkit.toolchain import contracts_toolchain

ROOT = Path(__file__).parents[2]
CONTRACTS = ROOT / "contracts"
ARTIFACTS = ROOT / "operator" / "fallow" / "settler" / "artifacts"
TEST_WALLETS = CONTRACTS / "test" / "wallets"
"""A contract that pays, for tests in Python; its artifact lies beside its source."""
SHIPPED = ("FallowEscrow", "FallowDisputes", "TestToken")
ODD_TOKENS = ("BlockingToken", "SilentToken", "TaxedToken")
"""Creation code of these is for tests on a real chain; it is kept with the vectors, and not shipped."""
TOKENS_FILE = money_vectors.VECTORS / "tokens.json"


def forge(
    *arguments: str, quiet: bool = False, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run forge in contracts/ with the pinned compiler and OpenZeppelin.

    With `quiet` its output is captured, else it goes to the terminal. `settings` are environment
    variables such as FOUNDRY_PROFILE. The exit code is the caller's.
    """
    tools = contracts_toolchain()
    environment = os.environ | {
        "FOUNDRY_SOLC": str(tools.solc),
        "FOUNDRY_REMAPPINGS": f"@openzeppelin/contracts/={tools.openzeppelin}/",
        "FOUNDRY_DISABLE_NIGHTLY_WARNING": "1",
        **(settings or {}),
    }
    return subprocess.run(
        [str(tools.forge), *arguments],
        cwd=CONTRACTS,
        env=environment,
        text=True,
        capture_output=quiet,
        check=False,
    )


def test(*arguments: str) -> int:
    """Format check, lint, then all Foundry tests; returns the exit code of the first that fails."""
    for command in (("fmt", "--check"), ("lint", "src"), ("test", *arguments)):
        code = forge(*command).returncode
        if code:
            return code
    return 0


def soak() -> int:
    """Run the invariant suites with the soak profile; returns forge's exit code."""
    return forge("test", "--match-contract", "Invariants", settings={"FOUNDRY_PROFILE": "soak"}).returncode


def coverage() -> int:
    """Print lines and branches of src/ that the tests reach; returns forge's exit code."""
    return forge("coverage", "--no-match-coverage", "test|node_modules").returncode


def slither() -> int:
    """Run slither (from PATH: it is no dependency of this project) on a build of src/; its exit code.

    slither cannot call the compiler wrapper, but it reads forge's build info. docs/security.md answers
    each finding.
    """
    with tempfile.TemporaryDirectory(prefix="fallow-slither-") as directory:
        place = Path(directory)
        shutil.copy(CONTRACTS / "foundry.toml", place)
        shutil.copytree(CONTRACTS / "src", place / "src")
        settings = {"FOUNDRY_OUT": str(place / "out"), "FOUNDRY_CACHE_PATH": str(place / "cache")}
        built = forge("build", "src", "--build-info", "--force", quiet=True, settings=settings)
        if built.returncode:
            print(built.stdout + built.stderr)
            return built.returncode
        command = ["slither", ".", "--ignore-compile", "--foundry-out-directory", "out"]
        command += ["--filter-paths", "node_modules", "--exclude", "timestamp"]
        path = f"{contracts_toolchain().forge.parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(command, cwd=place, env=os.environ | {"PATH": path}, check=False).returncode


def artifacts() -> dict[Path, str]:
    """Build the contracts and return the artifact files, as their text.

    Raises RuntimeError with forge's words when the build fails.
    """
    built = forge("build", "src", "test/tokens", "test/wallets", quiet=True)
    if built.returncode:
        raise RuntimeError(f"forge build failed:\n{built.stdout}{built.stderr}")
    pins = json.loads((CONTRACTS / "package.json").read_text())
    files = {}
    places = {**dict.fromkeys(SHIPPED, ARTIFACTS), "OwnedWallet": TEST_WALLETS}
    for name, place in places.items():
        output = json.loads((CONTRACTS / "out" / f"{name}.sol" / f"{name}.json").read_text())
        artifact = {
            "contract": name,
            "compiler": "solc " + pins["devDependencies"]["solc"],
            "abi": output["abi"],
            "bytecode": output["bytecode"]["object"],
        }
        files[place / f"{name}.json"] = json.dumps(artifact, indent=1) + "\n"
    return files


def odd_tokens() -> str:
    """Return creation code by contract, as JSON; after `artifacts`, which builds."""
    built = CONTRACTS / "out" / "OddTokens.sol"
    codes = {
        name: json.loads((built / f"{name}.json").read_text())["bytecode"]["object"] for name in ODD_TOKENS
    }
    return json.dumps(codes, indent=1) + "\n"


def generate() -> None:
    """Write artifacts and golden vectors."""
    money_vectors.write()
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for path, text in artifacts().items():
        path.write_text(text)
    TOKENS_FILE.write_text(odd_tokens())


def drift() -> list[str]:
    """List the generated files that are not what `generate` would write now."""
    wanted = artifacts()
    wanted[TOKENS_FILE] = odd_tokens()
    wanted |= {money_vectors.VECTORS / name: text for name, text in money_vectors.vectors().items()}
    return [
        str(path.relative_to(ROOT))
        for path, text in wanted.items()
        if not path.exists() or path.read_text() != text
    ]


_OTHERS = {"soak": soak, "coverage": coverage, "slither": slither}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m devkit.contracts", description="Test the contracts.")
    parser.add_argument("what", nargs="?", choices=("test", *_OTHERS), default="test")
    what = parser.parse_args(arguments).what
    if what in _OTHERS:
        return _OTHERS[what]()
    code = test()
    for path in drift():
        print(f"{path} is not what would be generated now: run hack/generate --contracts")
        code = code or 1
    return code


if __name__ == "__main__":
    sys.exit(main())
