"""The settler's cycle: look at chain, archive and Settlements, and do the one next thing.

Nothing durable is kept here. Each cycle derives anew where every epoch stands, so a process that
was killed at any instruction, or another one elsewhere, goes on from there:

- a claim is in the archive's bundle before anything names it;
- a Settlement exists before anything is signed for it;
- a signed transaction is recorded before anyone sees it;
- an epoch counts once it is final, by its commitment, never by its number;
- an account's balance is told before its claims are Settled, and those before the epoch is.
"""

from __future__ import annotations

from typing import Any

from fallow.receipts.words import from_hex, to_hex
from fallow.settler import statuses
from fallow.settler.account_telling import AccountTeller
from fallow.settler.beginning import Beginner
from fallow.settler.bundle import Bundle
from fallow.settler.dispute_watch import DisputeWatch
from fallow.settler.finishing import Finisher
from fallow.settler.parts import Parts, state_of
from fallow.settler.protocol import Position
from fallow.settler.sending import Sender

JSON = dict[str, Any]


class Cycle:
    """One process's work, cycle by cycle."""

    def __init__(self, parts: Parts, disputes: DisputeWatch) -> None:
        self._parts = parts
        self._accounts = AccountTeller(parts)
        self._finisher = Finisher(parts, self._accounts)
        self._beginner = Beginner(parts)
        self._sender = Sender(parts)
        self._disputes = disputes

    async def run(self) -> bool:
        """Do what can be done now, and say whether an epoch is under way.

        Raises Retryable, MoneyError or ApiError: look again later.
        """
        # 1. Look where money stands, and take into the books every epoch that became final.
        position = await self._parts.payments.position()
        # NB: before anything that can stop the cycle: a stolen key stops settling, not the answers.
        await self._disputes.look(position)
        await self._parts.history.follow(position.commitment)
        await self._parts.payments.account_for_sender()
        self._parts.metrics.looked(position)

        # 2. Tell everyone concerned about epochs that are final.
        await self._finisher.finish(position)

        # 3. Tell accounts what there is to spend. NB: not while a final epoch was undone: its debits
        # are missing from what the chain shows, and come back with it.
        if not any(statuses.is_undone(obj) for obj in self._parts.hub.index.unfinished()):
            await self._accounts.tell(position)

        # 4. The next epoch: one that was begun, else one that is due.
        begun = await self._begun(position)
        if begun is None:
            begun = await self._beginner.begin(position)
        if begun is not None:
            await self._sender.carry_on(*begun, position=position)

        # 5. Tell claims that are in no epoch why.
        await self._beginner.tell()
        return begun is not None

    async def _begun(self, position: Position) -> tuple[JSON, Bundle] | None:
        """Return the next epoch as a predecessor of this process began it, or None."""
        abandoned: set[str] = set()
        for obj in self._parts.hub.index.following(to_hex(position.commitment)):
            if state_of(obj) == "Abandoned":
                abandoned.add(obj["spec"]["bundleHash"])
            else:
                return obj, await self._parts.archive.load(from_hex(obj["spec"]["bundleHash"]))
        for bundle in await self._parts.archive.followers(position.commitment):
            if to_hex(bundle.hash) not in abandoned:
                known = all(self._parts.hub.claims.get(one.key, uid=one.uid) for one in bundle.named)
                return await self._parts.create(bundle, forgotten=not known), bundle
        return None
