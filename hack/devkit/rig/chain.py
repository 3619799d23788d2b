"""The chain of a rig: anvil, a test token, the escrow, a payer with money in it and registered payees."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from devkit.errors import RigError
from devkit.rig.artifacts import Artifact
from devkit.rig.keys import KeyFile, new_key, new_key_file
from devkit.rig.planes import plain_environment
from devkit.rig.ports import Ports
from devkit.rig.record import Rig
from devkit.rig.rpc import Rpc
from devkit.toolchain import contracts_toolchain
from fallow.receipts.messages import PayeeRegistration
from fallow.receipts.typed_data import Domain, sign

CHAIN_ID = 31337
TOKEN_SYMBOL = "TUSD"
TOKEN_DECIMALS = 6
UNIT = 10**TOKEN_DECIMALS
DEPOSIT = 1_000_000 * UNIT
CAP = 100_000 * UNIT
DISPUTE_WINDOW_SECONDS = 3600
BLOCK_SECONDS = 1
READY_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A chain that is set up."""

    rpc: Rpc
    hub_id: bytes
    token: str
    escrow: str
    owner: LocalAccount
    disputes: str
    arbiter: LocalAccount
    payer: LocalAccount
    operator: KeyFile
    revealer: KeyFile
    """Answers disputes: gas, and no rights."""
    payees: dict[str, LocalAccount]
    """By provider."""

    @property
    def domain(self) -> Domain:
        """What signatures for this escrow are made for."""
        return Domain(chain_id=CHAIN_ID, escrow=self.escrow, hub_id=self.hub_id)

    def record(self) -> dict[str, Any]:
        """Return the chain's part of rig.json. The keys are worth nothing outside this rig."""
        return {
            "rpc": self.rpc.url,
            "chain_id": CHAIN_ID,
            "hub_id": "0x" + self.hub_id.hex(),
            "token": self.token,
            "escrow": self.escrow,
            "disputes": self.disputes,
            "arbiter": self.arbiter.address,
            "arbiter_key": _hex(self.arbiter),
            "payer": self.payer.address,
            "payer_key": _hex(self.payer),
            "owner": self.owner.address,
            "owner_key": _hex(self.owner),
            "operator": self.operator.account.address,
            "operator_key": _hex(self.operator.account),
            "payees": {
                name: {"address": account.address, "key": _hex(account)}
                for name, account in self.payees.items()
            },
        }


def start(rig: Rig, *, hub_id: bytes, ports: Ports) -> Chain:
    """Start anvil and set all up on it; the chain then makes a block every second.

    Raises RigError when anvil does not come up or a transaction fails.
    """
    rpc = _start_anvil(rig, ports)
    keys = rig.state / "keys"
    owner, payer, arbiter = new_key(), new_key(), new_key()
    operator, revealer = new_key_file(keys, "operator"), new_key_file(keys, "revealer")
    for account in (owner, payer, arbiter, operator.account, revealer.account):
        rpc.give(account.address, ether=1000)
    token = rpc.deploy(owner, Artifact.of("TestToken").bytecode)
    config = {
        "token": token,
        "hubId": hub_id,
        "owner": owner.address,
        "operator": operator.account.address,
        "guardian": owner.address,
        "feeCollector": owner.address,
        "maxFeeBasisPoints": 500,
        "noticePeriod": 3600,
        "payeeDelay": 0,  # payees are paid from their registration on: nobody waits a day for a demonstration
        "disputeWindow": DISPUTE_WINDOW_SECONDS,
    }
    contract = Artifact.of("FallowEscrow")
    types, values = contract.constructor_arguments(config)
    escrow = rpc.deploy(owner, contract.bytecode, types, *values)
    disputes = _attach_disputes(rpc, escrow, owner=owner, arbiter=arbiter)
    rpc.send(owner, token, "mint(address,uint256)", payer.address, 2 * DEPOSIT)
    rpc.send(payer, token, "approve(address,uint256)", escrow, DEPOSIT)
    rpc.send(payer, escrow, "deposit(address,uint96)", payer.address, DEPOSIT)
    rpc.send(payer, escrow, "bind(uint96,uint24)", CAP, 0)
    chain = Chain(
        rpc=rpc,
        hub_id=hub_id,
        token=token,
        escrow=escrow,
        owner=owner,
        disputes=disputes,
        arbiter=arbiter,
        payer=payer,
        operator=operator,
        revealer=revealer,
        payees={name: new_key() for name in rig.members},
    )
    for payee in chain.payees.values():
        _register(chain, payee)
    rpc.call("evm_setAutomine", False)
    rpc.call("evm_setIntervalMining", BLOCK_SECONDS)
    return chain


