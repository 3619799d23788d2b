"""What NVIDIA's container runtime does for a pod of its RuntimeClass, with a driver made of a script.

The runtime mounts the driver's library into the container. Here that is the fake `libnvidia-ml.so.1`, so a
probe in a pod finds hardware where a machine has none.
"""

import json
import subprocess
from pathlib import Path

from devkit.errors import RigError
from devkit.fake_nvml import Hardware, build
from devkit.rig.real import machine
from devkit.toolchain import cache

HANDLER = "nvidia"
_SCRIPT = "/etc/fake-nvml"
_LIBRARIES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


def runtime_spec(directory: Path, hardware: Hardware) -> Path:
    """Compile the driver, write its hardware, and return the OCI spec that containers start from.

    A changed `hardware.ini` in `directory` is seen by containers that run.
    """
    library = build(directory / "lib") / "libnvidia-ml.so.1"
    hardware.write(directory / "hardware.ini")
    done = subprocess.run(
        ["ctr", "oci", "spec"], env={"PATH": machine.search_path()}, capture_output=True, text=True
    )
    if done.returncode:
        raise RigError(f"ctr oci spec: {done.stderr.strip()}")
    spec = json.loads(done.stdout)
    spec["process"]["env"] = [f"FAKE_NVML_SCRIPT={_SCRIPT}/hardware.ini"]
    place = _LIBRARIES[cache.target().rpartition("-")[2]]
    for source, target in (
        (library, f"/usr/lib/{place}/libnvidia-ml.so.1"),
        (directory, _SCRIPT),
    ):
        mount = {"destination": target, "source": str(source), "type": "bind", "options": ["rbind", "ro"]}
        spec["mounts"].append(mount)
    path = directory / "spec.json"
    path.write_text(json.dumps(spec, indent=1))
    return path
