"""A fake `libnvidia-ml.so.1`: real machine code behind the real binding, hardware out of a script.

    library = build(directory)                        # compiles once; needs a C compiler
    hardware = Hardware.h100s(8)
    hardware.write(script)
    environ = environment(library, script)            # for a new process

The dynamic linker reads LD_LIBRARY_PATH when a process starts, so what uses the fake is a process of
its own. Write a changed `Hardware` over the script and the running process sees it at its next call.
`build(…, without=…)` leaves functions out, as an older driver does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from devkit.errors import ToolchainError

_SOURCE = Path(__file__).with_name("fake_nvml.c")

OLD_DRIVER = (
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetRemappedRows",
)
"""Functions that a driver of 2020 does not have."""


def compiler() -> str | None:
    """Return the machine's C compiler, or None."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(directory: Path, *, without: Iterable[str] = ()) -> Path:
    """Compile the library into `directory` and return that; functions in `without` are not in it.

    Raises ToolchainError when there is no C compiler or it fails.
    """
    found = compiler()
    if found is None:
        raise ToolchainError("The fake NVML needs a C compiler: install gcc or clang.")
    directory.mkdir(parents=True, exist_ok=True)
    hidden = "".join(f" {name};" for name in without)
    exports = directory / "exports.map"
    exports.write_text(f"{{ global: nvml*; local:{hidden} *; }};\n")
    command = [found, "-std=gnu11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-format-truncation"]
    command += ["-Wl,-soname,libnvidia-ml.so.1", f"-Wl,--version-script={exports}"]
    command += ["-o", str(directory / "libnvidia-ml.so.1"), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ToolchainError(f"The fake NVML does not compile:\n{done.stderr}")
    return directory


def environment(library: Path | None, script: Path) -> dict[str, str]:
    """Return the variables for a process that shall see the fake; no library: a node without a driver."""
    environ = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    if library is not None:
        environ["LD_LIBRARY_PATH"] = str(library)
    return {**environ, "FAKE_NVML_SCRIPT": str(script)}


class Hardware:
    """What the fake says, as sections of keys; see `fake_nvml.c` for which there are."""

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, object]] = {}
        self._events = 0

    @classmethod
    def h100s(cls, count: int, *, driver: str = "580.95.05", cuda: int = 13000) -> Hardware:
        """Make an idle HGX board: H100s on NVSwitches, in one fabric."""
        hardware = cls()
        hardware.system(driver=driver, cuda=cuda, count=count)
        hardware.sections["gpu *"] = {
            "name": "NVIDIA H100 80GB HBM3",
            "total": 81559,
            "used": 4,
            "reserved": 550,
            "util": 0,
            "memutil": 0,
            "temp": 31,
            "memtemp": 37,
            "power": 71_250,
            "limit": 700_000,
            "cc": "9.0",
            "gen": 5,
            "width": 16,
            "ecc": 0,
            "rows": "0,0,0,0",
            "recovery": 0,
            "links": 18,
            "version": 4,
            "switch": 1,
            "cluster": "0123456789abcdef0123456789abcdef",
            "clique": 1,
        }
        for index in range(count):
            hardware.gpu(
                index,
                uuid=f"GPU-{index:08x}-0000-4000-8000-00000000{index:04x}",
                busid=f"00000000:{0x18 + index:02X}:00.0",
                energy=1_000_000_000 + index,
            )
        return hardware

    def system(self, **keys: object) -> None:
        """Set keys of the system."""
        self.sections.setdefault("system", {}).update(keys)

    def gpu(self, index: int, **keys: object) -> None:
        """Set keys of one GPU."""
        self.sections.setdefault(f"gpu {index}", {}).update(keys)

    def mig(self, index: int, instance: int, **keys: object) -> None:
        """Set keys of one MIG device; the GPU is partitioned by that."""
        self.gpu(index, mig=1)
        self.sections.setdefault(f"gpu {index} mig {instance}", {}).update(keys)

    def fails(self, function: str, code: int, *, gpu: int | None = None) -> None:
        """Let a function answer an nvmlReturn_t, for one GPU or for all."""
        section = "system" if gpu is None else f"gpu {gpu}"
        self.sections.setdefault(section, {})[f"error.{function}"] = code

    def xid(self, index: int, number: int) -> None:
        """Let an error event happen."""
        self._events += 1
        self.sections[f"event {self._events}"] = {"gpu": index, "xid": number}

    def write(self, script: Path) -> None:
        """Put the script in place at once: the library never sees half of one."""
        lines = []
        for section, keys in self.sections.items():
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in keys.items())]
        fresh = script.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(script)
