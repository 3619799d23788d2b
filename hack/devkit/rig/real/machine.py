"""What a machine must have to run real pods, and how it gets it: root on Linux, and packages of Debian."""

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from devkit.errors import RigError
from devkit.toolchain.cache import locked, log_path

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
_PROBE = (
    "mount -t tmpfs none /run && ip link add rig0 type veth peer name rig1 && nft add table inet rig"
    " && mkdir -p /run/l /run/u && mount -t tmpfs none /run/u && mkdir /run/u/u /run/u/w /run/u/m"
    " && mount -t overlay none -o lowerdir=/run/l,upperdir=/run/u/u,workdir=/run/u/w /run/u/m"
)


def search_path() -> str:
    """Return a PATH on which the programs of administrators are too."""
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:{SBIN}"


def find(program: str) -> Path | None:
    """Return where a program of the machine lies."""
    found = shutil.which(program, path=search_path())
    return Path(found) if found else None


def cni_directory() -> Path | None:
    """Return the directory of the CNI plugins."""
    return next((place for place in CNI_DIRECTORIES if (place / "ptp").exists()), None)


def busybox() -> Path | None:
    """Return a busybox that runs without libraries, as an image with nothing else in it needs."""
    found = find("busybox")
    return found if found and b"ld-linux" not in found.read_bytes()[:8192] else None


def why_not() -> str | None:
    """Say in one sentence why this machine cannot run real pods, or None when it can.

    A package that is missing is no reason where `prepare` may install it.
    """
    if platform.system() != "Linux":
        return f"Real pods need Linux, not {platform.system()}."
    if os.geteuid() != 0:
        return "Real pods need root: a kubelet mounts file systems and makes control groups."
    if not Path("/sys/fs/cgroup").exists():
        return "Real pods need control groups, and /sys/fs/cgroup is not there."
    if refused := _refused("mount -t tmpfs none /run"):
        return f"Real pods need more privileges than root has here: {refused}"
    missing = _missing()
    if missing and find("apt-get") is None:
        return f"Real pods need {', '.join(missing)} (as Debian calls them), and there is no apt-get."
    return None


def prepare() -> None:
    """Install what is missing; raise RigError in one sentence where real pods cannot run."""
    if reason := why_not():
        raise RigError(reason)
    with locked("packages", waiting=lambda: None):
        if missing := _missing():
            _install(missing)
    if missing := _missing():
        raise RigError(f"Real pods need {', '.join(missing)}; installing the packages did not bring them.")
    if refused := _refused(_PROBE):
        raise RigError(f"This kernel does not let us make a node's namespaces: {refused}")


@cache
def _refused(script: str) -> str:
    """Return what goes wrong when a script runs in namespaces of its own, where nothing stays; or ""."""
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", script]
    try:
        tried = subprocess.run(command, env={"PATH": search_path()}, capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no unshare (util-linux)"
    if tried.returncode == 0:
        return ""
    return (tried.stderr.strip().splitlines() or ["no reason given"])[-1]


def _missing() -> list[str]:
    packages = {package for program, package in _PACKAGES.items() if find(program) is None}
    if cni_directory() is None:
        packages.add("containernetworking-plugins")
    if busybox() is None:
        packages.add("busybox-static")
    return sorted(packages)


def _install(packages: list[str]) -> None:
    """Install packages of the machine's own distribution, without starting what they bring."""
    log = log_path("packages")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # An exit status of 101 means to package scripts: services may not be started (invoke-rc.d(8)).
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    with log.open("w") as output:
        try:
            if ours:
                policy.write_text("#!/bin/sh\nexit 101\n")
                policy.chmod(0o755)
            for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
                done = subprocess.run(
                    ["apt-get", "--quiet", *command],
                    env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
        finally:
            if ours:
                policy.unlink(missing_ok=True)
    if done.returncode:
        raise RigError(f"apt-get could not install {' '.join(packages)}; its words are in {log}.")
