"""Checks of one claim or receipt by somebody who trusts neither hub nor settler: pure.

Written against the formats of `docs/money.md` and `fallow.receipts` alone, not with the settler's
own checks: a mistake there must not repeat itself here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fallow.cli.claim_evidence import Evidence, Work, work_of_claim
from fallow.cli.proofs import Place, Report
from fallow.cli.receipt_proofs import check_place, check_signed
from fallow.errors import FallowError
from fallow.receipts.attempts import PAYABLE
from fallow.receipts.charging import Charged, charged, longest_attempt
from fallow.receipts.epochs import claim_id
from fallow.receipts.requests import effective_requests
from fallow.receipts.words import to_hex
from fallow.resources.elapsed import parse_all
from fallow.resources.ended import Ended
from fallow.resources.money import parse_amount
from fallow.resources.paymentclaim import PaymentClaimSpec
from fallow.resources.ranges import EMPTY, IndexRanges, parse_optional


def check_claim(raw: Mapping[str, Any], place: Place, evidence: Evidence, report: Report) -> None:
    """Check a claim's spec (as on the wire, or in a bundle) by itself."""
    try:
        spec = PaymentClaimSpec.model_validate(raw)
        work = work_of_claim(spec, evidence)
    except (ValidationError, FallowError, ValueError) as error:
        report.refuse("Malformed", f"The claim cannot be read: {str(error).splitlines()[0]}.")
        return
    if check_place(work, place, report):
        check_signed(work, place, report)
        _check_claimed(spec, work, place, report)
        _check_against_placement(work, report)


def check_receipt(work: Work, place: Place, report: Report) -> None:
    """Check a receipt: where it counts, who signed it over what, and who agreed to pay."""
    if not check_place(work, place, report):
        return
    check_signed(work, place, report)
    _check_against_placement(work, report)
    limit = work.terms.task_timeout_seconds
    for one in work.covered:
        if one.outcome in PAYABLE and one.seconds > limit:
            report.refuse("DurationInflated", f"Attempt {one} is longer than the time limit of {limit} s.")
            return


def _check_claimed(spec: PaymentClaimSpec, work: Work, place: Place, report: Report) -> None:
    terms = spec.terms
    if spec.job.namespace != terms.account_namespace:
        report.refuse(
            "StrangersPayer",
            f"A job of namespace {spec.job.namespace} charges the account of {terms.account_namespace}.",
        )
    try:
        wanted_id = to_hex(claim_id(place.domain.hub_id, spec.placement.uid, spec.sequence))
    except ValueError as error:
        report.refuse("Malformed", f"The placement's UID is none: {error}.")
        return
    if spec.claim_id != wanted_id:
        report.refuse("WrongClaimId", f"The id of this placement's claim {spec.sequence} is {wanted_id}.")
    ended = [Ended.parse(text) for text in spec.ended]
    if len({one.index for one in ended}) != len(ended):
        report.refuse("IndexTwice", "An index is claimed twice.")
    for one in ended:
        if one.attempt != spec.attempt:
            report.refuse("WrongAttempt", f"{one} is no attempt number {spec.attempt}.")
        elif one.outcome not in PAYABLE:
            report.refuse("NotPayable", f"{one} did not end in a way that is paid.")
    if work.elapsed and terms.billing != "PerInterval":
        report.refuse("NotPayable", "Elapsed time is paid with billing PerInterval only.")
    _check_tasks(spec, work, report)
    _check_sums(spec, work, ended, report)


def _check_tasks(spec: PaymentClaimSpec, work: Work, report: Report) -> None:
    strangers = _indexes(work) - parse_optional(spec.tasks)
    if strangers:
        report.refuse("IndexOutsidePlacement", f"Index {strangers} is not among those placed: {spec.tasks}.")


def _check_sums(spec: PaymentClaimSpec, work: Work, ended: list[Ended], report: Report) -> None:
    """Check seconds and amount: what is paid is bounded by what was signed, and by what was observed."""
    terms, decimals = spec.terms, spec.terms.token_decimals
    assert work.placed_at is not None
    longest = longest_attempt(
        placed_at=work.placed_at,
        seen_until=work.finished_at or work.placed_at,
        timeout_seconds=terms.task_timeout_seconds,
    )
    sums = charged(ended, parse_all(spec.elapsed), longest=longest)
    if spec.seconds > sums.seconds:
        report.refuse(
            "DurationInflated",
            f"{spec.seconds} s are charged; with no attempt longer than {longest} s, what the hub observed "
            f"or the time limit allows, they are {sums.seconds} s.",
        )
    price = parse_amount(terms.price_per_task_hour, decimals=decimals)
    amount = parse_amount(spec.amount, decimals=decimals)
    worth = Charged(spec.seconds, 0, sums.before).amount(price)
    before = Charged(sums.before, 0, 0).amount(price)
    signed = parse_amount(spec.receipt.cumulative_amount, decimals=decimals)
    if amount > worth or before + amount > signed:
        report.refuse("AmountInflated", f"{spec.amount} is more than seconds × price, or than was signed.")
    elif amount < worth:
        report.refuse("AmountShort", f"{spec.seconds} s cost {work.amount(worth)}, not {spec.amount}.")
    elif report.verified:
        what = "Elapsed time and attempts" if work.elapsed else f"{len(ended)} attempts"
        after = f", after {sums.before} s that were charged before" if sums.before else ""
        report.prove(
            f"{what} are charged: {spec.seconds} s × {terms.price_per_task_hour} an hour "
            f"= {spec.amount}{after}."
        )


def _check_against_placement(work: Work, report: Report) -> None:
    """Compare with the Placement object: its tasks, and the requests that its pod really makes."""
    placement = work.evidence.placement
    if placement is None:
        report.leave_open("That the pod made the requests that were priced: give --placement.")
        report.leave_open("That the charged indexes were placed there: give --placement.")
        return
    try:
        spec = placement["spec"]
        if placement["metadata"]["uid"] != work.placement_uid:
            report.refuse("ForeignPlacement", "The given Placement has another UID than the claim's.")
            return
        tasks = EMPTY
        for one in spec["assignments"]:
            tasks |= IndexRanges.parse(one["tasks"])
        released = parse_optional(spec.get("released"))
        wanted = effective_requests(spec["template"]["spec"])
    except (KeyError, TypeError, FallowError, ValueError) as error:
        report.refuse("Malformed", f"The given Placement cannot be read: {error!r}.")
        return
    indexes = _indexes(work)
    if strangers := indexes - tasks:
        report.refuse("IndexOutsidePlacement", f"Index {strangers} was never placed there, only {tasks}.")
    else:
        report.prove(f"All indexes of the receipt are among those placed there: {tasks}.")
    if released & indexes:
        report.leave_open(f"Tasks {released} had been taken away again; charged ones would be wrong.")
    said = work.terms.requests
    priced = (said.cpu_millicores, said.memory_mib, dict(said.accelerators))
    if priced != (wanted.cpu_millicores, wanted.memory_mib, dict(wanted.devices)):
        report.refuse("PriceBelowQuote", "The priced requests are not those of the placed pod.")
    else:
        report.prove("The priced requests are those of the placed pod.")


def _indexes(work: Work) -> IndexRanges:
    found = IndexRanges.of(one.index for one in work.covered)
    for part in work.elapsed:
        found |= part.tasks
    return found
