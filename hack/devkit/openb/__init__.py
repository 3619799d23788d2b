"""The openb traces of a real GPU fleet, and other people's ways to pack it, for `hack/bench trace`."""
