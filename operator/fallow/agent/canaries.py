"""Sends canary guests into each pool of nodes before anything of it is offered, and again from time to time.

    1. a neighbour that listens    2. when it is ready: the probe, with its address
    3. the probe's message is the proof; both go

Which of these is next follows from the pods there are, so that a new agent goes on where the last one was. A
proof stays in force while the next one is made. A canary that cannot run proves nothing: the pool stays
closed, and it is tried again after a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

import structlog

from fallow import __version__
from fallow.agent.cage import MAX_POOLS, Cage, is_old, pool_of, read_proofs, unproven_checks
from fallow.agent.canary_pods import LISTEN, PROBE, CanaryPod, canary_name, canary_pod, read_findings
from fallow.agent.nodes import Node
from fallow.agent.views import MemberViews
from fallow.errors import AlreadyExists, FallowError, NotFound
from fallow.kube.client import ApiServer
from fallow.kube.conditions import rfc3339
from fallow.kube.kinds import POD
from fallow.kube.writers import Writers
from fallow.resources.offer import OFFER_NAME, CageProof, OfferSpec
from fallow.settings import CanarySettings, GuestSettings

log = structlog.get_logger(__name__)

PATIENCE = timedelta(seconds=180)
"""How long a run may take: an image has to be pulled."""
AGAIN = timedelta(seconds=300)
"""Pause after a run that came to nothing."""
LOOK_SECONDS = 5.0


class Canaries:
    """One member's canary runs, and what they have proven."""

    def __init__(
        self,
        api: ApiServer,
        writers: Writers,
        views: MemberViews,
        *,
        settings: CanarySettings,
        guests: GuestSettings,
        wake: Callable[[], None],
    ) -> None:
        self._api = api
        self._writers = writers
        self._views = views
        self._settings = settings
        self._guests = guests
        self._wake = wake
        self._loaded = False
        self._not_before: dict[str, datetime] = {}
        self.cage = Cage()
        """What is proven now. Replaced, never changed."""

    @property
    def proofs(self) -> tuple[CageProof, ...]:
        """All proofs, as the Offer's status shows them."""
        return tuple(self.cage.proofs[pool] for pool in sorted(self.cage.proofs))

    def tell(self, offer: OfferSpec, nodes: Iterable[Node], *, now: datetime) -> float:
        """Do what is next in each pool; returns the seconds until something is due without any change."""
        self._load()
        nodes = list(nodes)
        pods = {pod.name: pod for pod in self._views.canaries()}
        wanted = bool(unproven_checks(offer)) and not offer.paused and offer.mode == "Offer"
        if not wanted:
            self._remove(pods.values())
            return 3600.0
        if not self._settings.image:
            self._note_problems(
                dict.fromkeys(_pools(nodes), "no image for canary guests is set (canary.image)")
            )
            return 3600.0
        under = conditions_of(offer)
        pools = _pools(n for n in nodes if _fit(n, offer))
        self._forget(_pools(nodes).keys())
        busy = False
        for pool in sorted(pools)[:MAX_POOLS]:
            busy = self._one(pool, pools[pool], under, pods, now=now) or busy
        self._remove(p for p in pods.values() if p.under != under or p.pool not in pools)
        return LOOK_SECONDS if busy else 60.0

    def _one(
        self, pool: str, nodes: list[Node], under: str, pods: Mapping[str, CanaryPod], *, now: datetime
    ) -> bool:
        """Do what is next in one pool; says whether a run is under way."""
        listener = pods.get(canary_name(pool, under, LISTEN))
        probe = pods.get(canary_name(pool, under, PROBE))
        mine = [pod for pod in (listener, probe) if pod is not None]
        proof = self.cage.proofs.get(pool)
        if probe is not None and probe.finished and not probe.deleting:
            self._take_in(probe, now=now)
            self._remove(mine)
            return True
        due = proof is None or proof.under != under or is_old(proof, now=now, hours=self._settings.hours)
        if not due:
            self._remove(mine)
            return bool(mine)
        if self._not_before.get(pool, now) > now:
            self._remove(mine)
            return True
        if mine and now >= min(pod.created_at for pod in mine) + PATIENCE:
            said = next((pod.message for pod in reversed(mine) if pod.message), "it ran too long")
            self._give_up(pool, said, under, now=now)
            self._remove(mine)
            return True
        if any(pod.deleting for pod in mine):
            return True
        here, other = nodes[0], nodes[-1]
        if listener is None:
            self._start(LISTEN, pool, under, other)
        elif probe is None and listener.ready and listener.address:
            kubelets = listener.host_address if listener.node != here.name else ""
            arguments = [f"--neighbour={listener.address}", *([f"--kubelets={kubelets}"] if kubelets else [])]
            self._start(PROBE, pool, under, here, arguments)
        return True

    def _take_in(self, probe: CanaryPod, *, now: datetime) -> None:
        try:
            reached = read_findings(probe.message)
        except ValueError:
            self._give_up(probe.pool, probe.message or "it left no message", probe.under, now=now)
            return
        proof = CageProof(
            pool=probe.pool, node=probe.node, checked_at=rfc3339(now), under=probe.under, reached=reached
        )
        before = self.cage.proofs.get(probe.pool)
        problems = {pool: why for pool, why in self.cage.problems.items() if pool != probe.pool}
        self.cage = replace(self.cage, proofs={**self.cage.proofs, probe.pool: proof}, problems=problems)
        if before is None or before.reached != reached:
            found = {each.check: each.found for each in reached}
            log.info("canary came back", pool=probe.pool, node=probe.node, reached=found)
        self._changed()

    def _give_up(self, pool: str, why: str, under: str, *, now: datetime) -> None:
        """Note that a run came to nothing; a proof of other conditions, or of long ago, ends with that."""
        self._not_before[pool] = now + AGAIN
        log.warning("canary came to nothing", pool=pool, why=why)
        proof = self.cage.proofs.get(pool)
        if proof and (proof.under != under or is_old(proof, now=now, hours=2 * self._settings.hours)):
            self.cage = replace(self.cage, proofs={p: v for p, v in self.cage.proofs.items() if p != pool})
        self._note_problems({**self.cage.problems, pool: f"its canary guest could not run: {why}"[:500]})

    def _note_problems(self, problems: Mapping[str, str]) -> None:
        if problems != self.cage.problems:
            self.cage = replace(self.cage, problems=problems)
            self._changed()

    def _forget(self, pools: Iterable[str]) -> None:
        """Drop what is known of pools that are no more."""
        there = set(pools)
        if not self._views.nodes.synced.is_set() or not self.cage.proofs.keys() - there:
            return
        self.cage = replace(self.cage, proofs={p: v for p, v in self.cage.proofs.items() if p in there})
        self._changed()

    def _changed(self) -> None:
        self._views.offering_stale = True
        self._wake()

    def _load(self) -> None:
        """Go on from what the Offer's status says; only the first call counts."""
        if not self._loaded:
            self._loaded = True
            status = (self._views.offers.get(OFFER_NAME) or {}).get("status") or {}
            self.cage = Cage(proofs=read_proofs(status))

    def _start(self, role: str, pool: str, under: str, node: Node, arguments: Iterable[str] = ()) -> None:
        pod = canary_pod(
            role=role,
            pool=pool,
            under=under,
            node=node,
            namespace=self._guests.namespace,
            image=self._settings.image,
            priority_class=self._guests.priority_class,
            arguments=tuple(arguments),
        )
        key = ("canary", pod["metadata"]["name"])
        if self._writers.pending(key):
            return

        async def create() -> None:
            try:
                self._views.pods.apply(await self._api.create(POD, pod))
            except AlreadyExists:
                return  # the watch will show it

        def done(error: Exception | None) -> None:
            if isinstance(error, FallowError):
                why = f"its canary guest was refused: {error}"[:500]
                self._note_problems({**self.cage.problems, pool: why})
            self._wake()

        self._writers.submit(key, create, priority=1, on_done=done)

    def _remove(self, pods: Iterable[CanaryPod]) -> None:
        for pod in pods:
            key = ("canary", pod.name)
            if pod.deleting or self._writers.pending(key):
                continue

            async def drop(pod: CanaryPod = pod) -> None:
                try:
                    answer = await self._api.delete(
                        POD, pod.name, namespace=self._guests.namespace, uid=pod.uid
                    )
                except NotFound:
                    return
                if answer.get("kind") == "Pod":
                    self._views.pods.apply(answer)

            self._writers.submit(key, drop, priority=2, on_done=lambda _: self._wake())


def conditions_of(offer: OfferSpec) -> str:
    """Return the digest of what a proof holds under: this version, and what the Offer opens."""
    opened = (offer.egress, sorted(offer.egress_ranges), sorted(offer.dns_ranges))
    return sha256(f"{__version__} {opened}".encode()).hexdigest()[:16]


def _fit(node: Node, offer: OfferSpec) -> bool:
    selected = all(node.labels.get(key) == value for key, value in offer.node_selector.items())
    return selected and node.ready and not node.cordoned and not node.taints


def _pools(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in sorted(nodes, key=lambda n: n.name):
        found.setdefault(pool_of(node), []).append(node)
    return found
