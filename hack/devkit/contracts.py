"""The contracts: build, test, and the artifacts that Python deploys and calls them with.

    python -m devkit.contracts             what hack/test runs: format, lint, tests, drift (short profile)
    python -m devkit.contracts soak        the invariant suites with hundreds of thousands of calls
    python -m devkit.contracts coverage    lines and branches of src/

Artifacts (ABI, bytecode, compiler) are committed as package data, so that a rig needs anvil only and
an installed Fallow no compiler. `drift` says what is not as it would be generated now, and as a program this
module runs all tests and that check; the build
is deterministic (pinned compiler, no metadata hash), so equal sources give equal bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from devkit import money_vectors
from devkit.toolchain import contracts_toolchain

ROOT = Path(__file__).parents[2]
CONTRACTS = ROOT / "contracts"
ARTIFACTS = ROOT / "operator" / "fallow" / "settler" / "artifacts"
SHIPPED = ("FallowEscrow", "FallowDisputes", "TestToken")


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
    return forge("coverage", "--ir-minimum", "--no-match-coverage", "test").returncode


def artifacts() -> dict[str, str]:
    """Build the contracts and return the artifact files by name, as their text.

    Raises RuntimeError with forge's words when the build fails.
    """
    built = forge("build", "src", quiet=True)
    if built.returncode:
        raise RuntimeError(f"forge build failed:\n{built.stdout}{built.stderr}")
    pins = json.loads((CONTRACTS / "package.json").read_text())
    files = {}
    for name in SHIPPED:
        output = json.loads((CONTRACTS / "out" / f"{name}.sol" / f"{name}.json").read_text())
        artifact = {
            "contract": name,
            "compiler": "solc " + pins["devDependencies"]["solc"],
            "abi": output["abi"],
            "bytecode": output["bytecode"]["object"],
        }
        files[f"{name}.json"] = json.dumps(artifact, indent=1) + "\n"
    return files


def generate() -> None:
    """Write artifacts and golden vectors."""
    money_vectors.write()
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for name, text in artifacts().items():
        (ARTIFACTS / name).write_text(text)


def drift() -> list[str]:
    """List the generated files that are not what `generate` would write now."""
    wanted = {ARTIFACTS / name: text for name, text in artifacts().items()}
    wanted |= {money_vectors.VECTORS / name: text for name, text in money_vectors.vectors().items()}
    return [
        str(path.relative_to(ROOT))
        for path, text in wanted.items()
        if not path.exists() or path.read_text() != text
    ]


def main() -> int:
    """Run everything `hack/test` asks of the contracts; return the exit status."""
    code = test()
    if code:
        return code
    stale = drift()
    for path in stale:
        print(f"stale: {path}; run hack/generate --contracts and commit the result")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m devkit.contracts", description="Test the contracts.")
    parser.add_argument("what", nargs="?", choices=("test", "soak", "coverage"), default="test")
    what = parser.parse_args(arguments).what
    if what != "test":
        return soak() if what == "soak" else coverage()
    code = test()
    for path in drift():
        print(f"{path} is not what would be generated now: run hack/generate --contracts")
        code = code or 1
    return code


if __name__ == "__main__":
    sys.exit(main())
