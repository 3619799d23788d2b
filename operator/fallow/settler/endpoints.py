"""Several RPC endpoints as one: which of them to believe, cycle by cycle.

All are asked side by side where they stand. Those far behind the foremost are lagging; the others
must show the same block and the same end of the epochs at the block that is read. One that shows
another is overruled by a majority of all that are configured; without a majority nothing is
settled, since nobody could say who lies. Whoever is silent is left alone for a while and asked
again. The first in order that is believed serves the whole cycle, so that all its reads fit
together; a signed transaction goes to all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from fallow.settler.refusals import ChainUnavailable, EndpointsDisagree, OldState
from fallow.settler.rpc import Rpc, SeenBlock

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Standing(StrEnum):
    """What is thought of an endpoint."""

    GOOD = "good"
    SILENT = "silent"
    LAGGING = "lagging"
    DISAGREES = "disagrees"
    OTHER_CHAIN = "other-chain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The endpoint that serves this cycle, its newest block, and the newest that counts as final."""

    rpc: Rpc
    newest: SeenBlock
    final: int


@dataclass
class _Endpoint:
    rpc: Rpc
    standing: Standing = Standing.GOOD
    said: str = ""
    chain_known: bool = False
    pause_seconds: float = 0.0
    ask_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Sight:
    endpoint: _Endpoint
    newest: SeenBlock


@dataclass(slots=True)
class Verdict:
    """Whom to believe among those that voted, by position in the vote."""

    believed: list[int] = field(default_factory=list)
    overruled: list[int] = field(default_factory=list)


def judge(votes: Sequence[object], *, configured: int) -> Verdict | None:
    """Return whom to believe: everybody when all say the same, else a majority of `configured`.

    None when they differ and none of the groups is more than half of all endpoints there are.
    """
    groups: dict[object, list[int]] = {}
    for index, vote in enumerate(votes):
        groups.setdefault(vote, []).append(index)
    largest = max(groups.values(), key=len)
    if len(groups) > 1 and 2 * len(largest) <= configured:
        return None
    return Verdict(largest, [index for index in range(len(votes)) if index not in largest])