def credits_and_debits(
    rig: Rig, *, payees: Iterable[str], payers: Iterable[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Read back what each payee was credited and each payer debited, ever, in the token's smallest unit.

    From the escrow alone: a credit is what is owed plus what was withdrawn, a debit what was deposited less
    what is left and what was withdrawn. Addresses come back in lower case.
    """
    assert rig.chain is not None, "a rig in ledger mode has no chain to read"
    rpc, escrow = Rpc(int(rig.chain["rpc"].rsplit(":", 1)[1])), rig.chain["escrow"]

    def credited(payee: str) -> int:
        owed = _field(rpc, escrow, "creditsOf", payee, "owed")
        return owed + rpc.sum_of_events(escrow, "CreditsWithdrawn(address,uint256)", first_topic=payee)

    def debited(payer: str) -> int:
        balance = _field(rpc, escrow, "payerOf", payer, "balance")
        withdrawn = rpc.sum_of_events(escrow, "Withdrawn(address,uint256)", first_topic=payer)
        deposited = rpc.sum_of_events(escrow, "Deposited(address,address,uint256)", first_topic=payer)
        return deposited - withdrawn - balance

    return (
        {payee.lower(): credited(payee) for payee in payees},
        {payer.lower(): debited(payer) for payer in payers},
    )


def _field(rpc: Rpc, escrow: str, view: str, address: str, field: str) -> int:
    """Read one field of what a view of the escrow says about an address."""
    types, names = Artifact.of("FallowEscrow").outputs(view)
    return int(rpc.read(escrow, f"{view}(address)", types, address)[names.index(field)])


def _start_anvil(rig: Rig, ports: Ports) -> Rpc:
    directory = rig.state / "chain"
    directory.mkdir()
    port = ports.hold()
    command = [
        str(contracts_toolchain().anvil),
        "--host=127.0.0.1",
        f"--port={port}",
        f"--chain-id={CHAIN_ID}",
        "--accounts=0",  # anvil's own have keys that everybody knows
        f"--state={directory / 'state.json'}",
    ]
    ports.release(port)
    rig.processes.start("anvil", command, environ=plain_environment())
    rpc = Rpc(port)
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            rpc.chain_id()
        except OSError:
            rig.processes.check("anvil")
            if time.monotonic() > deadline:
                raise RigError(
                    f"anvil does not answer; its log is {rig.processes.log_of('anvil')}."
                ) from None
            time.sleep(0.02)
        else:
            return rpc


def _attach_disputes(rpc: Rpc, escrow: str, *, owner: LocalAccount, arbiter: LocalAccount) -> str:
    """Deploy the disputes contract, with periods of minutes, and attach it before the first epoch."""
    config = {
        "escrow": escrow,
        "arbiter": arbiter.address,
        "beneficiary": "0x" + 40 * "0",  # what is slashed is nobody's here
        "minimumBond": 10 * UNIT,
        "bondBasisPoints": 100,
        "revealPeriod": 600,
        "arbitrationPeriod": 600,
        "unbondingPeriod": 2 * DISPUTE_WINDOW_SECONDS + 1201,
    }
    contract = Artifact.of("FallowDisputes")
    types, values = contract.constructor_arguments(config)
    disputes = rpc.deploy(owner, contract.bytecode, types, *values)
    rpc.send(owner, escrow, "attachDisputes(address)", disputes)
    return disputes


def _register(chain: Chain, payee: LocalAccount) -> None:
    """Register a payee by its own signature, sent by somebody else."""
    now = int(chain.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    consent = PayeeRegistration(payee=payee.address, deadline=now + 3600)
    signature = bytes.fromhex(sign(chain.domain, consent, key=payee).removeprefix("0x"))
    arguments = (payee.address, consent.deadline, signature)
    chain.rpc.send(chain.owner, chain.escrow, "registerPayee(address,uint64,bytes)", *arguments)


def _hex(account: LocalAccount) -> str:
    return "0x" + bytes(account.key).hex()
