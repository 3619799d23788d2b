"""`hack/demo`: set everything up, submit three jobs, watch them run and be paid, compare money with claims.

Exit status: 0 when all three jobs succeeded and the chain agrees with the claims to the unit; 1 when anything
else happened; 130 after Ctrl-C. Everything is ended on the way out, unless --keep.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from devkit.demo.balance import Comparison, compare
from devkit.demo.picture import Picture, take
from devkit.demo.view import view
from devkit.errors import DevkitError
from devkit.interrupts import terminate_like_ctrl_c
from devkit.rig import Member, Rig, up
from devkit.rig.chain import credits_and_debits
from fallow.resources.money import format_amount

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ("sweep", "gang", "cpu")
LIMIT_SECONDS = 300.0
POLL_SECONDS = 0.25
DECIMALS = 6
MEMBERS = (
    Member(
        name="aurora",
        nodes=16,
        region="eu-north-1",
        prices={"gpu": "2.00", "cpu": "0.01", "memory_gib": "0.001"},
    ),
    Member(
        name="borealis",
        nodes=8,
        region="us-east-1",
        prices={"gpu": "2.20", "cpu": "0.012", "memory_gib": "0.0012"},
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="leave all running and print what to try next")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="where the rig lives (default: a new directory)"
    )
    options = parser.parse_args(arguments)
    terminate_like_ctrl_c()
    console = Console(soft_wrap=True)
    state = options.state or Path(tempfile.mkdtemp(prefix="fallow-demo-"))
    started = time.monotonic()
    try:
        rig = up(state, members=MEMBERS, say=lambda text: console.print(text, markup=False, highlight=False))
    except DevkitError as error:
        console.print(f"{error}\nLogs: {state / 'logs'}", markup=False, highlight=False)
        return 1
    try:
        console.print(f"Ready in {rig.ready_seconds:.1f} s. Logs: {state / 'logs'}", highlight=False)
        passed = _story(rig, console, started=started, figures_to=options.json)
        if options.keep:
            _say_next(rig, console)
    except BaseException:
        options.keep = False
        raise
    finally:
        if not options.keep:
            rig.down()
            console.print(f"All ended. Logs stay in {state / 'logs'}", highlight=False)
    return 0 if passed else 1


def _story(rig: Rig, console: Console, *, started: float, figures_to: Path | None) -> bool:
    _submit(rig, console)
    submitted = time.monotonic()
    picture = _watch(rig, console)
    run_seconds = time.monotonic() - submitted
    settled = [claim for claim in picture.claims if claim.state == "Settled"]
    credited, debited = credits_and_debits(
        rig, payees={claim.payee for claim in settled}, payers={claim.payer for claim in settled}
    )
    comparison = compare(picture, credited=credited, debited=debited, decimals=DECIMALS)
    _print_table(comparison, console)
    unfinished = [job for job in picture.jobs if job.conditions.get("Settled") != "True"]
    for job in unfinished:
        console.print(f"{job.name} did not finish: {job.message}", markup=False, highlight=False)
    ok = comparison.matches and not unfinished and len(picture.jobs) == len(EXAMPLES)
    if comparison.matches:
        console.print("Chain and claims agree to the unit.")
    else:
        console.print("Chain and claims DIFFER: see the table.", style="bold red")
    if figures_to:
        figures = _figures(picture, comparison, rig=rig, run_seconds=run_seconds)
        figures["total_seconds"] = round(time.monotonic() - started, 1)
        figures["ok"] = ok
        figures_to.write_text(json.dumps(figures, indent=2) + "\n")
    return ok


def _submit(rig: Rig, console: Console) -> None:
    """Apply the examples as a submitter would: with kubectl."""
    for name in EXAMPLES:
        command = [str(rig.programs["kubectl"]), "apply", "-f", f"examples/{name}.yaml"]
        console.print(f"$ kubectl apply -f examples/{name}.yaml", highlight=False)
        environ = {**os.environ, "KUBECONFIG": str(rig.identities["submitter"])}
        subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL)


def _watch(rig: Rig, console: Console) -> Picture:
    """Show pictures until every job is over, or the time is up; return the last."""
    client = rig.client("hub_admin")
    started = time.monotonic()
    with view(console) as shown:
        while True:
            picture = take(client)
            seconds = time.monotonic() - started
            shown.show(picture, seconds=seconds)
            over = len(picture.jobs) == len(EXAMPLES) and all(job.is_over for job in picture.jobs)
            if over or seconds > LIMIT_SECONDS:
                return picture
            time.sleep(POLL_SECONDS)


def _print_table(comparison: Comparison, console: Console) -> None:
    table = Table(title="What each provider did, and what the chain says it got", title_justify="left")
    for heading in ("provider", "tasks", "GPU-hours", "claimed", "on chain", "transactions"):
        table.add_column(heading, justify="left" if heading in ("provider", "transactions") else "right")
    for line in comparison.lines:
        table.add_row(
            line.provider,
            str(line.tasks),
            _hours(line.gpu_seconds),
            format_amount(line.claimed, decimals=DECIMALS),
            format_amount(line.credited, decimals=DECIMALS),
            "\n".join(f"{transaction[:10]}…" for transaction in line.transactions),
        )
    claimed = sum(line.claimed for line in comparison.lines)
    table.add_section()
    table.add_row(
        "payer",
        "",
        "",
        format_amount(claimed, decimals=DECIMALS),
        format_amount(comparison.debited, decimals=DECIMALS),
        "",
    )
    console.print(table)


def _hours(gpu_seconds: int) -> str:
    """Return GPU-seconds as hours with three places, rounded down: exact figures are in the JSON."""
    thousandths = gpu_seconds * 1000 // 3600
    return f"{thousandths // 1000}.{thousandths % 1000:03d}"


def _figures(picture: Picture, comparison: Comparison, *, rig: Rig, run_seconds: float) -> dict[str, Any]:
    return {
        "ready_seconds": round(rig.ready_seconds, 1),
        "run_seconds": round(run_seconds, 1),
        "jobs": {job.name: {"tasks": job.tasks, "succeeded": job.succeeded} for job in picture.jobs},
        "claims": len(picture.claims),
        "transactions": len({claim.transaction for claim in picture.claims if claim.transaction}),
        "providers": {
            line.provider: {
                "tasks": line.tasks,
                "gpu_seconds": line.gpu_seconds,
                "claimed": format_amount(line.claimed, decimals=DECIMALS),
                "on_chain": format_amount(line.credited, decimals=DECIMALS),
            }
            for line in comparison.lines
        },
        "debited": format_amount(comparison.debited, decimals=DECIMALS),
        "agrees": comparison.matches,
    }


def _say_next(rig: Rig, console: Console) -> None:
    tools = rig.programs["kubectl"].parent
    admin, submitter = rig.identities["hub_admin"], rig.identities["submitter"]
    aurora = rig.members["aurora"].kubeconfig
    lines = (
        "",
        "Everything still runs. Try:",
        f"  export PATH={shlex.quote(str(tools))}:$PATH",
        f"  export KUBECONFIG={shlex.quote(str(admin))}",
        "  kubectl get computejobs,placements,paymentclaims,settlements -A",
        "  kubectl describe computejob sweep",
        f"  kubectl --kubeconfig {shlex.quote(str(aurora))} get offers,guestsets,pods -A",
        f"  kubectl --kubeconfig {shlex.quote(str(submitter))} replace --force -f examples/cpu.yaml",
        f"End it with: hack/rig down --state {shlex.quote(str(rig.state))}",
    )
    console.print("\n".join(lines), markup=False, highlight=False)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted; all ended.")
        sys.exit(130)
