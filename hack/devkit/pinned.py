"""From what pip would install to the same with the hashes of constraints.txt; nothing unpinned gets through.

    pip install --dry-run --report - PACKAGE… | python pinned.py constraints.txt    requirements with hashes
    python pinned.py constraints.txt --versions                                     name==version of all

pip takes hashes for everything or for nothing, and constraints.txt holds the tools of development too: the
image needs the part of it that the programs import. Standard library only: it runs while the image is
built.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path


def pins(text: str) -> dict[str, str]:
    """Return the requirement lines of a constraints file by normalised name, hashes included."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    requirements = [line.strip() for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return {_normal(re.split(r"[=\[ ]", line)[0]): line for line in requirements}


def hashed(report: str, constraints: str) -> list[str]:
    """Return the pinned lines for what a pip report installs. Raises LookupError for what has no pin or
    another.
    """
    known = pins(constraints)
    found = []
    for item in json.loads(report)["install"]:
        if item.get("is_direct"):
            continue  # a wheel that was built here
        name, version = _normal(item["metadata"]["name"]), item["metadata"]["version"]
        line = known.get(name, "")
        if f"=={version} " not in line:
            raise LookupError(f"{name} {version} is not what constraints.txt pins: {line[:60] or 'nothing'}")
        found.append(line)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    file = Path(sys.argv[1]).read_text()
    if sys.argv[2:] == ["--versions"]:
        print("\n".join(line.split(" ")[0] for line in pins(file).values()))
    else:
        print("\n".join(hashed(sys.stdin.read(), file)))
