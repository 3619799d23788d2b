"""`hack/image`: build the image without Docker, on a Debian base made on the spot.

    hack/image                     .fallow/image/fallow.tar, an OCI archive
    hack/image --base IMAGE        on another base, one that buildah can pull

mmdebstrap makes a minimal Debian with Python (kept in the cache), buildah builds the Dockerfile on it. Both
need root on Linux, since they make files of other users; no daemon runs and nothing is installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from devkit.errors import DevkitError
from devkit.toolchain import cache
from fallow import __version__

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / ".fallow" / "image" / "fallow.tar"
SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class ImageError(DevkitError):
    """The image could not be built; the message says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Build; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/image", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", help="an image with python3 and venv; without it, a Debian made here")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the OCI archive to write")
    options = parser.parse_args(arguments)
    try:
        build(options.output.absolute(), base=options.base)
    except ImageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def why_not() -> str | None:
    """Say in one sentence why this machine cannot build the image, or None."""
    if platform.system() != "Linux":
        return f"hack/image needs Linux, not {platform.system()}: build the Dockerfile with docker or podman."
    if os.geteuid() != 0:
        return "hack/image needs root, for files of other users: run it with sudo, or build with podman."
    missing = [name for name in ("buildah", "mmdebstrap") if shutil.which(name) is None]
    if missing:
        install = f"apt-get install --no-install-recommends {' '.join(missing)}"
        return f"hack/image needs {' and '.join(missing)}: {install}"
    return None


def build(output: Path, *, base: str | None = None) -> None:
    """Build the image and write it as the OCI archive `output`. Raises ImageError."""
    if reason := why_not():
        raise ImageError(reason)
    started = time.monotonic()
    output.parent.mkdir(parents=True, exist_ok=True)
    # Layers are whole copies (vfs needs no kernel support), so they go as soon as the archive is written.
    with tempfile.TemporaryDirectory(prefix="fallow-image-", dir=output.parent) as storage:
        buildah = _Buildah(Path(storage))
        if base is None:
            base = _debian(buildah)
        # The certificates of this machine, for the time of the build: a proxy's may be among them.
        buildah(
            "build",
            f"--volume={_CERTIFICATES.parent}:{_CERTIFICATES.parent}:ro",
            f"--build-arg=BASE={base}",
            f"--build-arg=VERSION={__version__}",
            f"--build-arg=REVISION={_revision()}",
            *_network(),
            f"--tag=fallow:{__version__}",
            f"--ignorefile={ROOT / '.dockerignore'}",
            f"--file={ROOT / 'Dockerfile'}",
            str(ROOT),
        )
        _check(buildah, f"fallow:{__version__}")
        temporary = output.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        buildah("push", "--quiet", f"fallow:{__version__}", f"oci-archive:{temporary}:fallow:{__version__}")
        temporary.replace(output)
    size = output.stat().st_size / 1e6
    print(f"fallow:{__version__}: {output}, {size:.0f} MB, {time.monotonic() - started:.0f} s")


def _debian(buildah: _Buildah) -> str:
    """Make an image of a minimal Debian with Python; return its name. The system's archive is cached."""
    place = cache.cache_root() / "image" / f"debian-{SUITE}-{cache.target()}.tar"
    with cache.locked("image-base", waiting=lambda: print("Another command makes the base; waiting.")):
        if not place.exists():
            print(f"Making the base: Debian {SUITE} with {', '.join(PACKAGES)}", flush=True)
            with cache.making(place) as temporary:
                _run(
                    "mmdebstrap", "--quiet", "--variant=minbase", "--format=tar",
                    f"--include={','.join(PACKAGES)}",
                    "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                    SUITE, str(temporary),
                )  # fmt: skip
    name = "localhost/fallow-base"
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(place), "/")
    buildah("commit", "--quiet", "--rm", container, name)
    return name


def _check(buildah: _Buildah, image: str) -> None:
    """Run every program of the image as the user that it is for, and look for what must not be in it."""
    container = buildah("from", "--pull-never", image)
    run = ("run", "--user=65532:65532", container, "--")
    for program in ("hub", "settler", "agent", "probe"):
        buildah(*run, "fallow", program, "--help")
    # The chain client and the driver's binding are optional packages: a help text does not import them.
    buildah(*run, "/opt/fallow/bin/python", "-c", "import fallow.settler.app, fallow.probe.app, pynvml, web3")
    buildah(
        *run,
        "sh",
        "-c",
        "! command -v gcc && ! command -v cc && ! test -w /opt/fallow && test -s /opt/fallow/sbom.cdx.json",
    )
    buildah("rm", container)


class _Buildah:
    """Buildah with storage of its own below one directory, so that nothing of it stays."""

    def __init__(self, storage: Path) -> None:
        self._options = (
            "--storage-driver=vfs",
            f"--root={storage / 'root'}",
            f"--runroot={storage / 'run'}",
        )

    def __call__(self, command: str, *arguments: str) -> str:
        return _run("buildah", *self._options, command, *arguments)


def _run(*command: str) -> str:
    environ = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise ImageError(f"{tail}\n{' '.join(command[:1])} failed with status {done.returncode}.")
    return done.stdout.strip()


def _network() -> Sequence[str]:
    """Return what pip needs of this machine's network, as build arguments; they stay out of the image."""
    given = {name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_CERT") if os.environ.get(name)}
    if _CERTIFICATES.exists():
        given.setdefault("PIP_CERT", str(_CERTIFICATES))
    return [f"--build-arg={name}={value}" for name, value in given.items()]


def _revision() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted; nothing was left.")
        sys.exit(130)
