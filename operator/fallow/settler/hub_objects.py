"""The hub's objects as the settler sees and writes them: views kept by watches, checked writes.

Each write carries the version it was read at and asks first whether this process still leads; the
answer enters the view at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from fallow.errors import AlreadyExists, ApiError, Conflict, Forbidden, Invalid, NotFound
from fallow.kube.client import ApiServer
from fallow.kube.compare_and_set import write_status
from fallow.kube.kinds import ACCOUNT, NAMESPACE, PAYMENT_CLAIM, SETTLEMENT
from fallow.kube.resource import Resource
from fallow.kube.view import View
from fallow.kube.watch import Reflector
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import to_hex
from fallow.settler.bundle import BundledClaim
from fallow.settler.settlement_index import SettlementIndex

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
        self._in_flight = asyncio.Semaphore(in_flight)
        self.changed = asyncio.Event()
        self.claims = View(PAYMENT_CLAIM, dirty=self.changed)
        self.index = SettlementIndex(self._is_own)
        """This hub's own Settlements on this chain and escrow."""
        self.settlements = View(SETTLEMENT, dirty=self.changed, on_change=self.index.changed)
        self.accounts = View(ACCOUNT, dirty=self.changed)
        self.namespaces = View(NAMESPACE)
        selectors = {id(self.claims): _UNFINISHED}
        self._reflectors = [
            Reflector(
                api,
                view,
                field_selector=selectors.get(id(view)),
                page_size=page_size,
                silence_seconds=silence_seconds,
            )
            for view in (self.claims, self.settlements, self.accounts, self.namespaces)
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

    async def tell_claims(self, claims: Iterable[BundledClaim], status_of: Callable[[JSON], JSON]) -> int:
        """Write to claims that no view holds any more, since they are settled; returns how many changed.

        One that is gone, or is another of that name, is passed over. Raises Conflict and the other
        ApiErrors after all were tried.
        """
        changed = 0

        async def one(claim: BundledClaim) -> None:
            nonlocal changed
            async with self._in_flight:
                try:
                    read = await self._api.get(PAYMENT_CLAIM, claim.name, namespace=claim.namespace)
                    wanted = status_of(read)
                    if read["metadata"]["uid"] != claim.uid or wanted == (read.get("status") or {}):
                        return
                    self._check_leading()
                    await write_status(self._api, PAYMENT_CLAIM, read, wanted)
                except NotFound:
                    return
                changed += 1

        results = await asyncio.gather(*(one(each) for each in claims), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return changed

    async def set_statuses(self, view: View, wanted: Iterable[tuple[JSON, JSON]]) -> None:
        """Write many (object as read, status) side by side.

        An object that is gone is passed over: there is nobody to tell. So is one whose status the
        API server finds invalid: that is a mistake here, and must not keep others from their
        money. Other errors are raised after all were tried; what was written stays.
        """

        async def one(read: JSON, status: JSON) -> None:
            async with self._in_flight:
                try:
                    await self.set_status(view, read, status)
                except NotFound:
                    view.forget(read)
                    log.warning("gone before it was told", name=read["metadata"]["name"])
                except Invalid as error:
                    log.error("status refused by the API server", error=str(error))

        results = await asyncio.gather(*(one(*each) for each in wanted), return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:
            raise next((error for error in failed if not isinstance(error, ApiError)), failed[0])
