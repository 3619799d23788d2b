"""The agent's own check of a Placement: it runs nothing because a hub said so.

Two questions, asked apart. Do the terms hold: are they under this provider's own signed Quote, at the price
that it gives, and authorized by the payer? That never changes for a placement and is asked once. Does the
owner's Offer, as it is now, allow it? That can change at any time; what it stops allowing has to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from fallow.agent.isolation import isolation_for, offered_isolations
from fallow.agent.quoting import Identity
from fallow.agent.storage import too_much_storage
from fallow.errors import FallowError
from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.pricing import price_per_task_hour
from fallow.receipts.requests import effective_requests
from fallow.receipts.statements import (
    NotThePayersKey,
    check_authorization,
    check_quote,
    quoted_price,
    unit_prices,
)
from fallow.receipts.typed_data import SignatureError
from fallow.receipts.words import checksummed, to_hex
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.offer import OfferSpec
from fallow.resources.placement import PlacementSpec
from fallow.resources.terms import Terms

CLOCK_SLACK = timedelta(seconds=30)
"""The hub's clock stamps a Placement, ours the Quote's end."""
ANYONE = "*"

POD_FIELDS = frozenset(
    {
        "containers", "initContainers", "volumes", "securityContext", "terminationGracePeriodSeconds",
        "restartPolicy", "automountServiceAccountToken", "enableServiceLinks",
    }
)  # fmt: skip
CONTAINER_FIELDS = frozenset(
    {
        "name", "image", "imagePullPolicy", "command", "args", "workingDir", "env", "ports", "resources",
        "volumeMounts", "terminationMessagePath", "terminationMessagePolicy", "securityContext", "stdin",
        "stdinOnce", "tty", "restartPolicy", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle",
    }
)  # fmt: skip
"""What a guest may say about itself. What is not known here is refused: a field that a newer Kubernetes
gives a meaning must not slip through the owner's cage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a placement does not run here; one word and one sentence."""

    reason: str
    message: str


class StillAsking(Exception):  # noqa: N818 - says what is the case, as in fallow.errors
    """The payer is no key, and its contract has not answered yet: look again when it has."""


AskContract = Callable[[ContractSignature], str]
"""Returns why a payer that may be a contract does not agree, "" when it does; raises StillAsking."""


def _no_contracts(asked: ContractSignature) -> str:
    return f"no key of {asked.account} signed"


def terms_refusal(
    spec: PlacementSpec,
    *,
    created_at: datetime,
    products: Mapping[str, str],
    identity: Identity,
    ask_contract: AskContract = _no_contracts,
) -> Refusal | None:
    """Return why these terms bind nobody here, or None when they hold.

    `products` maps each node of the member to its accelerators' product. The answer depends on nothing that
    changes, but for nodes that come and go: ask once per placement. Raises StillAsking while a payer that is
    a contract has not answered.
    """
    terms = spec.terms
    try:
        problem = (
            _wrong_place(terms, identity)
            or _bad_quote(terms, identity, created_at=created_at)
            or _bad_price(spec, products=products)
            or _too_long(terms)
            or too_much_storage(
                spec.template.wire()["spec"], most_mib=terms.quote.limits.max_ephemeral_storage_mib
            )
            or _unwanted_copies(terms)
            or _uncaged(spec)
            or _bad_authorization(terms, identity, created_at=created_at, ask_contract=ask_contract)
        )
    except (FallowError, ValueError) as error:
        problem = f"the terms cannot be read: {error}"
    return Refusal(reason="Refused", message=problem) if problem else None


def offer_refusal(spec: PlacementSpec, offer: OfferSpec) -> Refusal | None:
    """Return why the owner's Offer, as it is now, does not allow this job, or None."""
    payer = spec.terms.account.payer.lower()
    if _names(offer.accounts_refused, payer):
        return Refusal(
            reason="OfferClosed", message=f"The Offer refuses the account {spec.terms.account.payer}."
        )
    if not _names(offer.accounts_allowed, payer):
        return Refusal(
            reason="OfferClosed", message=f"The Offer does not allow the account {spec.terms.account.payer}."
        )
    for image in images(spec):
        if not any(fnmatchcase(image, pattern) for pattern in offer.images):
            return Refusal(reason="OfferClosed", message=f"The Offer does not allow the image {image}.")
        if offer.image_digests and "@sha256:" not in image:
            return Refusal(
                reason="OfferClosed", message=f"The Offer wants images by digest, {image} has none."
            )
    if isolation_for(spec.isolation, offered_isolations(offer)) is None:
        return Refusal(
            reason="OfferClosed", message=f"The Offer gives no isolation like {spec.isolation or 'any'}."
        )
    return None


def images(spec: PlacementSpec) -> tuple[str, ...]:
    """Return every image that a placement's pods would pull."""
    pod = spec.template.wire()["spec"]
    return tuple(c.get("image") or "" for c in [*(pod.get("initContainers") or ()), *pod["containers"]])


def _names(patterns: Iterable[str], payer: str) -> bool:
    return any(pattern == ANYONE or pattern.lower() == payer for pattern in patterns)


