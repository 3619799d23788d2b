"""One table of what can happen to money, played on a real chain and, where the thing exists, in a ledger.

The same sentences as the Foundry suites, here through the typed calls that settler and command line
use. In a ledger the books are one party's: what has no meaning there says why not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from eth_abi.abi import encode

import anvil_chain
import money_stage
import money_terms as money
from anvil_chain import DEPLOYER
from devkit.contracts import TOKENS_FILE
from fallow.receipts.typed_data import SignatureError
from fallow.receipts.words import keccak
from fallow.settler.disputes import Status
from fallow.settler.escrow import Escrow, EscrowConfig, Token, create, send
from fallow.settler.refusals import (
    ArchiveDamaged,
    ClaimRefused,
    EscrowRefused,
    PayerRefused,
    TransactionFailed,
)
from fallow.settler.rpc import Rpc
from money_ledger import CREDIT, Ledger
from money_stage import (
    ARBITRATION,
    BOND,
    CAP,
    DAY,
    DEPOSIT,
    INTERVAL,
    NOTICE,
    PAYEE_DELAY,
    REVEAL,
    STAKE,
    UNBONDING,
    WINDOW,
    Paid,
    Stage,
    line,
)

OnChain = Callable[[Stage], Awaitable[None]]
InLedger = Callable[[Ledger], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """What happens, played on a chain and, unless that is a reason why not, in a ledger."""

    on_chain: OnChain
    in_ledger: InLedger | str


TABLE: dict[str, Scenario] = {}
_NO_ESCROW = "nobody holds deposits: credit is a limit, not money"
_NO_DISPUTES = "the books are one party's: people talk, and a correction is a claim of its own"
_NO_TOKEN = "no token moves"
_NO_ROLES = "one key signs the books; another key is another ledger"


def scenario(sentence: str, *, in_ledger: InLedger | str) -> Callable[[OnChain], OnChain]:
    """Put a scenario into the table."""

    def put(on_chain: OnChain) -> OnChain:
        TABLE[sentence] = Scenario(on_chain, in_ledger)
        return on_chain

    return put


@contextmanager
def refused(*names: str) -> Iterator[None]:
    """Expect the contracts to refuse what is in the block, with one of these errors."""
    with pytest.raises(EscrowRefused) as caught:
        yield
    assert caught.value.name in names


# ---------------------------------------------------------------- settling


async def _ledger_pays(ledger: Ledger) -> None:
    await ledger.settle(Paid(), Paid(payer="payer2"))
    assert (await ledger.left(), ledger.owed()) == (CREDIT - Paid().amount, 2 * Paid().amount)


@scenario("an epoch debits payers and credits payees by its lines", in_ledger=_ledger_pays)
async def _pays(stage: Stage) -> None:
    await stage.settle(Paid(), Paid(payer="payer2"))
    assert (await stage.balance(), await stage.owed()) == (DEPOSIT - Paid().amount, 2 * Paid().amount)


async def _ledger_short(ledger: Ledger) -> None:
    ledger.grant("payer", Paid().amount - 1)
    with pytest.raises(PayerRefused, match="InsufficientBalance"):
        await ledger.settle(Paid())
    await ledger.settle(Paid(payer="payer2"))


@scenario("a payer that is short is refused by name, and others are paid", in_ledger=_ledger_short)
async def _short(stage: Stage) -> None:
    await stage.escrow.give_withdrawal_notice(DEPOSIT, key=money.key("payer"))
    await stage.later(NOTICE)
    await stage.escrow.withdraw(key=money.key("payer"))
    with pytest.raises(PayerRefused) as caught:
        await stage.settle(Paid(), Paid(payer="payer2"))
    assert caught.value.payer == money.address("payer")
    await stage.settle(Paid(payer="payer2"))


async def _ledger_unknown(ledger: Ledger) -> None:
    with pytest.raises(PayerRefused):
        await ledger.settle(Paid(payer="stranger"))


@scenario("a payer that bound nobody is charged by nobody", in_ledger=_ledger_unknown)
async def _unknown(stage: Stage) -> None:
    with refused("PayerNotBound"):
        await stage.settle(Paid(payer="stranger"))


@scenario("a payee that is not registered is paid nothing", in_ledger="payees are the hub admin's to accept")
async def _unregistered(stage: Stage) -> None:
    with refused("PayeeNotActive"):
        await stage.settle(Paid(payee="stranger"))
    await stage.escrow.register_payee(money.key("stranger"), sender=DEPLOYER)
    with refused("PayeeNotActive"):
        await stage.settle(Paid(payee="stranger"))
    await stage.later(PAYEE_DELAY)
    await stage.settle(Paid(payee="stranger"))
    assert await stage.owed("stranger") == Paid().amount


async def _ledger_twice(ledger: Ledger) -> None:
    again = Paid()
    await ledger.settle(again)
    with pytest.raises(ClaimRefused, match="settled before"):
        await ledger.settle(again)


@scenario(
    "a claim in two epochs: the hub is slashed once, the second payment goes back", in_ledger=_ledger_twice
)
async def _twice(stage: Stage) -> None:
    again = Paid()
    first, second = await stage.settle(again), await stage.settle(again)
    arguments = (second.header, second.leaf(0), second.lines, 0, first.header, first.leaf(0))
    await stage.disputes.write("showTwice", *arguments, key=money.key("stranger"))
    assert await stage.staked("hub") == STAKE - again.amount
    assert (await stage.balance(), await stage.owed()) == (DEPOSIT - again.amount, again.amount)
    await stage.disputes.write("showTwice", *arguments, key=money.key("stranger"))
    assert await stage.staked("hub") == STAKE - again.amount, "once"
    assert await stage.owed() == again.amount
    with refused("NotTwice"):
        same = (first.header, first.leaf(0), first.lines, 0, first.header, first.leaf(0))
        await stage.disputes.write("showTwice", *same, key=money.key("stranger"))


async def _ledger_bounded(ledger: Ledger) -> None:
    ledger.grant("payer", 2 * Paid().amount)
    for _ in range(2):
        await ledger.settle(Paid())
    with pytest.raises(PayerRefused):
        await ledger.settle(Paid(1))


@scenario("no more than the cap per interval, whoever holds the operator's key", in_ledger=_ledger_bounded)
async def _bounded(stage: Stage) -> None:
    """A malicious operator takes what it can for a day: cap × elapsed / interval is the most."""
    await stage.later(INTERVAL)
    with refused("CapExceeded"):
        await stage.settle_lines([line(CAP + 1)])
    taken = 0
    started = await stage.rpc.block_time()
    for _ in range(8):
        with contextlib.suppress(PayerRefused):  # too soon
            await stage.settle_lines([line(CAP)])
            taken += CAP
        await stage.later(INTERVAL // 3)
    elapsed = await stage.rpc.block_time() - started
    assert 2 * CAP <= taken <= CAP * (elapsed // INTERVAL + 1)
    assert await stage.balance() == DEPOSIT - taken
    with refused("PayeeNotActive"):
        await stage.later(INTERVAL)
        await stage.settle_lines([line(1, payee="operator")])


async def _ledger_forged(ledger: Ledger) -> None:
    await ledger.settle(Paid())
    with pytest.raises((ArchiveDamaged, SignatureError)):
        await (await ledger.forged_by("stranger", Paid())).position()


@scenario("an epoch by anybody but the operator counts for nothing", in_ledger=_ledger_forged)
async def _forged(stage: Stage) -> None:
    bundle = stage.bundle(Paid())
    with refused("NotOperator"):
        told = bundle.settlement
        arguments = (1, stage.commitment, b"", told.claims_root, told.allocations_root, told.bundle_hash)
        await stage.escrow.write("settle", *arguments, key=money.key("stranger"))


# ---------------------------------------------------------------- a payer leaves


async def _ledger_revoked(ledger: Ledger) -> None:
    ledger.grant("payer", 0)
    with pytest.raises(PayerRefused):
        await ledger.settle(Paid())


@scenario("a withdrawal notice: debitable until it matures, gone a day later", in_ledger=_ledger_revoked)
async def _notice(stage: Stage) -> None:
    payer = money.key("payer")
    with refused("NoNotice"):
        await stage.escrow.withdraw(key=payer)
    await stage.escrow.give_withdrawal_notice(DEPOSIT, key=payer)
    with refused("NoticeNotMature"):
        await stage.escrow.withdraw(key=payer)
    await stage.settle(Paid())
    await stage.later(NOTICE + DAY)
    with refused("NoticeExpired"):
        await stage.escrow.withdraw(key=payer)
    await stage.escrow.give_withdrawal_notice(DEPOSIT, key=payer)
    await stage.later(NOTICE)
    await stage.escrow.withdraw(key=payer)
    assert await stage.balance() == 0
    assert await stage.token.balance(payer.address) == DEPOSIT + STAKE - Paid().amount


@scenario("a stricter binding takes a notice, a looser one nothing", in_ledger=_NO_ESCROW)
async def _binding(stage: Stage) -> None:
    payer = money.key("payer")
    with refused("StricterBindingNeedsNotice"):
        await stage.escrow.bind(cap=CAP - 1, min_interval_seconds=INTERVAL, key=payer)
    await stage.escrow.bind(cap=2 * CAP, min_interval_seconds=INTERVAL, key=payer)
    await stage.escrow.write("giveBindingNotice", 0, 0, key=payer)
    await stage.settle(Paid())
    await stage.later(NOTICE)
    await stage.escrow.write("applyBindingNotice", key=payer)
    with refused("PayerNotBound"):
        await stage.settle(Paid())


# ---------------------------------------------------------------- disputes


@scenario("frozen without a leaf, revealed, one claim rejected", in_ledger=_NO_DISPUTES)
async def _rejected(stage: Stage) -> None:
    good, bad = Paid(), Paid(7200)
    leaves = await stage.settle(good, bad)
    await stage.freeze(leaves, good.amount + bad.amount)
    assert await stage.owed() == 0
    await stage.reveal(leaves)
    index = next(i for i, one in enumerate(leaves.bundle.claims()) if one.spec["seconds"] == bad.seconds)
    await stage.rule(leaves, leaves.claim_id(index))
    assert (await stage.balance(), await stage.owed()) == (DEPOSIT - good.amount, good.amount)
    assert await stage.staked("payee") == STAKE - bad.amount
    assert await stage.collectable("payer") == BOND
    assert (await stage.stands(leaves)).status is Status.RULED


@scenario("a payer that has the leaves reveals them itself", in_ledger=_NO_DISPUTES)
async def _own_leaves(stage: Stage) -> None:
    leaves = await stage.settle(Paid(), Paid())
    await stage.freeze(leaves, 1)
    await stage.reveal(leaves, who="payer")
    assert (await stage.stands(leaves)).status is Status.REVEALED


@scenario("nobody reveals: refunded, the hub slashed, the bond returned", in_ledger=_NO_DISPUTES)
async def _silent_hub(stage: Stage) -> None:
    leaves = await stage.settle(Paid())
    await stage.freeze(leaves, Paid().amount)
    with refused("TooEarly"):
        await stage.conclude(leaves)
    await stage.later(REVEAL + 1)
    with refused("DeadlinePassed"):
        await stage.reveal(leaves)
    await stage.conclude(leaves)
    assert (await stage.balance(), await stage.owed()) == (DEPOSIT, 0)
    assert await stage.staked("hub") == STAKE - Paid().amount
    assert await stage.collectable("payer") == BOND


@scenario("the arbiter is silent: all is released, the bond returned", in_ledger=_NO_DISPUTES)
async def _silent_arbiter(stage: Stage) -> None:
    leaves = await stage.settle(Paid())
    await stage.freeze(leaves, Paid().amount)
    await stage.reveal(leaves)
    await stage.later(ARBITRATION + 1)
    with refused("DeadlinePassed"):
        await stage.rule(leaves)
    await stage.conclude(leaves)
    assert (await stage.balance(), await stage.owed()) == (DEPOSIT - Paid().amount, Paid().amount)
    assert await stage.collectable("payer") == BOND


@scenario("nothing wrong: the bond is lost, all is released", in_ledger=_NO_DISPUTES)
async def _bond_lost(stage: Stage) -> None:
    leaves = await stage.settle(Paid())
    await stage.freeze(leaves, Paid().amount)
    await stage.reveal(leaves)
    await stage.rule(leaves)
    assert (await stage.owed(), await stage.collectable("payer")) == (Paid().amount, 0)


@scenario("a wrong arbiter takes at most what is frozen, and nothing of other lines", in_ledger=_NO_DISPUTES)
async def _wrong_arbiter(stage: Stage) -> None:
    mine, other = Paid(), Paid(payer="payer2")
    leaves = await stage.settle(mine, other)
    index = leaves.line_index(money.address("payer"), money.address("payee"))
    await stage.freeze(leaves, 1000, line=index)
    await stage.reveal(leaves, line=index)
    with refused("NotOfThisLine"):
        foreign = leaves.claims_of_line(1 - index)[0]
        await stage.rule(leaves, leaves.claim_id(foreign), line=index)
    with refused("NotTheArbiter"):
        await stage.rule(leaves, line=index, who="operator")
    await stage.rule(leaves, leaves.claim_id(leaves.claims_of_line(index)[0]), line=index)
    assert await stage.balance() == DEPOSIT - mine.amount + 1000
    assert await stage.owed() == mine.amount - 1000 + other.amount


@scenario("leaves that are not the line's are refused", in_ledger=_NO_DISPUTES)
async def _false_leaves(stage: Stage) -> None:
    leaves = await stage.settle(Paid(), Paid(payer="payer2"))
    index = leaves.line_index(money.address("payer"), money.address("payee"))
    await stage.freeze(leaves, 1, line=index)
    wrong = leaves.leaf(leaves.claims_of_line(1 - index)[0])
    with refused("NotOfThisLine"):
        await stage.disputes.write("reveal", leaves.header, index, [wrong], key=money.key("operator"))
    claim, *proofs = leaves.leaf(leaves.claims_of_line(index)[0])
    inflated = (*claim[:-1], claim[-1] + 1)
    with refused("NotInEpoch"):
        await stage.disputes.write(
            "reveal", leaves.header, index, [(inflated, *proofs)], key=money.key("payer")
        )


@scenario(
    "matured credits cannot be frozen, nor others' lines, nor more than the line", in_ledger=_NO_DISPUTES
)
async def _too_late(stage: Stage) -> None:
    leaves = await stage.settle(Paid())
    with refused("NotThePayer"):
        await stage.freeze(leaves, 1, who="payer2")
    with refused("AboveLine"):
        await stage.freeze(leaves, Paid().amount + 1)
    await stage.later(2 * WINDOW)
    with refused("DisputeWindowOver"):
        await stage.freeze(leaves, 1)


@scenario("a stake outlasts every dispute about what came before", in_ledger=_NO_DISPUTES)
async def _stakes(stage: Stage) -> None:
    payee = money.key("payee")
    leaves = await stage.settle(Paid())
    await stage.disputes.write("startUnbonding", payee.address, STAKE, key=payee)
    await stage.freeze(leaves, Paid().amount)
    await stage.reveal(leaves)
    await stage.later(ARBITRATION)
    with refused("TooEarly"):
        await stage.disputes.write("withdrawStake", payee.address, key=payee)
    with refused("NotController"):
        await stage.disputes.write("startUnbonding", payee.address, 1, key=money.key("stranger"))
    await stage.later(UNBONDING - ARBITRATION)
    await stage.disputes.write("withdrawStake", payee.address, key=payee)
    assert await stage.token.balance(payee.address) == STAKE


# ---------------------------------------------------------------- tokens


@asynccontextmanager
async def _another(stage: Stage, token_name: str) -> AsyncIterator[tuple[Token, Escrow]]:
    """An escrow for a token that does not behave like most; a payer that has some, and has approved it."""
    code = bytes.fromhex(json.loads(TOKENS_FILE.read_text())[token_name].removeprefix("0x"))
    token = Token(stage.rpc, await create(stage.rpc, code, key=DEPLOYER))
    config = EscrowConfig(
        token=token.address, hub_id=money.HUB_ID, owner=DEPLOYER.address, operator=money.address("operator"),
        guardian=DEPLOYER.address, payee_delay_seconds=0, dispute_window_seconds=WINDOW,
    )  # fmt: skip
    escrow = await Escrow.deploy(stage.rpc, config, key=DEPLOYER)
    await token.mint(money.address("payer"), 100_000_000, key=DEPLOYER)
    yield token, escrow


async def _paid_in(stage: Stage, token: Token, escrow: Escrow) -> None:
    """One line of a million, settled and matured."""
    payer = money.key("payer")
    await escrow.deposit(100_000_000, key=payer)
    await escrow.bind(cap=CAP, min_interval_seconds=0, key=payer)
    for name in ("payee", "payee2"):
        await escrow.register_payee(money.key(name), sender=DEPLOYER)
    other = Stage(
        stage.rpc, token, escrow, stage.disputes, await escrow.domain(), stage.archive,
        commitment=await escrow.commitment(0),
    )  # fmt: skip
    payees = sorted(("payee", "payee2"), key=money.address)
    await other.settle_lines([line(1_000_000, payee=name) for name in payees])
    await stage.later(2 * WINDOW)


@scenario("a token that refuses a transfer costs that payee only", in_ledger=_NO_TOKEN)
async def _blocking(stage: Stage) -> None:
    async with _another(stage, "BlockingToken") as (token, escrow):
        await _paid_in(stage, token, escrow)
        await _block(stage.rpc, token, money.address("payee"))
        with pytest.raises((EscrowRefused, TransactionFailed)):
            await escrow.withdraw_credits(key=money.key("payee"))
        await escrow.withdraw_credits(key=money.key("payee2"))
        assert await token.balance(money.address("payee2")) == 1_000_000
        assert (await escrow.credits_of(money.address("payee"))).owed == 1_000_000


async def _block(rpc: Rpc, token: Token, account: str) -> None:
    data = keccak(b"setBlocked(address,bool)")[:4] + encode(["address", "bool"], [account, True])
    await send(rpc, to=token.address, data=data, key=DEPLOYER, contract=token.artifact)


@scenario("a token that returns nothing is paid in and out", in_ledger=_NO_TOKEN)
async def _silent_token(stage: Stage) -> None:
    async with _another(stage, "SilentToken") as (token, escrow):
        await _paid_in(stage, token, escrow)
        await escrow.withdraw_credits(key=money.key("payee"))
        assert await token.balance(money.address("payee")) == 1_000_000


@scenario("a token that takes a fee is not taken", in_ledger=_NO_TOKEN)
async def _taxed(stage: Stage) -> None:
    async with _another(stage, "TaxedToken") as (_, escrow):
        with refused("DepositNotExact"):
            await escrow.deposit(100_000_000, key=money.key("payer"))


# ---------------------------------------------------------------- roles, and the end


@scenario("another operator: a day after it was proposed, payers sign nothing", in_ledger=_NO_ROLES)
async def _rotation(stage: Stage) -> None:
    next_ = money.key("operator2")
    with refused("OwnableUnauthorizedAccount"):
        await stage.escrow.write("proposeOperator", next_.address, key=money.key("operator"))
    await stage.escrow.write("proposeOperator", next_.address, key=DEPLOYER)
    with refused("TooEarly"):
        await stage.escrow.write("acceptOperator", key=next_)
    await stage.settle(Paid())
    await stage.later(DAY)
    await stage.escrow.write("acceptOperator", key=next_)
    with refused("NotOperator"):
        await stage.settle(Paid())


@scenario("paused: nothing is settled, everybody withdraws", in_ledger=_NO_ROLES)
async def _paused(stage: Stage) -> None:
    await stage.settle(Paid())
    await stage.escrow.give_withdrawal_notice(DEPOSIT, key=money.key("payer"))
    await stage.escrow.write("pause", key=money.key("guardian"))
    with refused("SettlingPaused"):
        await stage.settle(Paid())
    await stage.later(NOTICE + 1)
    await stage.escrow.withdraw(key=money.key("payer"))
    await stage.later(2 * WINDOW)
    await stage.escrow.withdraw_credits(key=money.key("payee"))
    with refused("OwnableUnauthorizedAccount"):
        await stage.escrow.write("unpause", key=money.key("guardian"))
    await stage.escrow.write("unpause", key=DEPLOYER)
    await stage.settle(Paid(payer="payer2"))


@scenario("closed: what runs is settled, then all withdraw, and a successor goes on", in_ledger=_NO_ROLES)
async def _closed(stage: Stage) -> None:
    config = EscrowConfig(
        token=stage.token.address, hub_id=money.HUB_ID, owner=DEPLOYER.address,
        operator=money.address("operator"), guardian=DEPLOYER.address, payee_delay_seconds=0,
    )  # fmt: skip
    successor = await Escrow.deploy(stage.rpc, config, key=DEPLOYER)
    await stage.escrow.write("close", successor.address, key=DEPLOYER)
    with refused("Closed"):
        await stage.escrow.deposit(1, key=money.key("payer"))
    leaves = await stage.settle(Paid())  # a placement of before, which pins this escrow
    with refused("NotClosed"):
        await stage.escrow.write("withdrawAll", key=money.key("payer"))
    await stage.freeze(leaves, 1)
    await stage.later(NOTICE)
    with refused("Closed"):
        await stage.settle(Paid())
    await stage.escrow.write("withdrawAll", key=money.key("payer"))
    # The same keys at the successor: its epochs start anew, and nothing of the old counts there.
    payer = money.key("payer")
    await successor.deposit(DEPOSIT - Paid().amount, key=payer)
    await successor.bind(cap=CAP, min_interval_seconds=0, key=payer)
    await successor.register_payee(money.key("payee"), sender=DEPLOYER)
    other = Stage(
        stage.rpc, stage.token, successor, stage.disputes, await successor.domain(), stage.archive / "next",
        commitment=await successor.commitment(0),
    )  # fmt: skip
    await other.settle(Paid(), interval=False)
    assert other.commitment != stage.commitment
    await stage.later(2 * WINDOW)
    await stage.conclude(leaves)
    await stage.escrow.withdraw_credits(key=money.key("payee"))
    left = await stage.balance("payer") + await stage.balance("payer2")
    assert (await stage.escrow.read("liabilities"))[0] == left


# ---------------------------------------------------------------- the two stages


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, str]]:
    """A chain with everything deployed: URL, directory and escrow."""
    directory = tmp_path_factory.mktemp("scenarios")
    with anvil_chain.anvil(directory / "anvil.log") as running:

        async def prepare() -> str:
            async with Rpc(running.url) as rpc:
                return (await money_stage.set_up(rpc, directory / "archive")).escrow.address

        yield running.url, directory, asyncio.run(prepare())


@pytest_asyncio.fixture
async def stage(chain: tuple[str, Path, str]) -> AsyncIterator[Stage]:
    """The stage as it was set up; what happens on it is taken back."""
    url, directory, escrow = chain
    async with Rpc(url) as rpc:
        found = await money_stage.found(rpc, escrow, directory / "archive")
        async with found.rewound():
            yield found


@pytest.mark.parametrize("sentence", TABLE)
async def test_on_a_chain(stage: Stage, sentence: str) -> None:
    await TABLE[sentence].on_chain(stage)


@pytest.mark.parametrize("sentence", [each for each, one in TABLE.items() if callable(one.in_ledger)])
async def test_in_a_ledger(sentence: str) -> None:
    play = TABLE[sentence].in_ledger
    assert callable(play)
    await play(Ledger())
