"""The developer's kit: everything behind the executables in hack/.

`bootstrap` makes the virtual environment, `toolchain` builds the programs, `rig` runs real control
planes with them, `benches` and `soaks` measure. Nothing here is part of the product.
"""
