"""`hack/e2e-charts`: the charts and the image on two real clusters, from an empty hub to an empty member.

    hack/e2e-charts                 build the image, then run
    hack/e2e-charts --image FILE    with an image that hack/image has built
    hack/e2e-charts --keep          leave both clusters up when all went well; it says how to end them

Needs root on Linux; elsewhere it says why it does nothing and exits 0.
"""

import argparse
import json
import sys
from pathlib import Path

from devkit.e2e_charts.story import run, why_not
from devkit.errors import DevkitError
from devkit.interrupts import terminate_like_ctrl_c


def main() -> int:
    """Run; return the exit status."""
    terminate_like_ctrl_c()
    parser = argparse.ArgumentParser(
        prog="hack/e2e-charts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="an OCI archive; without it, one is built")
    parser.add_argument("--keep", action="store_true", help="leave the clusters up at the end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if reason := why_not():
        print(f"Skipped: {reason}")
        return 0
    try:
        figures = run(image=options.image, keep=options.keep)
    except DevkitError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; what was started has been ended.", file=sys.stderr)
        return 130
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
