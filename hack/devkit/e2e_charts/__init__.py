"""The charts on real clusters: installed, joined, upgraded under load, rolled back and removed.

`__main__` is the command line, `story` the steps, `checks` what is asserted between them.
"""
