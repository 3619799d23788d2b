"""The hub's unfinished claims, each kept as the little that choosing among them takes.

A hundred thousand claims may wait at once, and a claim as an object takes some forty kilobytes of
memory. So a claim is checked when it is first seen and its spec forgotten again, but for a digest;
the few thousand that make an epoch are read again when the epoch is made.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import msgspec
import structlog

from fallow.kube.client import JSON, Listing
from fallow.kube.kinds import PAYMENT_CLAIM
from fallow.kube.view import Key, key_of
from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.words import checksummed
from fallow.resources.ranges import IndexRanges
from fallow.settler.claim_checks import CheckedClaim
from fallow.settler.counting import Counted, receipt_mark
from fallow.settler.refusals import ClaimRefused

log = structlog.get_logger(__name__)

_SORTED = msgspec.json.Encoder(order="sorted")
_DONE = frozenset({"Settled", "Refused"})


@dataclass(slots=True, kw_only=True, eq=False)
class HeldClaim:
    """One claim: where it is, what it would count as, and what was said of it."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    created_at: int
    payee: str
    signer: str
    """Whose key signed its receipt."""
    receipt: bytes
    """By what its receipt is remembered; empty where that cannot be read."""
    namespace_uid: str | None
    """Of the namespace that the payer authorised; None where nobody signed."""
    placed_at: str
    account_namespace: str
    to_ask: ContractSignature | None
    counted: Counted | None
    """None when it cannot be paid."""
    max_total: int | None
    max_per_day: int | None
    digest: bytes
    """Of its spec."""
    refusal: ClaimRefused | None
    status: bytes | None
    """Its status as JSON; None while nothing was said, as of most."""

    @property
    def key(self) -> Key:
        """(namespace, name)."""
        return self.namespace, self.name

    @property
    def paid_as(self) -> Counted:
        """What it counts as; only of one that is not refused."""
        assert self.counted is not None, "a refused claim counts as nothing"
        return self.counted

    @property
    def terms(self) -> JSON:
        """Return of its spec whom it charges, and since when."""
        given = None if self.namespace_uid is None else {"namespaceUid": self.namespace_uid}
        account = {"payer": self.paid_as.payer, "authorization": given}
        return {
            "terms": {"accountNamespace": self.account_namespace, "account": account},
            "observations": {"placedAt": self.placed_at},
        }

    @property
    def state(self) -> str:
        """Its status.state; "Pending" where nobody has said anything."""
        said = None if self.status is None else msgspec.json.decode(self.status).get("state")
        return str(said or "Pending")

    def as_read(self) -> JSON:
        """Return it as far as writing its status takes: metadata and status."""
        return {
            "metadata": {
                "namespace": self.namespace,
                "name": self.name,
                "uid": self.uid,
                "resourceVersion": str(self.version),
                "generation": self.generation,
            },
            "status": {} if self.status is None else msgspec.json.decode(self.status),
        }

    def says_other_than(self, obj: Mapping[str, Any]) -> bool:
        """Say whether an object that was read again is another claim than the one that was checked."""
        return bool(obj["metadata"]["uid"] != self.uid or spec_digest(obj["spec"]) != self.digest)


