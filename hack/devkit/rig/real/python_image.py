"""An image with the Python that runs now and its standard library: for guests, and for canaries.

The interpreter and the libraries it needs are copied to the places they have on the machine, where it looks
for them. As entry point it runs `fallow canary`, which needs the standard library only.
"""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from devkit.rig.manifests import ROOT
from devkit.rig.real.images import write_image

_LEFT_OUT = {
    "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data",
    "site-packages", "dist-packages", "__pycache__",
}  # fmt: skip
_CODE = "/opt/fallow"
_CANARY = "import sys; from fallow.canary import main; sys.exit(main(sys.argv[2:]))"


def write_python_image(path: Path, name: str, *, busybox: Path) -> Path:
    """Write the image as an OCI archive, with a busybox for shells; return `path`."""
    interpreter = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    files = {str(interpreter): interpreter, "/bin/busybox": busybox}
    files |= {str(file): file for file in _modules(library)}
    extensions = sorted((library / "lib-dynload").glob("*.so"))
    files |= {str(needed): needed for needed in _shared([interpreter, *extensions])}
    package = ROOT / "operator" / "fallow"
    files |= {f"{_CODE}/fallow/{file.relative_to(package)}": file for file in package.glob("*.py")}
    return write_image(
        path,
        name,
        files,
        links={"/bin/python3": str(interpreter), "/bin/sh": "busybox"},
        entrypoint=(str(interpreter), "-c", _CANARY),
        environ={"PYTHONPATH": _CODE, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def _modules(library: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(library):
        names[:] = [name for name in names if name not in _LEFT_OUT and not name.startswith("config-")]
        for file in files:
            if file.endswith((".py", ".so")):
                yield Path(directory) / file


def _shared(programs: list[Path]) -> set[Path]:
    """Return the shared libraries that programs need, the loader among them."""
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    return {Path(found) for found in re.findall(r"(/\S+\.so[\d.]*) \(0x", told)}