def _wrong_place(terms: Terms, identity: Identity) -> str:
    domain = identity.domain
    for what, said, ours in (
        ("provider", terms.provider, identity.provider),
        ("hub", terms.hub_id, to_hex(domain.hub_id)),
        ("chain", str(terms.chain_id), str(domain.chain_id)),
        ("escrow", checksummed(terms.escrow), checksummed(domain.escrow)),
        ("token", checksummed(terms.token), checksummed(identity.token)),
        ("token's decimal places", str(terms.token_decimals), str(identity.token_decimals)),
    ):
        if said != ours:
            return f"the terms are for {what} {said}, not {ours}"
    return ""


def _bad_quote(terms: Terms, identity: Identity, *, created_at: datetime) -> str:
    quote = terms.quote
    if quote.provider != identity.provider or checksummed(quote.signer) != identity.signer:
        return "the Quote is not this provider's"
    if checksummed(quote.payee) != checksummed(identity.payee):
        return f"the Quote pays {quote.payee}, not {identity.payee}"
    try:
        check_quote(quote, domain=identity.domain)
    except SignatureError as error:
        return f"the Quote's signature does not hold: {error}"
    if quote.closed:
        return "the Quote is a closed one"
    if created_at > datetime.fromisoformat(quote.valid_until) + CLOCK_SLACK:
        return f"the Quote was valid until {quote.valid_until}, before the Placement was made"
    return ""


def _bad_authorization(
    terms: Terms, identity: Identity, *, created_at: datetime, ask_contract: AskContract
) -> str:
    given = terms.account.authorization
    if given is None:
        return "" if identity.domain.chain_id == 0 else "the account has no authorization by its payer"
    if created_at >= datetime.fromisoformat(given.expires_at):
        return f"the payer's authorization expired at {given.expires_at}"
    try:
        # The hub knows its namespaces; here it counts that the payer signed for one of this very hub.
        check_authorization(
            terms.account,
            domain=identity.domain,
            namespace_uid=given.namespace_uid,
            decimals=identity.token_decimals,
        )
    except NotThePayersKey as error:
        why = ask_contract(error.asked)
        return f"the payer's authorization does not hold: {why}" if why else ""
    except SignatureError as error:
        return f"the payer's authorization does not hold: {error}"
    return ""


def _bad_price(spec: PlacementSpec, *, products: Mapping[str, str]) -> str:
    terms = spec.terms
    decimals = terms.token_decimals
    requests = effective_requests(spec.template.wire()["spec"])
    said = terms.requests
    if (said.cpu_millicores, said.memory_mib, dict(said.accelerators)) != (
        requests.cpu_millicores, requests.memory_mib, dict(requests.devices),
    ):  # fmt: skip
        return "the terms count other requests than the template's pod makes"
    agreed = parse_amount(terms.price_per_task_hour, decimals=decimals)
    for node in sorted({a.node for a in spec.assignments}):
        if node not in products:
            return f"there is no node {node} here"
        prices = unit_prices(
            terms.quote.prices, resources=requests.devices, product=products[node], decimals=decimals
        )
        ours = price_per_task_hour(requests, prices)
        if ours != agreed:
            return (
                f"a task-hour on {node} costs {format_amount(ours, decimals=decimals)} by the Quote, "
                f"not {terms.price_per_task_hour}"
            )
    if quoted_price(terms) != agreed:  # whoever checks the pay knows the product from the terms alone
        return f"the terms name product {terms.product!r}, which costs another price by the Quote"
    return ""


def _too_long(terms: Terms) -> str:
    if (terms.billing == "PerInterval") != (terms.interval_seconds is not None):
        return "interval billing and a length of intervals go together"
    longest = terms.quote.limits.max_run_seconds
    if terms.task_timeout_seconds > longest:
        return f"a task may run {terms.task_timeout_seconds} s, the Quote allows {longest} s"
    return ""


def _unwanted_copies(terms: Terms) -> str:
    if terms.replicas > 1 and not terms.quote.replicate:
        return "its tasks are replicated, and the Quote takes no part in that"
    return ""


def _uncaged(spec: PlacementSpec) -> str:
    """Name the first field of the template that the cage does not know."""
    pod: dict[str, Any] = spec.template.wire()["spec"]
    for name in pod:
        if name not in POD_FIELDS:
            return f"template.spec.{name} is not allowed for guests"
    for volume in pod.get("volumes") or ():
        if set(volume) - {"name", "emptyDir"}:
            return f"volume {volume.get('name')} is not an emptyDir"
    for container in [*(pod.get("initContainers") or ()), *pod["containers"]]:
        where = f"container {container.get('name')}"
        for name in container:
            if name not in CONTAINER_FIELDS:
                return f"{where}: {name} is not allowed for guests"
        for port in container.get("ports") or ():
            if port.get("hostPort") or port.get("hostIP"):
                return f"{where}: host ports are not allowed for guests"
        for variable in container.get("env") or ():
            if set(variable.get("valueFrom") or {}) - {"fieldRef", "resourceFieldRef"}:
                return f"{where}: variable {variable.get('name')} may not come from a Secret or ConfigMap"
        security = container.get("securityContext") or {}
        if security.get("privileged") or security.get("allowPrivilegeEscalation"):
            return f"{where}: privileges are not given to guests"
    return ""
