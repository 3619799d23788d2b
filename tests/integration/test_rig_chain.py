"""The rig's chain, alone: what a first settlement needs is there, and the money can be read back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.errors import RigError
from devkit.rig import Rig
from devkit.rig import chain as chains
from devkit.rig.artifacts import Artifact
from devkit.rig.chain import Chain, credits_and_debits
from devkit.rig.members import Member
from devkit.rig.ports import Ports
from devkit.rig.processes import Processes
from devkit.rig.record import MemberPlane


@pytest.fixture(scope="module")
def rig_and_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Chain]]:
    """Only a chain: the planes of this rig are never started."""
    state = tmp_path_factory.mktemp("chain")
    (state / "mark").write_text("a-chain-alone\n")
    nowhere = Path("/nonexistent")
    members = {
        name: MemberPlane(
            name=name,
            kubeconfig=nowhere,
            agent_kubeconfig=nowhere,
            agent_hub_kubeconfig=nowhere,
            spec=Member(name=name),
        )
        for name in ("aurora", "borealis")
    }
    rig = Rig(
        state=state,
        processes=Processes(state, mark="a-chain-alone"),
        hub_kubeconfig=nowhere,
        members=members,
        identities={},
        programs={},
    )
    with rig, Ports() as ports:
        chain = chains.start(rig, hub_id=bytes(range(32)), ports=ports)
        rig.chain = chain.record()
        yield rig, chain


def test_start__done__payer_is_funded_and_payees_are_registered(rig_and_chain: tuple[Rig, Chain]) -> None:
    _, chain = rig_and_chain
    escrow = chain.escrow
    types, names = Artifact.of("FallowEscrow").outputs("payerOf")
    payer = dict(
        zip(names, chain.rpc.read(escrow, "payerOf(address)", types, chain.payer.address), strict=True)
    )
    assert (payer["balance"], payer["cap"]) == (chains.DEPOSIT, chains.CAP)
    assert chain.rpc.read(escrow, "operator()", "address") == chain.operator.account.address.lower()
    assert chain.rpc.read(escrow, "domainSeparator()", "bytes32") == chain.domain.separator()
    for payee in chain.payees.values():
        assert chain.rpc.read(escrow, "payeeActiveFrom(address)", "uint40", payee.address) > 0


def test_start__done__blocks_come_by_themselves(rig_and_chain: tuple[Rig, Chain]) -> None:
    _, chain = rig_and_chain
    assert chain.rpc.call("anvil_getIntervalMining") == chains.BLOCK_SECONDS


def test_credits_and_debits__before_any_settlement__are_zero(rig_and_chain: tuple[Rig, Chain]) -> None:
    rig, chain = rig_and_chain
    payees = {payee.address for payee in chain.payees.values()}
    credited, debited = credits_and_debits(rig, payees=payees, payers={chain.payer.address})
    assert credited == {payee.lower(): 0 for payee in payees}
    assert debited == {chain.payer.address.lower(): 0}


def test_keystore__with_its_password__opens_to_the_operator(rig_and_chain: tuple[Rig, Chain]) -> None:
    from eth_account import Account

    operator = rig_and_chain[1].operator
    password = operator.password_file.read_text().strip()
    assert Account.decrypt(operator.keystore.read_text(), password) == operator.account.key
    assert operator.keystore.stat().st_mode & 0o077 == 0


def test_deploy__with_a_field_that_the_contract_does_not_take__names_it() -> None:
    with pytest.raises(RigError, match="shoeSize"):
        Artifact.of("FallowEscrow").constructor_arguments({"shoeSize": 43})
