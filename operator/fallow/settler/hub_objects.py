"""The hub's objects as the settler sees and writes them: views kept by watches, checked writes.

Each write carries the version it was read at and asks first whether this process still leads; the
answer enters the view at once. Claims are many: they are kept on a `Shelf`, read again in full when
an epoch is made of them, and told by a bounded number of writers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from fallow.errors import AlreadyExists, ApiError, Conflict, Forbidden, Invalid, NotFound, NotLeading
from fallow.kube.client import ApiServer
from fallow.kube.compare_and_set import write_status
from fallow.kube.kinds import ACCOUNT, NAMESPACE, PAYMENT_CLAIM, SETTLEMENT
from fallow.kube.resource import Resource
from fallow.kube.view import Followed, View
from fallow.kube.watch import Reflector
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import to_hex
from fallow.settler.bundle import Named
from fallow.settler.claim_checks import CheckedClaim
from fallow.settler.settlement_index import SettlementIndex
from fallow.settler.shelf import HeldClaim, Shelf

log = structlog.get_logger(__name__)

JSON = dict[str, Any]
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
RESUME_NAME = "fallow-settler-resume"
RESUME_KEY = "nonce"
_UNFINISHED = "status.state!=Settled,status.state!=Refused"
"""Finished claims are kept for a week; watching them would cost more than all the rest."""


class HubObjects:
    """Views of claims (unfinished), Settlements, Accounts and namespaces, and writes to them."""

    def __init__(
        self,
        api: ApiServer,
        *,
        domain: Domain,
        check: Callable[[JSON], CheckedClaim],
        may_write: Callable[[], None],
        system_namespace: str,
        in_flight: int,
        page_size: int,
        silence_seconds: float,
    ) -> None:
        self._api = api
        self._domain = domain
        self._system_namespace = system_namespace
        self._check_leading = may_write
        self._writers = in_flight
        self.changed = asyncio.Event()
        self.claims = Shelf(check, dirty=self.changed)
        self.index = SettlementIndex(self._is_own)
        """This hub's own Settlements on this chain and escrow."""
        self.settlements = View(SETTLEMENT, dirty=self.changed, on_change=self.index.changed)
        self.accounts = View(ACCOUNT, dirty=self.changed)
        self.namespaces = View(NAMESPACE)
        followed: list[tuple[Followed, str | None]] = [
            (self.claims, _UNFINISHED),
            (self.settlements, None),
            (self.accounts, None),
            (self.namespaces, None),
        ]
        self._reflectors = [
            Reflector(
                api,
                view,
                field_selector=selector,
                page_size=page_size,
                silence_seconds=silence_seconds,
            )
            for view, selector in followed
        ]

    async def follow(self) -> None:
        """Keep the views up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())

    async def synced(self) -> None:
        """Wait until every view has a complete list."""
        for reflector in self._reflectors:
            await reflector.view.synced.wait()

    def namespace_uid(self, name: str) -> str | None:
        """Return the UID of a namespace, or None when there is none."""
        found = self.namespaces.get(name)
        return None if found is None else str(found["metadata"]["uid"])

    def own_settlements(self) -> list[JSON]:
        """Return this hub's Settlements on this chain and escrow, by epoch.

        Those of an escrow before a migration stay on the hub; their epochs count for nothing here.
        """
        return self.index.all()

    def _is_own(self, spec: Mapping[str, Any]) -> bool:
        domain = self._domain
        return bool(
            spec["hubId"] == to_hex(domain.hub_id)
            and spec["chainId"] == domain.chain_id
            and spec["escrow"].lower() == domain.escrow.lower()
        )

    async def resumed_below(self) -> int:
        """Return below which nonce a person has looked at the operator's transactions; 0 for none."""
        try:
            found = await self._api.get(CONFIG_MAP, RESUME_NAME, namespace=self._system_namespace)
        except (NotFound, Forbidden):  # who may not read it has no word of anybody
            return 0
        said = str((found.get("data") or {}).get(RESUME_KEY, ""))
        return int(said) if said.isascii() and said.isdecimal() else 0

    async def create_settlement(self, obj: JSON) -> JSON:
        """Create a Settlement, or return the one of that name when it is there already.

        Raises Conflict when that one is of another epoch content.
        """
        self._check_leading()
        try:
            made = await self._api.create(SETTLEMENT, obj)
        except AlreadyExists:
            made = await self._api.get(SETTLEMENT, obj["metadata"]["name"])
            if made["spec"]["commitment"] != obj["spec"]["commitment"]:
                name = obj["metadata"]["name"]
                raise Conflict(f"Settlement {name} exists with another commitment", status=409) from None
        self.settlements.apply(made)
        return made

    async def set_status(self, view: View, read: Mapping[str, Any], status: Mapping[str, Any]) -> JSON:
        """Write a whole status. Raises Conflict, NotFound and the other ApiErrors."""
        self._check_leading()
        written = await write_status(self._api, view.resource, read, status)
        view.apply(written)
        return written

    async def tell_settled(self, claims: Iterable[Named], status_of: Callable[[JSON], JSON]) -> int:
        """Write to claims that no view holds any more, since they are settled; returns how many changed.

        One that is gone, or is another of that name, is passed over. Raises Conflict and the other
        ApiErrors after all were tried.
        """
        changed = 0

        async def one(claim: Named) -> None:
            nonlocal changed
            try:
                read = await self._api.get(PAYMENT_CLAIM, claim.name, namespace=claim.namespace)
                wanted = status_of(read)
                if read["metadata"]["uid"] != claim.uid or wanted == (read.get("status") or {}):
                    return
                self._check_leading()
                await write_status(self._api, PAYMENT_CLAIM, read, wanted, brief=True)
            except NotFound:
                return
            changed += 1

        await self._side_by_side(one, claims)
        return changed

    async def set_statuses(self, view: View, wanted: Iterable[tuple[JSON, JSON]]) -> None:
        """Write many (object as read, status), a bounded number of them at once.

        An object that is gone is passed over: there is nobody to tell. So is one whose status the
        API server finds invalid: that is a mistake here, and must not keep others from their
        money. Other errors are raised after all were tried; what was written stays.
        """

        async def one(each: tuple[JSON, JSON]) -> None:
            read, status = each
            try:
                await self.set_status(view, read, status)
            except NotFound:
                view.forget(read)
                log.warning("gone before it was told", name=read["metadata"]["name"])

        await self._side_by_side(one, wanted)

    async def tell_claims(self, wanted: Iterable[tuple[HeldClaim, JSON]]) -> None:
        """Write the statuses of many claims, as `set_statuses` does; `wanted` is drawn from as they go."""

        async def one(each: tuple[HeldClaim, JSON]) -> None:
            claim, status = each
            self._check_leading()
            try:
                written = await write_status(self._api, PAYMENT_CLAIM, claim.as_read(), status, brief=True)
            except NotFound:
                self.claims.gone(claim)
                log.warning("gone before it was told", name=claim.name)
            else:
                version = int(written["metadata"]["resourceVersion"])
                self.claims.told(claim, version=version, status=status)

        await self._side_by_side(one, wanted)

    async def read_claims(self, claims: Sequence[HeldClaim]) -> AsyncIterator[tuple[HeldClaim, JSON]]:
        """Read claims again in full, some at a time, in their order.

        Raises Conflict when one is gone or is not what was checked: then it is forgotten, and
        everything has to be looked at again.
        """
        for at in range(0, len(claims), self._writers):
            some = claims[at : at + self._writers]
            found = await asyncio.gather(
                *(
                    self._api.get(PAYMENT_CLAIM, one.name, namespace=one.namespace, cached=True)
                    for one in some
                ),
                return_exceptions=True,
            )
            for one, obj in zip(some, found, strict=True):
                if isinstance(obj, NotFound) or (isinstance(obj, dict) and one.says_other_than(obj)):
                    self.claims.gone(one)
                    raise Conflict(
                        f"claim {one.namespace}/{one.name} changed since it was checked", status=409
                    )
                if isinstance(obj, BaseException):
                    raise obj
                yield one, obj

    async def _side_by_side(self, do: Callable[[Any], Awaitable[None]], wanted: Iterable[Any]) -> None:
        failed: list[BaseException] = []
        left = iter(wanted)

        async def work() -> None:
            for each in left:  # drawn from by all: each takes the next
                try:
                    await do(each)
                except Invalid as error:
                    log.error("status refused by the API server", error=str(error))
                except NotLeading as error:
                    failed.append(error)
                    return
                except Exception as error:
                    failed.append(error)

        await asyncio.gather(*(work() for _ in range(self._writers)))
        if failed:
            raise next((error for error in failed if not isinstance(error, ApiError)), failed[0])
