"""What the hub knows: every kind it reads, in memory, and who is touched by a change.

The few objects that people touch come through Kopf, kinds of volume (jobs too) through reflectors; answers
to our own writes enter at once. On top of the plain views this keeps what the cycle asks for: placements by
job (parsed once per version), claims by placement, what placements hold of nodes and guest limits, and the
set of jobs and providers that something happened to.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from fallow.hub.acceptance import request_of
from fallow.hub.charges import Charge, Charges
from fallow.hub.holdings import Holdings
from fallow.hub.placements import JSON, Placed, most_of, payee_of, read
from fallow.hub.quotas import Grants
from fallow.kube import kinds
from fallow.kube.view import Change, Key, View
from fallow.receipts.statements import unix_seconds
from fallow.resources.money import parse_amount
from fallow.resources.naming import ANNOTATION_UNFOLDED, PROVIDER_NAMESPACE_PREFIX

log = structlog.get_logger(__name__)


class HubView:
    """All that the hub decides on. `dirty` is set by every change."""

    def __init__(self, *, decimals: int, on_lease: Callable[[JSON], None]) -> None:
        self.dirty = asyncio.Event()
        self.jobs = View(kinds.COMPUTE_JOB, dirty=self.dirty, on_change=self._job_changed)
        self.accounts = View(kinds.ACCOUNT, dirty=self.dirty, on_change=self._account_changed)
        self.providers = View(kinds.PROVIDER, dirty=self.dirty, on_change=self._provider_changed)
        self.placements = View(kinds.PLACEMENT, dirty=self.dirty, on_change=self._placement_changed)
        self.claims = View(kinds.PAYMENT_CLAIM, dirty=self.dirty, on_change=self._claim_changed)
        self.nodes = View(kinds.PROVIDER_NODE, dirty=self.dirty, on_change=self._node_changed)
        self.quotes = View(kinds.QUOTE, dirty=self.dirty, on_change=self._supply_changed)
        self.settlements = View(kinds.SETTLEMENT, dirty=self.dirty, on_change=self._settlement_changed)
        self.namespaces = View(kinds.NAMESPACE, dirty=self.dirty, on_change=self._namespace_changed)
        # NB: heartbeats have an event of their own: hundreds a minute decide nothing.
        self.leases = View(kinds.LEASE, on_change=self._lease_changed)

        self.jobs_by_uid: dict[str, JSON] = {}
        self.placed: dict[str, dict[str, Placed]] = {}
        """By job UID and placement name: live placements, those whose create is under way included."""
        self.claim_of: dict[str, JSON] = {}
        """By placement UID: the claim that closes it."""
        self.partial_claims: dict[str, dict[str, JSON]] = {}
        """By placement UID and name: those before it, with interval billing."""
        self.claims_of_job: dict[str, dict[str, JSON]] = {}
        """By job UID and claim name."""
        self._nodes_of: dict[str, dict[str, JSON]] = {}
        self._placed_on: dict[str, Counter[str]] = {}
        """By provider: how many live placements each job (by UID) has there."""
        self._providers_of_payee: dict[str, set[str]] = {}
        self.holdings = Holdings()
        self.charges = Charges()
        self.grants = Grants(decimals=decimals)
        """What hub admins grant to namespaces and accounts."""
        self.supply_versions: Counter[str] = Counter()
        """By provider: grows whenever what it offers, or what is held of it, may have changed."""
        self.earned: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        """By provider: what its unsettled claims come to, in the token's smallest unit."""
        self._waiting_claims: dict[tuple[str, str], int] = {}
        """Smallest units by payee (lower case), from confirmed Settlements."""
        self.unregistered_payees: dict[str, int] = {}
        """Claims that wait for their payee's registration, by provider namespace."""
        self.touched_jobs: set[str] = set()
        self.touched_providers: set[str] = set()
        self.money_moved = False
        """Whether an Account changed since the cycle last looked: what waits may be affordable now."""
        self._accounts_say: dict[Key, JSON | None] = {}
        self._on_lease = on_lease
        self._decimals = decimals
        self.unfolded: set[str] = set()
        """Settlements of which this hub forgot what was paid: it was restored from an older backup."""
        self._counted_settlements: dict[str, dict[int, int]] = {}
        """By name: what disputes gave back, by line."""
        self._requests: dict[str, tuple[tuple[str, int], ...]] = {}

    @property
    def kopf_feeds(self) -> tuple[View, ...]:
        """The kinds that people touch, and that are few."""
        return (self.accounts, self.providers)

    @property
    def reflected(self) -> tuple[View, ...]:
        """The kinds of volume (decision 211)."""
        return (
            self.jobs,
            self.placements,
            self.claims,
            self.nodes,
            self.quotes,
            self.settlements,
            self.leases,
            self.namespaces,
        )

    def synced(self) -> bool:
        """Return whether every kind was listed: only then does absence mean absence."""
        return all(view.synced.is_set() for view in (*self.kopf_feeds, *self.reflected))

    def live(self, job_uid: str) -> Iterable[Placed]:
        """Return a job's live placements in the order of their numbers."""
        return sorted(self.placed.get(job_uid, {}).values(), key=lambda placed: placed.number)

    def assume(self, obj: JSON) -> None:
        """Take a placement whose create is under way for real, until `unassume` or its answer."""
        self._put(self._read(obj))

    def unassume(self, job_uid: str, name: str) -> None:
        """Drop an assumed placement whose create was refused."""
        placed = self.placed.get(job_uid, {}).get(name)
        if placed is not None and placed.uid.startswith(ASSUMED):
            self._remove(placed)

    def touch_all(self) -> None:
        """Look at every job and provider again."""
        self.touched_jobs.update(self.jobs_by_uid)
        self.touched_jobs.update(self.placed)
        self.touched_providers.update(one["metadata"]["name"] for one in self.providers)

    def request(self, job_uid: str, template: JSON) -> tuple[tuple[str, int], ...]:
        """Return what one task of a job requests; worked out once per job, templates being immutable."""
        known = self._requests.get(job_uid)
        if known is None:
            known = self._requests[job_uid] = request_of(template["spec"])
        return known

    # ---- what the plain views report -------------------------------------------------------------------

    def _job_changed(self, change: Change, obj: JSON) -> None:
        uid = obj["metadata"]["uid"]
        self.touched_jobs.add(uid)
        if change != "DELETED":
            self.jobs_by_uid[uid] = obj
        elif self.jobs_by_uid.pop(uid, None) is not None and uid not in self.placed:
            self._requests.pop(uid, None)

    def _account_changed(self, _change: Change, obj: JSON) -> None:
        self.money_moved = True
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        says = None if _change == "DELETED" else account_says(obj)
        if says is not None and self._accounts_say.get((namespace, name)) == says:
            return  # another balance: whoever waits for money is scheduled again, nobody is added up anew
        self._accounts_say[namespace, name] = says
        self.touched_jobs.update(
            uid for uid, job in self.jobs_by_uid.items() if job["metadata"]["namespace"] == namespace
        )

    def _namespace_changed(self, change: Change, obj: JSON) -> None:
        if self.grants.take(obj, deleted=change == "DELETED"):
            self.money_moved = True
            name = obj["metadata"]["name"]
            self.touched_jobs.update(
                uid for uid, job in self.jobs_by_uid.items() if job["metadata"]["namespace"] == name
            )

    def _provider_changed(self, change: Change, obj: JSON) -> None:
        name, payee = obj["metadata"]["name"], payee_of(obj)
        if change == "DELETED":
            self._providers_of_payee.get(payee, set()).discard(name)
        else:  # a payee that it had before may stay in there: one look too many
            self._providers_of_payee.setdefault(payee, set()).add(name)
        self._supply_moved(name)
        self.touch_provider(name)

    def touch_provider(self, name: str) -> None:
        """Look at a provider and at all jobs that have something there again."""
        self.touched_providers.add(name)
        self.touched_jobs.update(self._placed_on.get(name, ()))

    def nodes_of(self, provider: str) -> Iterable[JSON]:
        """Return a provider's ProviderNodes."""
        return self._nodes_of.get(provider, {}).values()

    def _node_changed(self, change: Change, obj: JSON) -> None:
        provider = obj["metadata"]["namespace"].removeprefix(PROVIDER_NAMESPACE_PREFIX)
        nodes = self._nodes_of.setdefault(provider, {})
        if change == "DELETED":
            nodes.pop(obj["metadata"]["name"], None)
        else:
            nodes[obj["metadata"]["name"]] = obj
        self._supply_moved(provider)

    def _lease_changed(self, change: Change, obj: JSON) -> None:
        namespace = obj["metadata"]["namespace"]
        if obj["metadata"]["name"] != AGENT_LEASE or not namespace.startswith(PROVIDER_NAMESPACE_PREFIX):
            return
        if change != "DELETED":
            self._on_lease(obj)
        if change != "MODIFIED":
            self.touched_providers.add(namespace.removeprefix(PROVIDER_NAMESPACE_PREFIX))
            self.dirty.set()

    def _supply_changed(self, _change: Change, obj: JSON) -> None:
        self._supply_moved(obj["metadata"]["namespace"].removeprefix(PROVIDER_NAMESPACE_PREFIX))

    def _supply_moved(self, provider: str) -> None:
        self.touched_providers.add(provider)
        self.supply_versions[provider] += 1

    def _placement_changed(self, change: Change, obj: JSON) -> None:
        job_uid = obj["spec"]["job"]["uid"]
        known = self.placed.get(job_uid, {}).get(obj["metadata"]["name"])
        if change == "DELETED":
            if known is not None and known.uid == obj["metadata"]["uid"]:
                self._remove(known)
                if job_uid not in self.jobs_by_uid and job_uid not in self.placed:
                    self._requests.pop(job_uid, None)
        else:
            self._put(self._read(obj))
        self.touched_jobs.add(job_uid)

    def _claim_changed(self, change: Change, obj: JSON) -> None:
        job_uid = obj["spec"]["job"]["uid"]
        name = obj["metadata"]["name"]
        of_job = self.claims_of_job.setdefault(job_uid, {})
        before = of_job.get(name)
        namespace = obj["metadata"]["namespace"]
        waits = _waits_for_payee(obj) if change != "DELETED" else False
        waited = _waits_for_payee(before) if before is not None else False
        if waits != waited:
            self.unregistered_payees[namespace] = (
                self.unregistered_payees.get(namespace, 0) + int(waits) - int(waited)
            )
            self.touched_providers.add(namespace.removeprefix(PROVIDER_NAMESPACE_PREFIX))
        if change == "DELETED":
            of_job.pop(name, None)
            self._forget_claim(obj)
            if not of_job:
                del self.claims_of_job[job_uid]
        else:
            of_job[name] = obj
            self._keep_claim(obj)
        self._count_waiting((namespace, name), obj if change != "DELETED" else None)
        self.charges.set_claim((namespace, name), None if change == "DELETED" else self._charge_of_claim(obj))
        of_placement = obj["spec"]["placement"]["uid"]
        live = next((one for one in self.placed.get(job_uid, {}).values() if one.uid == of_placement), None)
        self.holdings.claim((namespace, name), obj, placed=live, deleted=change == "DELETED")
        if live is not None:
            self._reserve(live)
        self.touched_jobs.add(job_uid)

    def _count_waiting(self, key: tuple[str, str], claim: JSON | None) -> None:
        provider = key[0].removeprefix(PROVIDER_NAMESPACE_PREFIX)
        self.waiting[provider] -= self._waiting_claims.pop(key, 0)
        if claim is None or (claim.get("status") or {}).get("state") in ("Settled", "Refused"):
            return
        amount = parse_amount(claim["spec"]["amount"], decimals=self._decimals)
        self._waiting_claims[key] = amount
        self.waiting[provider] += amount

    def _settlement_changed(self, change: Change, obj: JSON) -> None:
        # A Settlement's lines never change and it stays confirmed; it counts from its first sight as such,
        # less what disputes gave back.
        name = obj["metadata"]["name"]
        if change != "DELETED" and ANNOTATION_UNFOLDED in (obj["metadata"].get("annotations") or {}):
            self.unfolded.add(name)
        elif name in self.unfolded:
            self.unfolded.discard(name)
            self.touch_all()
        status = obj.get("status") or {}
        if change == "DELETED" or status.get("state") != "Confirmed":
            return
        refunded = self._refunded(status)
        if self._counted_settlements.get(name) == refunded:
            return
        before = self._counted_settlements.get(name)
        self._counted_settlements[name] = refunded
        for index, line in enumerate(obj["spec"]["lines"]):
            amount = parse_amount(line["amount"], decimals=self._decimals) if before is None else 0
            amount += (before or {}).get(index, 0) - refunded.get(index, 0)
            self.earned[line["payee"].lower()] += amount
        # What providers earned is told with their next status.
        for line in obj["spec"]["lines"]:
            self.touched_providers |= self._providers_of_payee.get(line["payee"].lower(), set())

    def _refunded(self, status: JSON) -> dict[int, int]:
        """Return what of which line went back to its payer after a dispute."""
        return {
            int(each["line"]): parse_amount(each["refunded"], decimals=self._decimals)
            for each in status.get("disputes") or ()
        }

    # ---- indexes ----------------------------------------------------------------------------------------

    def _read(self, obj: JSON) -> Placed:
        return read(obj, request=self.request(obj["spec"]["job"]["uid"], obj["spec"]["template"]))

    def _put(self, placed: Placed) -> None:
        of_job = self.placed.setdefault(placed.job_uid, {})
        before = of_job.get(placed.name)
        if before is not None:
            self.holdings.remove(before)
        else:
            self._placed_on.setdefault(placed.provider, Counter())[placed.job_uid] += 1
        of_job[placed.name] = placed
        self.holdings.add(placed)
        self._reserve(placed)
        self._supply_moved(placed.provider)

    def _remove(self, placed: Placed) -> None:
        of_job = self.placed[placed.job_uid]
        del of_job[placed.name]
        if not of_job:
            del self.placed[placed.job_uid]
        on = self._placed_on[placed.provider]
        on[placed.job_uid] -= 1
        if not on[placed.job_uid]:
            del on[placed.job_uid]
        self.holdings.remove(placed)
        self.charges.set_reserved(placed.name, None)
        self._supply_moved(placed.provider)

    def _reserve(self, placed: Placed) -> None:
        """Count what a placement can still come to, until its claim says what it came to."""
        claimed = placed.uid in self.claim_of
        charge = None
        if not claimed:
            partial = self.partial_claims.get(placed.uid)
            charged = sum(self._amount(claim) for claim in partial.values()) if partial else 0
            charge = Charge(placed.payer, placed.account, max(0, most_of(placed) - charged))
        self.charges.set_reserved(placed.name, charge)

    def claims_of_placement(self, uid: str) -> list[JSON]:
        """Return a placement's claims: partial ones, and the one that closes it."""
        closing = self.claim_of.get(uid)
        partial = self.partial_claims.get(uid)
        return [*(partial.values() if partial else ()), *(() if closing is None else (closing,))]

    def _keep_claim(self, obj: JSON) -> None:
        uid = obj["spec"]["placement"]["uid"]
        if obj["spec"].get("partial"):
            self.partial_claims.setdefault(uid, {})[obj["metadata"]["name"]] = obj
        else:
            self.claim_of[uid] = obj

    def _forget_claim(self, obj: JSON) -> None:
        uid = obj["spec"]["placement"]["uid"]
        if not obj["spec"].get("partial"):
            self.claim_of.pop(uid, None)
            return
        partial = self.partial_claims.get(uid, {})
        partial.pop(obj["metadata"]["name"], None)
        if not partial:
            self.partial_claims.pop(uid, None)

    def _amount(self, claim: JSON) -> int:
        return parse_amount(claim["spec"]["amount"], decimals=self._decimals)

    def _charge_of_claim(self, claim: JSON) -> Charge:
        terms, status = claim["spec"]["terms"], claim.get("status") or {}
        settled = status.get("state") == "Settled"
        return Charge(
            payer=terms["account"]["payer"].lower(),
            account=f"{terms['accountNamespace']}/{terms['accountName']}",
            amount=self._amount(claim),
            created=unix_seconds(claim["metadata"]["creationTimestamp"]),
            settled_in=(status.get("block") or 0) if settled else None,
            refused=status.get("state") == "Refused",
        )


AGENT_LEASE = "agent"
"""Name of an agent's heartbeat Lease in its provider's namespace."""
ASSUMED = "assumed:"
"""Start of the UID of a placement whose create has not been answered."""


def account_says(account: JSON) -> JSON:
    """Return what of an Account decides whether it can be charged at all."""
    conditions = (account.get("status") or {}).get("conditions") or ()
    told = [{key: one.get(key) for key in ("type", "status", "reason", "message")} for one in conditions]
    return {"spec": account["spec"], "conditions": told}


def _waits_for_payee(claim: JSON) -> bool:
    conditions: list[dict[str, Any]] = (claim.get("status") or {}).get("conditions") or []
    return any(one["type"] == "PayeeUnregistered" and one["status"] == "True" for one in conditions)
