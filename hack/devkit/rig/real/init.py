"""The first process of a real node: makes the node's mounts and network, then reaps what others leave.

    unshare --mount --net --pid --uts --ipc --fork --kill-child python -m devkit.rig.real.init DIR

When it ends, the kernel ends every process of the node, and with the last one its mounts and interfaces go.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def main(directory: Path) -> None:
    """Set the node up as DIR/node.json says, write DIR/pid, and stay."""
    node = json.loads((directory / "node.json").read_text())
    pid = os.readlink("/proc/self")  # still the machine's /proc: the number that the machine knows us by
    _mounts(directory)
    _network(node)
    Path("/proc/sys/kernel/hostname").write_text(node["name"])
    temporary = directory / "pid.new"
    temporary.write_text(pid)
    temporary.rename(directory / "pid")
    subprocess.Popen(["sleep", "infinity"])  # a child that stays, so that there is always one to wait for
    while True:
        os.wait()


def _mounts(directory: Path) -> None:
    # Shared within the node, so that containers see later mounts; unshare has cut it off from the machine.
    _run("mount", "--make-rshared", "/")
    _run("mount", "-t", "proc", "proc", "/proc")
    # Where programs have places that cannot be set: sockets of containerd, pod networks, links to logs.
    for place in ("/run", "/var/log"):
        _run("mount", "-t", "tmpfs", "-o", "mode=755,size=256m", "tmpfs", place)
    kubelet = Path("/var/lib/kubelet")
    kubelet.mkdir(parents=True, exist_ok=True)  # the mount point is all that the machine ever sees of it
    _run("mount", "--bind", str(directory / "kubelet"), str(kubelet))


def _network(node: dict[str, list[str]]) -> None:
    _run("ip", "link", "set", "lo", "up")
    for address in node["addresses"]:
        _run("ip", "address", "add", f"{address}/32", "dev", "lo")
    # Pods reach each other and the node by routes; a route that leads out of here there is not.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # Every interface gives itself an IPv6 address of its link, by which a pod would reach its node past all
    # rules; pods' interfaces are made after this.
    for scope in ("all", "default"):
        setting = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if setting.exists():
            setting.write_text("1")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
