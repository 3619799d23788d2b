"""hack/bench NAME --json FILE: one benchmark, its figures as JSON; without a name, which there are."""

import sys

from devkit import benches, named

if __name__ == "__main__":
    sys.exit(named.main(benches, sys.argv[1:], program="hack/bench", all_without_name=False))
