"""The `fallow` command, which kubectl also finds as `kubectl fallow`."""
