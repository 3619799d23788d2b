"""The command line of hack/rig."""

import argparse
import sys
from pathlib import Path

from devkit.errors import DevkitError, RigError
from devkit.interrupts import terminate_like_ctrl_c
from devkit.rig.lifecycle import down, up
from devkit.rig.members import REAL_MEMBER, default_members, real_member
from devkit.rig.processes import Processes
from devkit.rig.record import refresh
from devkit.rig.state import processes_of
from devkit.toolchain import PROGRAMS, contracts_toolchain, ensure


def main() -> int:
    """Run one command; return the exit status."""
    terminate_like_ctrl_c()
    arguments = _parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except DevkitError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; what was started has been ended.", file=sys.stderr)
        return 130


def _up(arguments: argparse.Namespace) -> int:
    members = default_members(arguments.members, nodes=arguments.nodes, gpus_per_node=arguments.gpus)
    if arguments.real_pods:
        members.append(real_member(gpus=arguments.gpus))
    rig = up(
        arguments.state,
        members=members,
        with_fallow=not arguments.no_fallow,
        payments=arguments.payments,
        fairness=arguments.fairness,
        say=_say,
    )
    _say(f"Ready after {rig.ready_seconds:.1f} s: {rig.state / 'rig.json'}, logs in {rig.state / 'logs'}")
    _say(f"  export KUBECONFIG={rig.identities['submitter']}")
    _say(f"  hack/rig down --state {arguments.state}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    if down(arguments.state, say=_say):
        _say(f"Ended; logs stay in {arguments.state / 'logs'}")
    else:
        _say(f"There is no rig in {arguments.state}")
    return 0


def _kill(arguments: argparse.Namespace) -> int:
    processes = _processes_of(arguments)
    for name in arguments.names:
        processes.kill(name)
        _say(f"{name} is killed")
    return 0


def _start(arguments: argparse.Namespace) -> int:
    processes = _processes_of(arguments)
    for name in arguments.names:
        pid = processes.start_again(name)
        _say(f"{name} is started again: process {pid}")
    refresh(arguments.state, processes)
    return 0


def _processes_of(arguments: argparse.Namespace) -> Processes:
    if not (arguments.state / "rig.json").exists():
        raise RigError(f"There is no rig in {arguments.state}")
    processes = processes_of(arguments.state.absolute())
    known = processes.names()
    for name in arguments.names:
        if name not in known:
            raise RigError(f"There is no process {name}. There is: {', '.join(known)}")
    return processes


def _toolchain(arguments: argparse.Namespace) -> int:
    for name, path in ensure(*(arguments.names or PROGRAMS)).items():
        print(f"{name}\t{path}")
    if not arguments.names:
        tools = contracts_toolchain()
        for name in ("forge", "anvil", "solc", "openzeppelin"):
            print(f"{name}\t{getattr(tools, name)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/rig", description="Real control planes on this machine, with Fallow on them."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("up", help="start everything, detached, and wait until it is ready")
    start.add_argument("--state", type=Path, required=True, metavar="DIR", help="where all of it lies")
    start.add_argument("--members", type=_count, default=2, metavar="N", help="members (2)")
    start.add_argument("--nodes", type=_count, default=2, metavar="N", help="nodes of each member (2)")
    start.add_argument("--gpus", type=_count, default=8, metavar="N", help="accelerators of each node (8)")
    start.add_argument("--no-fallow", action="store_true", help="only the planes, CRDs and identities")
    start.add_argument(
        "--real-pods",
        action="store_true",
        help=f"and a member {REAL_MEMBER} whose node runs containers (root on Linux)",
    )
    start.add_argument("--payments", choices=("chain", "ledger"), default="chain", help="(chain)")
    start.add_argument(
        "--fairness",
        action="store_true",
        help="the hub's API server deals out few seats by priority and fairness",
    )
    start.set_defaults(run=_up)
    stop = commands.add_parser("down", help="end everything that `up` started, whatever became of it")
    stop.add_argument("--state", type=Path, required=True, metavar="DIR")
    stop.set_defaults(run=_down)
    for command, run, text in (
        ("kill", _kill, "end processes of a rig with SIGKILL"),
        ("start", _start, "start killed processes again, with the command and environment they had"),
    ):
        sub = commands.add_parser(command, help=text)
        sub.add_argument("--state", type=Path, required=True, metavar="DIR")
        sub.add_argument("names", nargs="+", metavar="NAME", help="such as fallow.hub or aurora.kwok")
        sub.set_defaults(run=run)
    tools = commands.add_parser("toolchain", help="build what is missing of the pinned programs")
    tools.add_argument("names", nargs="*", metavar="NAME", help=f"which (all): {', '.join(PROGRAMS)}")
    tools.set_defaults(run=_toolchain)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 10000")
    return number


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
