"""What the hub is told about the supply: the Quote at once, the ProviderNodes a moment later.

Closing is one write of the Quote, obeyed by everyone at once; nodes follow, gathered for a second (for less
where they have less to offer), so that an owner's burst of pods is one write per node and not one per pod.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog
from pydantic import ValidationError

from fallow.agent.cage import NOTHING_PROVEN, Cage
from fallow.agent.offering import Offering, provider_node
from fallow.agent.quoting import Identity, next_quote, renew_at
from fallow.agent.views import HubViews
from fallow.errors import Conflict, FallowError, NotFound
from fallow.kube.client import JSON, ApiServer
from fallow.kube.compare_and_set import write
from fallow.kube.kinds import PROVIDER_NODE, QUOTE
from fallow.kube.writers import Write, Writers
from fallow.resources.offer import OfferSpec
from fallow.resources.quote import QUOTE_NAME, QuoteSpec

log = structlog.get_logger(__name__)

SHRINKING_SECONDS = 0.2
"""Less on offer is told sooner than more: what a hub places meanwhile would only be handed back."""
_QUOTE_PRIORITY, _NODE_PRIORITY = -1, 4


class Supply:
    """Keeps Quote and ProviderNodes as the Offer wants them."""

    def __init__(
        self,
        api: ApiServer,
        writers: Writers,
        views: HubViews,
        *,
        namespace: str,
        identity: Identity,
        valid_seconds: float,
        debounce_seconds: float,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._api = api
        self._writers = writers
        self._views = views
        self._namespace = namespace
        self._identity = identity
        self._valid_seconds = valid_seconds
        self._debounce_seconds = debounce_seconds
        self._now = now
        self._monotonic = monotonic
        self._wake = wake
        self._last_sequence = 0
        self._checked_version = ""
        self._nodes_due: float | None = None
        self._told_nodes = False
        self._offered: Offering | None = None
        self._offer: OfferSpec | None = None
        self._shut = ""
        self._cage = NOTHING_PROVEN

    def tell(
        self,
        offer: OfferSpec,
        offered: Offering,
        *,
        now: datetime,
        shut: str = "",
        cage: Cage = NOTHING_PROVEN,
    ) -> float:
        """Write what differs; returns the seconds until something is due without any change."""
        self._offer, self._shut, self._cage = offer, shut, cage
        before, self._offered = self._offered, offered
        if not (self._views.quotes.synced.is_set() and self._views.provider_nodes.synced.is_set()):
            return 60.0
        renewal = self._tell_quote(offer, now=now)
        return min(renewal, self._tell_nodes(offered, before))

    def _tell_quote(self, offer: OfferSpec, *, now: datetime) -> float:
        if self._writers.pending(QUOTE_NAME):
            return 60.0
        found = self._views.quotes.get(QUOTE_NAME, namespace=self._namespace)
        if self._next_quote(found, offer, now=now) is None:
            assert found is not None
            self._checked_version = found["metadata"]["resourceVersion"]
            due = renew_at(QuoteSpec.model_validate(found["spec"]), valid_seconds=self._valid_seconds)
            return max(1.0, (due - now).total_seconds())
        self._writers.submit(QUOTE_NAME, self._write_quote, priority=_QUOTE_PRIORITY, on_done=self._told)
        return 60.0

    def _next_quote(self, found: JSON | None, offer: OfferSpec, *, now: datetime) -> QuoteSpec | None:
        current = None
        if found is not None:
            try:
                current = QuoteSpec.model_validate(found["spec"])
            except ValidationError as error:
                log.warning("own Quote not understood: written anew", error=str(error))
        return next_quote(
            current,
            offer,
            self._identity,
            now=now,
            valid_seconds=self._valid_seconds,
            shut=self._shut,
            cage=self._cage,
            last_sequence=self._last_sequence,
            signature_checked=found is not None
            and found["metadata"]["resourceVersion"] == self._checked_version,
        )

    async def _write_quote(self) -> None:
        """Write what the Offer says when the write's turn comes."""
        found = self._views.quotes.get(QUOTE_NAME, namespace=self._namespace)
        assert self._offer is not None
        quote = self._next_quote(found, self._offer, now=self._now())
        if quote is None:
            return
        if found is None:
            metadata = {"name": QUOTE_NAME, "namespace": self._namespace}
            answer = await self._api.create(QUOTE, {"metadata": metadata, "spec": quote.wire()})
        else:
            answer = await write(self._api, QUOTE, found, {"spec": quote.wire()})
        self._last_sequence = quote.sequence
        self._checked_version = answer["metadata"]["resourceVersion"]
        self._views.quotes.apply(answer)
        log.info("quote written", sequence=quote.sequence, closed=quote.closed, valid_until=quote.valid_until)

    def _tell_nodes(self, offered: Offering, before: Offering | None) -> float:
        now = self._monotonic()
        if offered is not before:
            pause = self._debounce_seconds if self._told_nodes else 0.0
            if before is not None and _shrinks(offered, before):
                pause = min(pause, SHRINKING_SECONDS)
            due = now + pause
            self._nodes_due = due if self._nodes_due is None else min(due, self._nodes_due)
        if self._nodes_due is None:
            return 60.0
        if now < self._nodes_due:
            return self._nodes_due - now
        self._nodes_due = None
        self._told_nodes = True
        wanted = {name for name, offer in offered.nodes.items() if offer.selected}
        present = {each["metadata"]["name"] for each in self._views.provider_nodes}
        for name in sorted(wanted | present):
            if self._differs(name):
                self._writers.submit(
                    ("node", name), self._node_write(name), priority=_NODE_PRIORITY, on_done=self._node_told
                )
        return 60.0

    def _wanted(self, name: str) -> JSON | None:
        offer = self._offered.nodes.get(name) if self._offered is not None else None
        return provider_node(offer).wire() if offer is not None and offer.selected else None

    def _differs(self, name: str) -> bool:
        found = self._views.provider_nodes.get(name, namespace=self._namespace)
        return (found["spec"] if found is not None else None) != self._wanted(name)

    def _node_write(self, name: str) -> Write:
        async def put() -> None:
            found = self._views.provider_nodes.get(name, namespace=self._namespace)
            wanted = self._wanted(name)
            if wanted is None:
                if found is not None:
                    await self._api.delete(
                        PROVIDER_NODE, name, namespace=self._namespace, uid=found["metadata"]["uid"]
                    )
            elif found is None:
                metadata = {"name": name, "namespace": self._namespace}
                made = await self._api.create(PROVIDER_NODE, {"metadata": metadata, "spec": wanted})
                self._views.provider_nodes.apply(made)
            else:
                self._views.provider_nodes.apply(
                    await write(self._api, PROVIDER_NODE, found, {"spec": wanted})
                )

        return put

    def _node_told(self, error: Exception | None) -> None:
        if error is not None:
            self._nodes_due = self._monotonic() + self._debounce_seconds
        self._told(error)

    def _told(self, error: Exception | None) -> None:
        if isinstance(error, FallowError) and not isinstance(error, Conflict | NotFound):
            log.warning("supply not told to the hub", error=str(error))
        self._wake()


def _shrinks(offered: Offering, before: Offering) -> bool:
    """Say whether some node has fewer accelerators on offer than before."""
    return any(
        sum(old.offerable.accelerators.values()) > sum(new.offerable.accelerators.values())
        for name, old in before.nodes.items()
        if (new := offered.nodes.get(name)) is not None
    )
