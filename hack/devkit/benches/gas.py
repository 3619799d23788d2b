"""What the escrow costs: gas of settling, depositing and withdrawing, as receipts of real transactions say.

A throw-away anvil mines each transaction; `gasUsed` includes calldata and the 21,000 that every
transaction costs. Steady state means: every slot that is touched is non-zero before. A claim costs
what its epoch costs divided by their number: claims enter by two roots, lines by their bytes.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from devkit import contracts
from devkit.errors import DevkitError
from devkit.rig.rpc import Rpc
from devkit.toolchain import contracts_toolchain
from fallow.receipts.epochs import Line, commitment, genesis_commitment, pack_lines
from fallow.receipts.messages import PayeeRegistration, Settlement
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import address_bytes, keccak

CHAIN_ID = 31337
HUB_ID = keccak(b"gas bench")
WINDOW_SECONDS = 3 * 86_400
NOTICE_SECONDS = 86_400
GOALS = {
    "per_claim_1000": 260,
    "per_claim_1000_20_lines": 210,
    "epoch_of_one": 75_000,
    "withdraw": 50_000,
    "deposit": 55_000,
}
_START = (1_900_000_000 // WINDOW_SECONDS + 1) * WINDOW_SECONDS
_CONFIG = "(address,bytes32,address,address,address,address,uint16,uint32,uint32,uint32)"
_NO_LIMIT = 2**96 - 1
_CLAIMS = 1000


def run() -> dict[str, Any]:
    """Measure with a plain ERC-20 and with one behind a proxy. Raises DevkitError when a call fails."""
    if contracts.forge("build", "src", "test/tokens", quiet=True).returncode:
        raise DevkitError("The contracts do not compile: run `python -m devkit.contracts`.")
    with _anvil() as rpc:
        plain = _measure(rpc, proxy=False)
    with _anvil() as rpc:
        proxy = _measure(rpc, proxy=True)
    steady = plain["steady"]
    return {
        **{name: steady[name] for name in GOALS},
        "goals": GOALS,
        "missed": sorted(name for name, goal in GOALS.items() if steady[name] > goal),
        "plain": plain,
        "proxy": proxy,
    }


@contextmanager
def _anvil() -> Iterator[Rpc]:
    """Run an anvil that mines each transaction at once, from a fixed moment on, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(contracts_toolchain().anvil), "--host=127.0.0.1", f"--port={port}", "--accounts=0"]
    command += [f"--chain-id={CHAIN_ID}", f"--timestamp={_START + 60}"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            if not any(line.startswith("Listening on") for line in process.stdout):
                raise DevkitError("anvil ended before it listened.")
            yield Rpc(port)
        finally:
            process.kill()
            process.communicate()


@dataclass
class _Bench:
    """One escrow with 10 payers and 10 payees, and the chain of its epochs."""

    rpc: Rpc
    owner: LocalAccount
    token: str
    escrow: str
    payers: list[LocalAccount]
    payees: list[LocalAccount]
    seed: random.Random
    epoch: int = 0
    previous: bytes = field(default=b"")

    def send(self, sender: LocalAccount, to: str, signature: str, *arguments: Any) -> int:
        """Send a call and return the gas that it used."""
        return int(self.rpc.send(sender, to, signature, *arguments)["gasUsed"], 16)

    def settle(self, lines: list[Line]) -> int:
        """Settle the next epoch with these lines; return its gas."""
        packed = pack_lines(
            sorted(lines, key=lambda line: (address_bytes(line.payer), address_bytes(line.payee)))
        )
        roots = [self.seed.randbytes(32) for _ in range(3)]
        settlement = Settlement(
            epoch=self.epoch + 1,
            previous_commitment=self.previous,
            lines_hash=keccak(packed),
            claims_root=roots[0],
            allocations_root=roots[1],
            bundle_hash=roots[2],
        )
        signature = "settle(uint64,bytes32,bytes,bytes32,bytes32,bytes32)"
        gas = self.send(self.owner, self.escrow, signature, self.epoch + 1, self.previous, packed, *roots)
        self.epoch, self.previous = self.epoch + 1, commitment(settlement)
        return gas

    def lines(self, per_payer: int) -> list[Line]:
        """Return `per_payer` lines of each payer, spread evenly over the payees; 1 to 1000 tokens each."""
        return [
            Line(payer.address, self.payees[(index + step) % 10].address, self.seed.randrange(10**6, 10**9))
            for index, payer in enumerate(self.payers)
            for step in range(per_payer)
        ]

    def one(self) -> list[Line]:
        """Return the line of an epoch of one claim."""
        return [Line(self.payers[0].address, self.payees[0].address, self.seed.randrange(10**6, 10**9))]

    def pass_time(self, seconds: int) -> None:
        """Let time pass on the chain."""
        self.rpc.call("evm_increaseTime", seconds)
        self.rpc.call("evm_mine")


def _measure(rpc: Rpc, *, proxy: bool) -> dict[str, dict[str, float]]:
    seed = random.Random(1)
    owner, *others = (Account.from_key(seed.randbytes(32)) for _ in range(21))
    for account in (owner, *others):
        rpc.give(account.address, ether=1000)
    token = rpc.deploy(owner, _bytecode("TestToken"))
    if proxy:
        token = rpc.deploy(owner, _bytecode("ProxyToken"), "(address)", token)
    who = owner.address
    terms = (token, HUB_ID, who, who, who, "0x" + 40 * "0", 0, NOTICE_SECONDS, 0, WINDOW_SECONDS)
    escrow = rpc.deploy(owner, _bytecode("FallowEscrow"), _CONFIG, *terms)
    domain = Domain(chain_id=CHAIN_ID, escrow=escrow, hub_id=HUB_ID)
    bench = _Bench(
        rpc=rpc, owner=owner, token=token, escrow=escrow, payers=others[:10], payees=others[10:], seed=seed,
        previous=genesis_commitment(domain),
    )  # fmt: skip
    first = _set_up(bench, domain)
    steady: dict[str, float] = {}

    first["per_claim_1000"] = bench.settle(bench.lines(10)) / _CLAIMS
    steady["per_claim_1000"] = bench.settle(bench.lines(10)) / _CLAIMS
    steady["per_claim_1000_20_lines"] = bench.settle(bench.lines(2)) / _CLAIMS
    steady["epoch_of_one"] = bench.settle(bench.one())
    # As `fallow chain deposit` does it: approve exactly what is deposited.
    bench.send(bench.payers[0], token, "approve(address,uint256)", escrow, 10**9)
    steady["deposit"] = _deposit(bench, 10**9)
    bench.send(bench.payers[0], token, "approve(address,uint256)", escrow, 10**12)
    steady["deposit_from_a_larger_allowance"] = _deposit(bench, 10**9)
    bench.send(bench.payers[0], token, "approve(address,uint256)", escrow, 2**256 - 1)
    steady["deposit_from_an_unlimited_allowance"] = _deposit(bench, 10**9)

    bench.pass_time(WINDOW_SECONDS)
    first["per_claim_1000_in_a_new_window"] = bench.settle(bench.lines(10)) / _CLAIMS
    bench.pass_time(WINDOW_SECONDS)
    first["epoch_of_one_in_a_new_window"] = bench.settle(bench.one())
    bench.settle(bench.lines(10))
    # Has matured credits, rests some, was credited in this window, and holds no token yet.
    first["withdraw"] = bench.send(bench.payees[0], escrow, "withdrawCredits()")
    bench.pass_time(WINDOW_SECONDS)
    # The first to come in its window: its credits have to be aged by itself.
    steady["withdraw_before_any_credit_of_the_window"] = bench.send(
        bench.payees[0], escrow, "withdrawCredits()"
    )
    bench.pass_time(WINDOW_SECONDS)
    bench.settle(bench.lines(10))
    bench.pass_time(WINDOW_SECONDS)
    bench.settle(bench.lines(10))
    steady["withdraw"] = bench.send(bench.payees[0], escrow, "withdrawCredits()")
    payer = bench.payers[0]
    first["notice"] = bench.send(payer, escrow, "giveWithdrawalNotice(uint96)", 10**8)
    bench.pass_time(NOTICE_SECONDS)
    steady["withdraw_by_payer"] = bench.send(payer, escrow, "withdraw()")
    return {"steady": steady, "first_time": first}


def _set_up(bench: _Bench, domain: Domain) -> dict[str, float]:
    """Fund and bind the payers, register the payees; return what it costs the first time."""
    first: dict[str, float] = {}
    for payer in bench.payers:
        bench.rpc.send(bench.owner, bench.token, "mint(address,uint256)", payer.address, 10**13)
        bench.rpc.send(payer, bench.token, "approve(address,uint256)", bench.escrow, 10**12)
        first["deposit"] = _deposit(bench, 10**12, payer)
        first["bind"] = bench.send(payer, bench.escrow, "bind(uint96,uint24)", _NO_LIMIT, 0)
    deadline = _START + WINDOW_SECONDS
    for payee in bench.payees:
        consent = PayeeRegistration(payee=payee.address, deadline=deadline)
        signature = bytes.fromhex(sign(domain, consent, key=payee).removeprefix("0x"))
        first["register_payee"] = bench.send(
            bench.owner,
            bench.escrow,
            "registerPayee(address,uint64,bytes)",
            payee.address,
            deadline,
            signature,
        )
    return first


def _deposit(bench: _Bench, amount: int, payer: LocalAccount | None = None) -> int:
    payer = payer or bench.payers[0]
    return bench.send(payer, bench.escrow, "deposit(address,uint96)", payer.address, amount)


def _bytecode(contract: str) -> str:
    built = contracts.CONTRACTS / "out" / f"{contract}.sol" / f"{contract}.json"
    return str(json.loads(Path(built).read_text())["bytecode"]["object"])
