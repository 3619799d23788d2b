"""Images made on the spot: one static program in an archive that containerd takes, no registry asked.

Guests of tests run in busybox: a shell, sha256sum, a web server and client, in one file of 2 MB.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from devkit.toolchain import cache

BUSYBOX = "rig.fallow.dev/busybox:1"
PAUSE = "rig.fallow.dev/pause:1"
PYTHON = "rig.fallow.dev/python:1"
COREDNS = "rig.fallow.dev/coredns:1"
_MODE = 0o755


def write_image(
    path: Path,
    name: str,
    programs: Mapping[str, Path],
    *,
    links: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    user: str = "65532:65532",
) -> Path:
    """Write an image of a few files as an OCI archive; returns `path`.

    `programs` gives a file for each path in the image, `links` symbolic links. The same input gives the same
    bytes, and so the same digest.
    """
    layer = _tar(programs, links or {})  # not compressed: it is read once, on this machine
    variables = [f"{key}={value}" for key, value in {"PATH": "/bin", **(environ or {})}.items()]
    config = json.dumps(
        {
            "architecture": cache.target().rpartition("-")[2],
            "os": "linux",
            "config": {
                "Entrypoint": list(entrypoint),
                "User": user,
                "Env": variables,
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        },
        sort_keys=True,
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        },
        sort_keys=True,
    ).encode()
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (config, layer, manifest)}
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs}
    with tarfile.open(path, "w") as archive:
        for file, data in files.items():
            _add(archive, file, data, mode=0o644)
    return path


def digest_of(path: Path) -> str:
    """Return the digest of the manifest in an archive that `write_image` wrote."""
    with tarfile.open(path) as archive:
        file = archive.extractfile("index.json")
        assert file is not None
        return str(json.load(file)["manifests"][0]["digest"])


def _tar(programs: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        # Places that anybody may write, as in any distribution.
        for directory, mode in (("bin", _MODE), ("etc", _MODE), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        for path, source in programs.items():
            _add(archive, path.lstrip("/"), source.read_bytes(), mode=_MODE)
        for path, target in links.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, *, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}
