"""Whether a provider gets work, and what its status says.

Schedulable is the conjunction of everything that must hold at this moment; its reason is the first that does
not. The hub checks the Quote's signature itself, once per version, and that payee and signer are still the
ones that a hub admin accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fallow.errors import FallowError
from fallow.hub.placements import JSON
from fallow.kube.conditions import condition
from fallow.receipts.statements import check_quote, unix_seconds
from fallow.receipts.typed_data import Domain
from fallow.resources.quote import QuoteSpec


@dataclass(frozen=True, slots=True)
class Terms:
    """A provider's Quote as read: parsed, or why it cannot be used."""

    version: str
    quote: QuoteSpec | None
    problem: str = ""


def read_quote(obj: Mapping[str, object] | JSON, *, domain: Domain) -> Terms:
    """Parse a Quote object and check its signature."""
    version = str(obj["metadata"]["resourceVersion"])  # type: ignore[index]
    try:
        quote = QuoteSpec.model_validate(obj["spec"])
        check_quote(quote, domain=domain)
    except (FallowError, ValueError) as error:
        return Terms(version, None, str(error).splitlines()[0])
    return Terms(version, quote)


@dataclass(frozen=True, slots=True)
class Hearing:
    """What the hub's own clock says about a provider."""

    seen: bool
    """Whether its Lease was ever seen."""
    silent: bool
    flapped: int = 0
    """How often it fell silent lately; 0 unless it is kept waiting for that."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A provider's three conditions. `refuses` is the reason why it gets no new work, or ""."""

    joined: JSON
    reachable: JSON
    schedulable: JSON
    refuses: str
    quote: QuoteSpec | None
    removed: bool = False
    """Whether its work must go elsewhere."""
    generation: int = 0
    """Of the Provider that this says where it stands."""

    @property
    def conditions(self) -> list[JSON]:
        """All three."""
        return [self.joined, self.reachable, self.schedulable]


def standing(
    provider: JSON,
    terms: Terms | None,
    hearing: Hearing,
    *,
    now: int,
    payee_unregistered: bool,
    suspicious: bool = False,
) -> Standing:
    """Return where a provider stands. `now` is Unix time; `suspicious`: the hub suspects itself."""
    spec = provider["spec"]
    accepted = bool(spec.get("accepted"))
    quote = terms.quote if terms else None
    if not accepted:
        joined = condition(
            "Joined", False, reason="NotAccepted", message="A hub admin has to set spec.accepted."
        )
    elif terms is None or not hearing.seen:
        joined = condition("Joined", False, reason="AgentMissing", message="Its agent has not reported yet.")
    else:
        joined = condition("Joined", True, reason="Joined", message="Accepted, and its agent reports.")

    if not hearing.seen:
        reachable = condition(
            "Reachable", "Unknown", reason="NeverHeard", message="No heartbeat was seen yet."
        )
    elif hearing.silent:
        said = "Its heartbeat stopped; unfinished work moves as each job's unreachableSeconds pass."
        if suspicious:
            said = "Many providers fell silent at once: the hub suspects itself and moves no work for now."
        reachable = condition("Reachable", False, reason="Silent", message=said)
    else:
        reachable = condition("Reachable", True, reason="Heard", message="Its agent is heard.")

    reason, message = _refusal(spec, terms, joined=joined, silent=hearing.silent, now=now)
    if not reason and hearing.flapped:
        said = f"Its agent fell silent {hearing.flapped} times lately: new work once it is heard for a while."
        reason, message = "Flapping", said
    if not reason and payee_unregistered:
        reason, message = "PayeeUnregistered", "Its payee is not registered: claims wait, new work too."
    schedulable = condition(
        "Schedulable", not reason, reason=reason or "Schedulable", message=message or "It gets new work."
    )
    removed = spec.get("desired") == "Removed"
    generation = provider["metadata"].get("generation") or 0
    return Standing(joined, reachable, schedulable, reason, quote, removed, generation)


def _refusal(spec: JSON, terms: Terms | None, *, joined: JSON, silent: bool, now: int) -> tuple[str, str]:
    """Return why it gets no new work, as reason and sentence; ("", "") when it does."""
    desired = spec.get("desired") or "Active"
    if joined["status"] != "True":
        return joined["reason"], joined["message"]
    if desired != "Active":
        return desired, f"spec.desired is {desired}."
    if silent:
        return "Silent", "Its agent is not heard."
    assert terms is not None
    quote = terms.quote
    if quote is None:
        return "QuoteInvalid", f"Its Quote cannot be used: {terms.problem}"
    for what in ("payee", "signer"):
        if getattr(quote, what).lower() != spec[what].lower():
            return (
                "IdentityChanged",
                f"Its Quote names {what} {getattr(quote, what)}, a hub admin accepted {spec[what]}.",
            )
    if unix_seconds(quote.valid_until) <= now:
        return "QuoteExpired", f"Its Quote was valid until {quote.valid_until}."
    if quote.closed:
        return "Closed", "Its owner has closed the offer."
    return "", ""
