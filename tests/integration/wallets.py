"""A wallet contract that pays (EIP-1271), on a test's chain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

import anvil_chain
import money_terms as money
from fallow.receipts.statements import authorization_message
from fallow.receipts.typed_data import Domain, sign
from fallow.resources.account import AccountSpec
from fallow.settler.abi import read_artifact
from fallow.settler.escrow import Contract, Escrow, send
from fallow.settler.rpc import Rpc

OWNED_WALLET = read_artifact(
    (Path(__file__).parents[2] / "contracts/test/wallets/OwnedWallet.json").read_text()
)
REVERTS, BURNS_GAS = 1, 2


class Wallet:
    """One wallet of an owner's, as OwnedWallet.sol has it."""

    def __init__(self, rpc_url: str, escrow: str, *, owner: str) -> None:
        self._url = rpc_url
        self._escrow = escrow
        self.owner: LocalAccount = money.key(owner)
        self.address = self._do(self._deploy)

    def account(
        self, domain: Domain, *, namespace_uid: str, signer: LocalAccount | None = None
    ) -> AccountSpec:
        """Return an Account with the wallet as payer, signed by its owner (or another)."""
        # Made for a key first, as only the address and the signature differ.
        spec = money.an_account(domain, namespace_uid=namespace_uid).model_copy(
            update={"payer": self.address}
        )
        assert spec.authorization is not None
        message = authorization_message(spec, decimals=money.DECIMALS)
        given = spec.authorization.model_copy(
            update={"signature": sign(domain, message, key=signer or self.owner)}
        )
        return spec.model_copy(update={"authorization": given})

    def fund(self, amount: int) -> None:
        """Deposit for the wallet, and let it bind itself to the hub."""

        async def fund(rpc: Rpc) -> None:
            escrow = Escrow(rpc, self._escrow)
            await anvil_chain.give_gas(rpc, self.owner.address)
            await (await escrow.token()).mint(self.owner.address, amount, key=anvil_chain.DEPLOYER)
            await escrow.deposit(amount, key=self.owner, payer=self.address)
            bind = escrow.artifact.call("bind", 2**96 - 1, 0)
            await Contract(rpc, self.address, OWNED_WALLET).write(
                "execute", escrow.address, bind, key=self.owner
            )

        self._do(fund)

    def be(self, mood: int) -> None:
        """Misbehave from now on."""
        self._do(lambda rpc: Contract(rpc, self.address, OWNED_WALLET).write("setMood", mood, key=self.owner))

    def belong_to(self, owner: str) -> None:
        """Change hands: what the old owner signed is accepted no more."""
        address = money.address(owner)
        self._do(
            lambda rpc: Contract(rpc, self.address, OWNED_WALLET).write("setOwner", address, key=self.owner)
        )

    async def _deploy(self, rpc: Rpc) -> str:
        await anvil_chain.give_gas(rpc, self.owner.address)
        code = OWNED_WALLET.creation(self.owner.address)
        mined = await send(rpc, to=None, data=code, key=self.owner, contract=OWNED_WALLET)
        receipt = await rpc.w3.eth.get_transaction_receipt(mined.hash)  # type: ignore[arg-type]
        return str(receipt["contractAddress"])

    def _do(self, what: Callable[[Rpc], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            async with Rpc(self._url) as rpc:
                return await what(rpc)

        return asyncio.run(connected())
