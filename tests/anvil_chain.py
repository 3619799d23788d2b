"""A real chain for tests: one anvil process on 127.0.0.1, and an escrow on it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

import money_terms as money
from devkit.toolchain import contracts_toolchain
from fallow.cli.deploying import DisputeConfig
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import ZERO_ADDRESS
from fallow.settler.disputes import Disputes, module
from fallow.settler.escrow import Escrow, EscrowConfig, Token, create
from fallow.settler.rpc import Rpc

# anvil's first account, funded on every start; public, and worthless anywhere else.
DEPLOYER: LocalAccount = Account.from_key(
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
)
CHAIN_ID = 31337


@dataclass(frozen=True)
class Anvil:
    """A running anvil."""

    url: str
    pid: int


@contextmanager
def anvil(log: Path, *arguments: str, port: int = 0) -> Iterator[Anvil]:
    """Run anvil until the block ends; it mines each transaction at once unless told otherwise.

    `port` 0 takes any that is free. One that was killed and runs again on its port is the same chain
    only if the arguments say where its state is.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    command = [str(contracts_toolchain().anvil), "--host", "127.0.0.1", "--port", str(port), *arguments]
    with log.open("w") as output:
        # NB: never a pipe that nobody reads: anvil would stop at the moment it is full.
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            while "Listening on" not in log.read_text():
                if process.poll() is not None:
                    raise RuntimeError(f"anvil ended at once: {log.read_text()}")
                time.sleep(0.02)
            yield Anvil(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Deployment:
    """An escrow with its token, for the keys of `money_terms`."""

    escrow: Escrow
    token: Token
    domain: Domain


async def deploy(
    rpc: Rpc,
    *,
    hub_id: bytes = money.HUB_ID,
    operator: str = money.address("operator"),
    dispute_window_seconds: int = 1,
) -> Deployment:
    """Deploy token and escrow for a hub, with gas to spend for its operator."""
    token = await Token.deploy(rpc, key=DEPLOYER)
    escrow = await Escrow.deploy(
        rpc,
        EscrowConfig(
            token=token.address,
            hub_id=hub_id,
            owner=DEPLOYER.address,
            operator=operator,
            guardian=DEPLOYER.address,
            notice_seconds=3600,
            payee_delay_seconds=0,
            dispute_window_seconds=dispute_window_seconds,
        ),
        key=DEPLOYER,
    )
    await give_gas(rpc, operator)
    return Deployment(escrow, token, await escrow.domain())


async def attach_disputes(rpc: Rpc, deployment: Deployment) -> Disputes:
    """Attach disputes to an escrow that has settled nothing yet; key "arbiter" rules."""
    config = DisputeConfig(
        arbiter=money.address("arbiter"), beneficiary=ZERO_ADDRESS, minimum_bond=5_000_000,
        bond_basis_points=100, reveal_seconds=3600, arbitration_seconds=3600, unbonding_seconds=10 * 86_400,
    )  # fmt: skip
    code = module().creation(config.as_tuple(deployment.escrow.address))
    disputes = Disputes(rpc, await create(rpc, code, key=DEPLOYER))
    await deployment.escrow.write("attachDisputes", disputes.address, key=DEPLOYER)
    for name in ("arbiter", "revealer", "payer", "stranger"):
        await give_gas(rpc, money.address(name))
    return disputes


async def give_gas(rpc: Rpc, account: str) -> None:
    """Give an account 100 ether by anvil's own method."""
    await rpc.w3.provider.make_request("anvil_setBalance", [account, hex(100 * 10**18)])


async def fund(
    rpc: Rpc, deployment: Deployment, payer: LocalAccount, amount: int, *, cap: int = 2**96 - 1
) -> None:
    """Mint, deposit and bind for `payer`."""
    await give_gas(rpc, payer.address)
    await deployment.token.mint(payer.address, amount, key=DEPLOYER)
    await deployment.escrow.deposit(amount, key=payer)
    await deployment.escrow.bind(cap=cap, min_interval_seconds=0, key=payer)
