"""The programs that Fallow is developed with: pinned, built or installed once, kept in a cache.

    programs = ensure("kube-apiserver", "etcd")     # {"kube-apiserver": Path, "etcd": Path}
    contracts = contracts_toolchain()               # forge, anvil, solc, openzeppelin

Control planes come from Go modules (`programs`), the contract tools from npm (`npm`); Go and Node
themselves from PATH or PyPI (`runtimes`). `cache` knows where all of it lies and who may write.
"""

from devkit.toolchain.npm import ContractsToolchain, contracts_toolchain
from devkit.toolchain.pins import CONTROL_PLANES, PROGRAMS, REAL_NODES
from devkit.toolchain.programs import ensure

__all__ = ["CONTROL_PLANES", "PROGRAMS", "REAL_NODES", "ContractsToolchain", "contracts_toolchain", "ensure"]