class Endpoints:
    """The endpoints of one chain, in order of preference.

    `witness` returns what an endpoint says about the escrow at a block; `told` is called with
    (name, standing, blocks behind) after each look; `lag_blocks` is how far behind the foremost an
    endpoint may be; `agreeing` how many have to agree before anything is read.
    """

    def __init__(
        self,
        rpcs: Sequence[Rpc],
        *,
        chain_id: int,
        confirmations: int,
        witness: Callable[[Rpc, int], Awaitable[object]],
        monotonic: Callable[[], float],
        lag_blocks: int = 3,
        agreeing: int = 1,
        told: Callable[[str, Standing, int], None] = lambda name, standing, behind: None,
    ) -> None:
        self._endpoints = [_Endpoint(rpc) for rpc in rpcs]
        self._chain_id = chain_id
        self._confirmations = confirmations
        self._witness = witness
        self._monotonic = monotonic
        self._lag_blocks = lag_blocks
        self._agreeing = agreeing
        self._told = told
        self._final = 0

    async def choose(self) -> Chosen:
        """Look at all endpoints and choose.

        Raises ChainUnavailable (too few answer), OldState (all are behind what was seen before) or
        EndpointsDisagree.
        """
        # 1. Who answers, on the right chain?
        sights = await self._look()
        if not sights:
            said = "; ".join(each.said for each in self._endpoints)
            raise ChainUnavailable(f"no RPC endpoint can be used: {said}")

        # 2. Who is up to date?
        foremost = max(sight.newest.number for sight in sights)
        current = [sight for sight in sights if foremost - sight.newest.number <= self._lag_blocks]
        lagging = [sight for sight in sights if sight not in current]
        agreed_at = max(0, min(sight.newest.number for sight in current) - self._confirmations)

        # 3. Do they show the same? A laggard is asked about the past that it has.
        believed = await self._believed(current, lagging, at=agreed_at)
        for sight in lagging:
            if sight.endpoint.standing is not Standing.DISAGREES:
                self._judge(sight, Standing.LAGGING, foremost=foremost)
        for sight in believed:
            self._judge(sight, Standing.GOOD, foremost=foremost)
        if len(believed) < self._agreeing:
            raise ChainUnavailable(
                f"{len(believed)} of {len(self._endpoints)} RPC endpoints agree, {self._agreeing} must"
            )

        # 4. Never back behind what was read before: balances of then are not balances of now.
        chosen = believed[0]
        final = max(agreed_at, self._final)
        if final > max(0, chosen.newest.number - self._confirmations):
            raise OldState(
                f"{chosen.endpoint.rpc.name} shows block {chosen.newest.number}, but block "
                f"{final + self._confirmations} was seen before: old state, or the chain was set back"
            )
        self._final = final
        return Chosen(rpc=chosen.endpoint.rpc, newest=chosen.newest, final=final)

    async def broadcast(self, raw: str) -> None:
        """Hand a signed transaction to every endpoint that answers; one has to take it."""
        usable = [each for each in self._endpoints if each.standing is not Standing.OTHER_CHAIN]
        results = await asyncio.gather(
            *(each.rpc.broadcast(raw) for each in usable if each.standing is not Standing.SILENT),
            return_exceptions=True,
        )
        errors = [each for each in results if isinstance(each, BaseException)]
        for error in errors:
            if not isinstance(error, ChainUnavailable):
                raise error
        if len(errors) == len(results):
            raise errors[0] if errors else ChainUnavailable("no RPC endpoint answers")

    async def _look(self) -> list[_Sight]:
        now = self._monotonic()
        due = [each for each in self._endpoints if each.ask_at <= now]
        # NB: when all are resting, waiting for one of them helps nobody.
        found = await asyncio.gather(*(self._look_at(each) for each in due or self._endpoints))
        return [sight for sight in found if sight is not None]

    async def _look_at(self, endpoint: _Endpoint) -> _Sight | None:
        try:
            if not endpoint.chain_known:
                chain_id = await endpoint.rpc.chain_id()
                if chain_id != self._chain_id:
                    said = f"{endpoint.rpc.name} is on chain {chain_id}, not {self._chain_id}"
                    self._rest(endpoint, Standing.OTHER_CHAIN, said)
                    return None
                endpoint.chain_known = True
            newest = await endpoint.rpc.block()
        except ChainUnavailable as error:
            self._rest(endpoint, Standing.SILENT, str(error))
            return None
        endpoint.pause_seconds = 0.0
        return _Sight(endpoint, newest)

    async def _believed(self, current: list[_Sight], lagging: list[_Sight], *, at: int) -> list[_Sight]:
        if len(current) + len(lagging) == 1:
            return current
        voters: list[_Sight] = []
        votes: list[object] = []
        for sight, vote in zip(
            current, await asyncio.gather(*(self._vote(sight, at) for sight in current)), strict=True
        ):
            if vote is not None:
                voters.append(sight)
                votes.append(vote)
        if not voters:
            raise ChainUnavailable("no RPC endpoint shows the block that all should have")
        verdict = judge(votes, configured=len(self._endpoints))
        if verdict is None:
            names = ", ".join(sight.endpoint.rpc.name for sight in voters)
            for sight in voters:
                self._judge(sight, Standing.DISAGREES, said=f"another block {at}")
            raise EndpointsDisagree(f"the RPC endpoints {names} show different blocks {at}, or epochs in it")
        believed = [voters[index] for index in verdict.believed]
        overruled = [voters[index] for index in verdict.overruled]
        for sight in lagging:
            past = max(0, sight.newest.number - self._confirmations)
            theirs, ours = await self._hash(sight, past), await self._hash(believed[0], past)
            if theirs is not None and ours is not None and theirs != ours:
                overruled.append(sight)
        for sight in overruled:
            self._judge(sight, Standing.DISAGREES, said="another chain of blocks, or other epochs")
        if overruled and 2 * len(believed) <= len(self._endpoints):
            names = ", ".join(sight.endpoint.rpc.name for sight in [*believed, *overruled])
            raise EndpointsDisagree(f"the RPC endpoints {names} show different chains of blocks")
        return believed

    async def _vote(self, sight: _Sight, block: int) -> object | None:
        """Return what an endpoint shows at a block: its hash, and what the escrow says there."""
        try:
            seen, witness = await asyncio.gather(
                sight.endpoint.rpc.block(block), self._witness(sight.endpoint.rpc, block)
            )
        except ChainUnavailable as error:
            self._rest(sight.endpoint, Standing.SILENT, str(error))
            return None
        return seen.hash, witness

    async def _hash(self, sight: _Sight, block: int) -> str | None:
        try:
            return (await sight.endpoint.rpc.block(block)).hash
        except ChainUnavailable:
            return None

    def _rest(self, endpoint: _Endpoint, standing: Standing, said: str) -> None:
        """Leave an endpoint alone for a while, longer each time."""
        longer = 2 * endpoint.pause_seconds or _FIRST_PAUSE_SECONDS
        endpoint.pause_seconds = min(longer, _LONGEST_PAUSE_SECONDS)
        endpoint.ask_at = self._monotonic() + endpoint.pause_seconds
        endpoint.chain_known = False
        self._stand(endpoint, standing, said=said)

    def _judge(self, sight: _Sight, standing: Standing, *, said: str = "", foremost: int = 0) -> None:
        behind = max(0, foremost - sight.newest.number)
        if standing is Standing.LAGGING:
            said = f"{behind} blocks behind"
        self._stand(sight.endpoint, standing, said=said, behind=behind)

    def _stand(self, endpoint: _Endpoint, standing: Standing, *, said: str, behind: int = 0) -> None:
        if standing is not endpoint.standing:
            tell = log.info if standing is Standing.GOOD else log.warning
            tell("RPC endpoint", endpoint=endpoint.rpc.name, standing=str(standing), said=said)
        endpoint.standing, endpoint.said = standing, said
        self._told(endpoint.rpc.name, standing, behind)