class Shelf:
    """Claims by (namespace, name); what a `Reflector` keeps up to date like a `View`."""

    resource = PAYMENT_CLAIM

    def __init__(self, check: Callable[[JSON], CheckedClaim], *, dirty: asyncio.Event) -> None:
        self.synced = asyncio.Event()
        self.newest = 0
        self.changes = 0
        """Rises whenever a claim comes, goes, or is told something by somebody else."""
        self._check = check
        self._dirty = dirty
        self._held: dict[Key, HeldClaim] = {}
        self._ranges: dict[IndexRanges, IndexRanges] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[HeldClaim]:
        return iter(self._held.values())

    def values(self) -> ValuesView[HeldClaim]:
        """All claims, in the order in which they were first seen."""
        return self._held.values()

    def get(self, key: Key, *, uid: str | None = None) -> HeldClaim | None:
        """Return a claim, or None; with `uid` only that very one."""
        held = self._held.get(key)
        return held if held is None or uid in (None, held.uid) else None

    def hold(self, obj: JSON) -> HeldClaim:
        """Check an object that was read, unless it is known, and return what is kept of it."""
        meta, status = obj["metadata"], obj.get("status")
        said = msgspec.json.encode(status) if status else None
        version = int(meta["resourceVersion"])
        known = self._held.get(key_of(obj))
        if known is not None and known.uid == meta["uid"]:  # a spec never changes, so one look is enough
            return replace(known, version=version, status=said)
        held = HeldClaim(
            namespace=sys.intern(meta["namespace"]),
            name=meta["name"],
            uid=meta["uid"],
            version=version,
            generation=int(meta.get("generation", 0)),
            created_at=0,
            payee="",
            signer="",
            receipt=_mark(obj["spec"]),
            namespace_uid=None,
            placed_at="",
            account_namespace="",
            to_ask=None,
            counted=None,
            max_total=None,
            max_per_day=None,
            digest=spec_digest(obj["spec"]),
            refusal=None,
            status=said,
        )
        try:
            checked = self._check(obj)
        except ClaimRefused as refusal:
            # NB: without the traceback, which would hold the whole object.
            held.refusal = ClaimRefused(refusal.reason, str(refusal))
            return held
        except Exception:
            # NB: a bug must not end the watch; the claim is neither paid nor refused for it.
            log.exception("claim cannot be checked", namespace=held.namespace, name=held.name)
            return held
        held.created_at, held.payee = checked.created_at, sys.intern(checked.claim.payee)
        held.signer = sys.intern(checksummed(obj["spec"]["terms"]["quote"]["signer"]))
        terms, placed_at = obj["spec"]["terms"], obj["spec"]["observations"]["placedAt"]
        given = terms["account"].get("authorization")
        held.namespace_uid = None if given is None else sys.intern(given["namespaceUid"])
        held.placed_at, held.account_namespace = sys.intern(placed_at), sys.intern(terms["accountNamespace"])
        held.to_ask = checked.to_ask
        held.counted = self._compact(checked.counted)
        held.max_total, held.max_per_day = checked.max_total, checked.max_per_day
        return held

    def apply(self, obj: JSON) -> bool:
        """Take in an object from an event; False when it is no news."""
        return self._take(self.hold(obj))

    def forget(self, obj: JSON) -> bool:
        """Take in a deletion, or that a claim left the watch; False when something newer is known."""
        version = int(obj["metadata"]["resourceVersion"])
        self.newest = max(self.newest, version)
        known = self._held.get(key_of(obj))
        if known is None or known.version > version:
            return False
        self._drop(known.key)
        return True

    def replace(self, listing: Listing, *, newest_before: int) -> None:
        """Take in a complete list; see `View.replace`."""
        at = int(listing.resource_version)
        if at < newest_before:  # a store that was set back: its versions cannot be compared
            self._held.clear()
            self.newest = at
        for obj in listing.items:
            self.apply(obj)
        self.complete({key_of(obj) for obj in listing.items}, at=at)

    def complete(self, listed: AbstractSet[Key], *, at: int) -> None:
        """Forget what a complete list of version `at` lacks, unless newer."""
        self.newest = max(self.newest, at)
        for key in [key for key, held in self._held.items() if key not in listed and held.version <= at]:
            self._drop(key)
        if not self.synced.is_set():
            self.synced.set()
            self._dirty.set()

    def told(self, held: HeldClaim, *, version: int, status: Mapping[str, Any]) -> None:
        """Note the answer to a write of ours; a claim that is done leaves."""
        self.newest = max(self.newest, version)
        held.version, held.status = version, msgspec.json.encode(status)
        known = self._held.get(held.key)
        if known is not None and known.version <= version:
            if status.get("state") in _DONE:
                self._drop(held.key, by_us=True)
            else:
                self._held[held.key] = held

    def gone(self, held: HeldClaim) -> None:
        """Forget a claim that the server does not have any more."""
        self._drop(held.key)

    def _take(self, held: HeldClaim) -> bool:
        self.newest = max(self.newest, held.version)
        known = self._held.get(held.key)
        if known is not None and known.version >= held.version:
            return False
        self._held[held.key] = held
        self.changes += 1
        self._dirty.set()
        return True

    def _drop(self, key: Key, *, by_us: bool = False) -> None:
        if self._held.pop(key, None) is not None and not by_us:
            self.changes += 1
            self._dirty.set()

    def _compact(self, counted: Counted) -> Counted:
        """Return the same with what many claims share held once."""
        return replace(
            counted,
            indexes=self._ranges.setdefault(counted.indexes, counted.indexes)
            if len(counted.indexes.pairs) == 1 and len(self._ranges) < 10_000
            else counted.indexes,
            succeeded=self._ranges.get(counted.succeeded, counted.succeeded),
            payer=sys.intern(counted.payer),
            account=sys.intern(counted.account),
            owner=sys.intern(counted.owner),
        )


def _mark(spec: Mapping[str, Any]) -> bytes:
    try:
        return receipt_mark(spec)
    except (KeyError, TypeError, ValueError):
        return b""


def spec_digest(spec: Mapping[str, Any]) -> bytes:
    """Return 16 bytes that tell one spec from another."""
    return blake2b(_SORTED.encode(spec), digest_size=16).digest()
