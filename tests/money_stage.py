"""A stage for scenarios about money on a real chain: escrow, disputes, everybody's keys, and an operator
that settles what it is told, honest or not.

Everything runs through the same typed calls that the settler and the command line use. A scenario may
take back what it did (`rewound`), so that one deployment serves many.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anvil_chain
import money_terms as money
from anvil_chain import DEPLOYER
from fallow.cli.deploying import DisputeConfig
from fallow.cli.deploying import deploy as deploy_both
from fallow.receipts.epochs import Epoch, Line, pack_lines
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import ZERO_ADDRESS, keccak
from fallow.settler.archive import Archive
from fallow.settler.archive_directory import DirectoryStore
from fallow.settler.bundle import Bundle
from fallow.settler.claim_checks import CheckedClaim, Money, check_claim
from fallow.settler.disputes import Dispute, Disputes
from fallow.settler.escrow import Escrow, EscrowConfig, Token
from fallow.settler.faults import Faults
from fallow.settler.leaves import EpochLeaves
from fallow.settler.rpc import Rpc

DAY = 86_400
NOTICE = 3 * DAY
PAYEE_DELAY = DAY
WINDOW = 2 * DAY
REVEAL = DAY
ARBITRATION = 3 * DAY
UNBONDING = 2 * WINDOW + REVEAL + ARBITRATION + 1
BOND = 5_000_000
CAP = 1_000_000_000
INTERVAL = 300
DEPOSIT = 10_000_000_000
STAKE = 500_000_000
PEOPLE = ("payer", "payer2", "payee", "payee2", "operator", "arbiter", "guardian", "stranger", "operator2")


@dataclass(frozen=True)
class Paid:
    """A claim to be: so many seconds of a 1.80-an-hour task. The same placement is the same claim id."""

    seconds: int = 3600
    payer: str = "payer"
    payee: str = "payee"
    placement: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def amount(self) -> int:
        """What it costs, in smallest units."""
        return self.seconds * 500


@dataclass
class Stage:
    """One deployment."""

    rpc: Rpc
    token: Token
    escrow: Escrow
    disputes: Disputes
    domain: Domain
    archive: Path
    epochs: int = 0
    commitment: bytes = b""

    async def rewind(self, snapshot: Any) -> None:
        """Take the chain back to a snapshot."""
        await self.rpc.w3.provider.make_request("evm_revert", [snapshot])

    @asynccontextmanager
    async def rewound(self) -> AsyncIterator[Stage]:
        """Let a scenario happen, then take it all back."""
        before = self.epochs, self.commitment
        answer = await self.rpc.w3.provider.make_request("evm_snapshot", [])
        try:
            yield self
        finally:
            await self.rewind(answer["result"])
            self.epochs, self.commitment = before

    async def later(self, seconds: int) -> None:
        """Let time pass."""
        await self.rpc.w3.provider.make_request("evm_increaseTime", [seconds])
        await self.rpc.w3.provider.make_request("evm_mine", [])

    def bundle(self, *claims: Paid) -> Bundle:
        """Return the bundle of the next epoch, as an honest settler makes it."""
        checked = [self._checked(one) for one in claims]
        epoch = Epoch.of(
            [one.claim for one in checked], domain=self.domain, number=self.epochs + 1,
            previous_commitment=self.commitment, salt_key=b"s" * 32,
        )  # fmt: skip
        return Bundle.make(epoch, checked, money=self._money)

    async def settle(self, *claims: Paid, interval: bool = True) -> EpochLeaves:
        """Settle claims as one epoch, and archive it."""
        if interval:
            await self.later(INTERVAL)
        bundle = self.bundle(*claims)
        await self.settle_lines(bundle.lines, bundle=bundle)
        await Archive(DirectoryStore(self.archive, faults=Faults())).write(bundle)
        return EpochLeaves(bundle)

    async def settle_lines(self, lines: Sequence[Line], *, bundle: Bundle | None = None) -> None:
        """Settle any lines, with the roots of `bundle` or of nothing."""
        roots = (keccak(b"c"), keccak(b"a"), keccak(b"b"))
        if bundle is not None:
            told = bundle.settlement
            roots = (told.claims_root, told.allocations_root, told.bundle_hash)
        arguments = (self.epochs + 1, self.commitment, pack_lines(lines), *roots)
        await self.escrow.write("settle", *arguments, key=money.key("operator"))
        self.epochs += 1
        self.commitment = await self.escrow.commitment(self.epochs)

    async def stands(self, leaves: EpochLeaves, line: int = 0) -> Dispute:
        """Return how a line's dispute stands."""
        return await self.disputes.dispute(leaves.bundle.settlement.epoch, line)

    async def freeze(self, leaves: EpochLeaves, amount: int, *, line: int = 0, who: str = "payer") -> None:
        """Freeze as a payer; the bond is approved already."""
        arguments = (leaves.header, leaves.lines, line, amount)
        await self.disputes.write("freeze", *arguments, key=money.key(who))

    async def reveal(self, leaves: EpochLeaves, *, line: int = 0, who: str = "operator") -> None:
        """Reveal all of a line."""
        some = [leaves.leaf(index) for index in leaves.claims_of_line(line)]
        await self.disputes.write("reveal", leaves.header, line, some, key=money.key(who))

    async def rule(self, leaves: EpochLeaves, *rejected: bytes, line: int = 0, who: str = "arbiter") -> None:
        """Rule as the arbiter."""
        epoch = leaves.bundle.settlement.epoch
        await self.disputes.write("rule", epoch, line, list(rejected), key=money.key(who))

    async def conclude(self, leaves: EpochLeaves, *, line: int = 0) -> None:
        """End a dispute whose deadline has passed, as a stranger."""
        epoch = leaves.bundle.settlement.epoch
        await self.disputes.write("conclude", epoch, line, key=money.key("stranger"))

    async def balance(self, payer: str = "payer") -> int:
        """Return what a payer has in the escrow."""
        return (await self.escrow.payer(money.address(payer))).balance

    async def owed(self, payee: str = "payee") -> int:
        """Return what a payee is owed."""
        return (await self.escrow.credits_of(money.address(payee))).owed

    async def staked(self, account: str) -> int:
        """Return an account's stake; "hub" is the hub's."""
        address = self.escrow.address if account == "hub" else money.address(account)
        return int((await self.disputes.read("stakeOf", address))[0][0])

    async def collectable(self, who: str) -> int:
        """Return what came back to somebody from disputes."""
        return int((await self.disputes.read("collectable", money.address(who)))[0])

    @property
    def _money(self) -> Money:
        return Money(domain=self.domain, token=self.token.address, decimals=money.DECIMALS)

    def _checked(self, paid: Paid) -> CheckedClaim:
        terms = money.some_terms(
            self.domain,
            token=self.token.address,
            account=money.an_account(self.domain, payer=paid.payer),
            quote=money.a_quote(self.domain, payee=paid.payee),
        )
        spec = money.a_claim([f"0:0:{paid.seconds}:S:"], terms=terms, placement_uid=paid.placement)
        meta = {
            "namespace": "provider-aurora", "name": f"claim-{paid.placement[:8]}", "uid": str(uuid.uuid4()),
            "creationTimestamp": timestamp(1_800_000_000),
        }  # fmt: skip
        return check_claim({"metadata": meta, "spec": spec.wire()}, money=self._money)


