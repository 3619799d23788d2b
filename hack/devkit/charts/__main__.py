"""`python -m devkit.charts`: what must hold of the charts without a cluster. The `charts` step of hack/test.

Lints both charts with every set of values in their ci/ directory, compares config/, the table of
docs/security.md and the snapshots with what they render to, and runs tests/charts. `--write` writes what is
generated from the charts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from devkit.charts import CHARTS, ROOT, access, plain, rendering, snapshots
from devkit.errors import DevkitError

SECURITY = ROOT / "docs/security.md"
_SECTION = f"""## Who may do what

Every right that the charts give, and none besides; the admission policies narrow some further: an agent's
Quote names its own provider, its Lease is called `agent` and lasts at most 300 s, a probe changes one
annotation of its own node, the hub creates nothing in an old term and no ConfigMap but results. Columns of
status are kinds of their own (`…/status`). Shown for payments in chain mode; in ledger mode a submitter may
only read `accounts`. `tests/integration/test_charts.py` asks the API server for every cell, the empty ones
included.

{access.BEGIN}
{access.END}
"""


def main(arguments: list[str] | None = None) -> int:
    """Check or write; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m devkit.charts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="write what is generated; check nothing")
    options = parser.parse_args(arguments)
    if options.write:
        write()
        return 0
    try:
        _lint()
        stale = stale_files()
    except DevkitError as error:
        print(error)
        return 1
    for path in stale:
        print(f"stale: {path.relative_to(ROOT)}; run hack/generate --charts and commit the result")
    tests = subprocess.call([sys.executable, "-m", "pytest", "-q", "tests/charts"], cwd=ROOT)
    return 1 if stale or tests else 0


def write() -> None:
    """Write what differs from the charts' rendering; remove what nothing renders any more."""
    for path, text in generated_files().items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    for path in stale_files():
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")


def stale_files() -> list[Path]:
    """Return what differs from the charts' rendering, and files that nothing renders any more."""
    wanted = generated_files()
    different = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    extra = [path for path in (*plain.present(), *snapshots.present()) if path not in wanted]
    return sorted({*different, *extra})


def generated_files() -> dict[Path, str]:
    """Return every file that is generated from the charts' rendering. Runs helm."""
    return {**plain.config_files(), **snapshots.files(), SECURITY: _security()}


def _security() -> str:
    """Return docs/security.md with its generated section brought up to date; the rest is written by
    people.
    """
    text = SECURITY.read_text() if SECURITY.exists() else "# Security\n"
    if access.BEGIN not in text:
        text = f"{text.rstrip()}\n\n{_SECTION}"
    before, _, rest = text.partition(access.BEGIN)
    _, _, after = rest.partition(access.END)
    return f"{before}{access.page(plain.planes())}{after}"


def _lint() -> None:
    for chart in CHARTS:
        for name, path in rendering.values_files(chart).items():
            rendering.helm(
                "lint", "--strict", "--quiet", f"helm/{chart}", f"--values={path.relative_to(ROOT)}"
            )
            count = len(rendering.objects(chart, values=[path]))
            print(f"{chart} with {name} values: no complaint, {count} objects")


if __name__ == "__main__":
    sys.exit(main())
