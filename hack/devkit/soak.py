"""hack/soak [NAME] --json FILE: whatever runs for long; without a name all of it, one after the other."""

import sys

from devkit import named, soaks

if __name__ == "__main__":
    sys.exit(named.main(soaks, sys.argv[1:], program="hack/soak", all_without_name=True))