async def set_up(rpc: Rpc, archive: Path, *, token: str | None = None) -> Stage:
    """Deploy everything, fund payers, register payees, stake, and stand at the start of a window."""
    for name in PEOPLE:
        await anvil_chain.give_gas(rpc, money.address(name))
    test_token = await Token.deploy(rpc, key=DEPLOYER) if token is None else Token(rpc, token)
    config = EscrowConfig(
        token=test_token.address, hub_id=money.HUB_ID, owner=DEPLOYER.address,
        operator=money.address("operator"), guardian=money.address("guardian"),
        notice_seconds=NOTICE, payee_delay_seconds=PAYEE_DELAY, dispute_window_seconds=WINDOW,
    )  # fmt: skip
    terms = DisputeConfig(
        arbiter=money.address("arbiter"), beneficiary=ZERO_ADDRESS, minimum_bond=BOND, bond_basis_points=500,
        reveal_seconds=REVEAL, arbitration_seconds=ARBITRATION, unbonding_seconds=UNBONDING,
    )  # fmt: skip
    escrow, module, attached = await deploy_both(rpc, config, terms, key=DEPLOYER)
    assert attached
    domain = await escrow.domain()
    stage = Stage(
        rpc, test_token, escrow, Disputes(rpc, module.address), domain, archive,
        commitment=await escrow.commitment(0),
    )  # fmt: skip
    for name in ("payer", "payer2"):
        payer = money.key(name)
        await test_token.mint(payer.address, DEPOSIT + STAKE, key=DEPLOYER)
        await escrow.deposit(DEPOSIT, key=payer)
        await escrow.bind(cap=CAP, min_interval_seconds=INTERVAL, key=payer)
        await test_token.approve(module.address, STAKE, key=payer)
    for name in ("payee", "payee2"):
        await escrow.register_payee(money.key(name), sender=DEPLOYER)
    await test_token.mint(DEPLOYER.address, 2 * STAKE, key=DEPLOYER)
    await test_token.approve(module.address, 2 * STAKE, key=DEPLOYER)
    for account in (escrow.address, money.address("payee")):
        await stage.disputes.write("stake", account, STAKE, key=DEPLOYER)
    now = await rpc.block_time()
    await stage.later(PAYEE_DELAY + WINDOW - (now + PAYEE_DELAY) % WINDOW)
    return stage


async def found(rpc: Rpc, escrow: str, archive: Path) -> Stage:
    """Return the stage as a later process finds it."""
    contract = Escrow(rpc, escrow)
    module = await Disputes.of(contract)
    assert module is not None
    head = await contract.head()
    return Stage(
        rpc, await contract.token(), contract, module, await contract.domain(), archive,
        epochs=head.last_epoch, commitment=head.commitment,
    )  # fmt: skip


def line(amount: int, *, payer: str = "payer", payee: str = "payee") -> Line:
    """A line between two of the people."""
    return Line(money.address(payer), money.address(payee), amount)
