"""Make .venv when it is missing or out of date, then become the program that was asked for.

Runs on whatever `python3` a machine has, before anything is installed: standard library only, and
syntax that an old interpreter can still read, so that it can say which one is needed. A stamp holds
the hash of what .venv was made from; when it matches, nothing but a few file reads happens.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from typing import IO

OLDEST = (3, 11)
NEWEST_LOOKED_FOR = 20
STAMP = ".fallow-stamp"


def main() -> None:
    name, arguments = sys.argv[1], sys.argv[2:]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if not new_enough():
        become_newer_python()
    try:
        python = ensure_environment(root)
    except KeyboardInterrupt:
        sys.exit(130)
    environ = dict(os.environ)
    environ["PYTHONPATH"] = joined(os.path.join(root, "hack"), environ.get("PYTHONPATH", ""))
    environ["PATH"] = joined(os.path.dirname(python), environ.get("PATH", os.defpath))
    environ["VIRTUAL_ENV"] = os.path.dirname(os.path.dirname(python))
    os.execve(python, [python, "-m", "devkit." + name, *arguments], environ)


def joined(first: str, rest: str) -> str:
    return first + os.pathsep + rest if rest else first


def new_enough() -> bool:
    return sys.version_info[:2] >= OLDEST


def become_newer_python() -> None:
    """Replace this process by the same call under a newer interpreter on PATH, or explain."""
    for minor in range(NEWEST_LOOKED_FOR, OLDEST[1] - 1, -1):
        candidate = shutil.which(f"python3.{minor}")
        if candidate:
            os.execv(candidate, [candidate, *sys.argv])
    sys.exit(
        f"Fallow's tools need Python {OLDEST[0]}.{OLDEST[1]} or newer; {sys.executable} is "
        f"{sys.version.split()[0]}. Install one and run this again, or name it: "
        f"PYTHON=/path/to/python3 hack/{sys.argv[1]}"
    )


def ensure_environment(root: str) -> str:
    """Return the path of .venv's Python, having made or repaired .venv where its stamp is stale."""
    venv = os.path.join(root, ".venv")
    python = os.path.join(venv, "bin", "python")
    wanted = fingerprint(root)
    if is_current(venv, python, wanted):
        return python
    with open(os.path.join(root, ".venv.lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Another command is preparing .venv; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current(venv, python, wanted):
            prepare(root, venv, python, wanted)
    return python


def fingerprint(root: str) -> str:
    """Return the hash of everything that .venv is made from, the interpreter's version included."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for name in ("constraints.txt", "pyproject.toml", "hack/devkit/bootstrap.py"):
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_current(venv: str, python: str, wanted: str) -> bool:
    try:
        with open(os.path.join(venv, STAMP)) as file:
            return file.read().strip() == wanted and os.access(python, os.X_OK)
    except OSError:
        return False


def prepare(root: str, venv: str, python: str, wanted: str) -> None:
    """Bring .venv up to date in place; one that is broken or of another Python is made anew."""
    started = time.monotonic()
    log_path = os.path.join(root, ".venv.log")
    with open(log_path, "w") as log:
        if not works(python):
            say(f"Making .venv with {sys.executable}")
            shutil.rmtree(venv, ignore_errors=True)
            make(venv, log)
        say("Installing the pinned packages into .venv (about a minute the first time)")
        pip = pip_for(python)
        constraints = os.path.join(root, "constraints.txt")
        step(log, [*pip, "install", "--quiet", "--require-hashes", "-r", constraints])
        # The build backend is among the pins: with build isolation pip would fetch another, unverified.
        step(log, [*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", root])
    stamp = os.path.join(venv, STAMP)
    with open(stamp + ".new", "w") as file:
        file.write(wanted + "\n")
    os.replace(stamp + ".new", stamp)
    os.unlink(log_path)
    say(f"Ready: .venv, {time.monotonic() - started:.0f} s")


def works(python: str) -> bool:
    """Tell whether .venv has a working Python of the version that runs now."""
    probe = f"import sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    try:
        return subprocess.call([python, "-c", probe], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make(venv: str, log: "IO[str]") -> None:
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        # Debian splits ensurepip off; the pip of the system can install into a .venv that has none.
        step(log, [sys.executable, "-m", "venv", "--without-pip", venv])
    else:
        step(log, [sys.executable, "-m", "venv", venv])


def pip_for(python: str) -> "list[str]":
    """Return the command line of a pip that installs into .venv: its own, else the one outside."""
    own = [python, "-m", "pip"]
    probe = subprocess.call([*own, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if probe == 0:
        return [*own, "--disable-pip-version-check"]
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]


def step(log: "IO[str]", command: "list[str]") -> None:
    log.write("$ " + " ".join(command) + "\n")
    log.flush()
    if subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) != 0:
        with open(log.name) as written:
            tail = "".join(written.readlines()[-15:])
        sys.exit(f"{tail}Preparing .venv failed: all of it is in {log.name}. Mend that and run this again.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
