"""`python -m fallow`: the same as the command `fallow`."""

from fallow.cli.main import main

main()
