"""Deploying an escrow with its disputes module: what it takes, and what a real chain demands.

A chain that is not known to be a test's is taken for one with money on it: there the owner and the
arbiter have to be contracts (multisigs), and an audit has to be named. Pure but for `deploy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from fallow.errors import InvalidSetting
from fallow.receipts.words import ZERO_ADDRESS, checksummed
from fallow.settler.abi import artifact
from fallow.settler.escrow import Contract, Escrow, EscrowConfig, create
from fallow.settler.rpc import Rpc

TEST_CHAINS = frozenset(
    {
        1337, 31337,  # development nodes
        11155111, 17000, 560048,  # Sepolia, Holesky, Hoodi
        84532, 421614, 11155420, 80002, 97, 43113, 10200, 59141,  # test nets of Base, Arbitrum, Optimism, …
    }
)  # fmt: skip
"""Chains whose coins are worth nothing. Every other is taken for a main net."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeConfig:
    """The disputes module's parameters; durations in seconds, amounts in smallest units."""

    arbiter: str
    beneficiary: str
    minimum_bond: int
    bond_basis_points: int
    reveal_seconds: int
    arbitration_seconds: int
    unbonding_seconds: int

    def as_tuple(self, escrow: str) -> tuple[Any, ...]:
        """Return the constructor's struct."""
        return (
            checksummed(escrow),
            checksummed(self.arbiter),
            checksummed(self.beneficiary),
            self.minimum_bond,
            self.bond_basis_points,
            self.reveal_seconds,
            self.arbitration_seconds,
            self.unbonding_seconds,
        )


async def refuse_carelessness(
    rpc: Rpc, *, chain_id: int, owner: str, arbiter: str, audit: str | None
) -> None:
    """Raise InvalidSetting for a deployment to a chain with real money that lacks what protects it."""
    if chain_id in TEST_CHAINS:
        return
    said = f"Chain {chain_id} is no test chain that this version knows, so"
    if not audit:
        raise InvalidSetting(f"{said} --audit has to name the audit of these contracts (a URL or a hash).")
    for flag, address in (("--owner", owner), ("--arbiter", arbiter)):
        if address == ZERO_ADDRESS or not await rpc.has_code(address):
            raise InvalidSetting(
                f"{said} {flag} has to be a multisig: {address} is no contract there. Deploy a multisig "
                "wallet first and name its address."
            )
    if checksummed(owner) == checksummed(arbiter):
        raise InvalidSetting(f"{said} --owner and --arbiter have to be two multisigs, not one.")


async def deploy(
    rpc: Rpc, config: EscrowConfig, disputes: DisputeConfig, *, key: LocalAccount
) -> tuple[Escrow, Contract, bool]:
    """Deploy escrow and disputes module; the third value says whether they are attached.

    Attaching is the owner's call: where the deploying key is not the owner, the owner still has to
    make it, before the first epoch.
    """
    escrow = await Escrow.deploy(rpc, config, key=key)
    module = artifact("FallowDisputes")
    code = module.creation(disputes.as_tuple(escrow.address))
    contract = Contract(rpc, await create(rpc, code, key=key), module)
    if checksummed(config.owner) != key.address:
        return escrow, contract, False
    await escrow.write("attachDisputes", contract.address, key=key)
    return escrow, contract, True
