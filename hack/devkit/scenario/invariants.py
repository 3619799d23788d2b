"""What must hold whatever happened (DESIGN.md section 6), asserted from API servers and chain."""

from __future__ import annotations

from collections import Counter

from devkit.rig import Rig
from devkit.rig.chain import credits_and_debits
from devkit.scenario.pod_log import PodLog
from devkit.scenario.submitting import GROUP, Json, claims_of
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import parse_amount


def assert_each_index_succeeded_and_was_paid_once(rig: Rig, job: Json) -> None:
    """I1, from the claims: no attempt twice, one paid success for each index."""
    attempts: list[tuple[int, int]] = []
    successes: list[int] = []
    for claim in claims_of(rig, job):
        for text in claim["spec"]["ended"]:
            ended = Ended.parse(text)
            attempts.append((ended.index, ended.attempt))
            if ended.outcome is Outcome.SUCCEEDED:
                successes.append(ended.index)
    assert len(attempts) == len(set(attempts)), "an attempt was claimed twice"
    assert sorted(successes) == list(range(job["spec"]["tasks"]))


def assert_money_is_conserved(rig: Rig) -> None:
    """I4: what all payees were credited = what all payers were debited = the sum of settled claims."""
    claims = rig.client("hub_admin").get(f"{GROUP}/paymentclaims")["items"]
    settled = [claim for claim in claims if claim.get("status", {}).get("state") == "Settled"]
    total = sum(parse_amount(claim["spec"]["amount"], decimals=6) for claim in settled)
    credited, debited = credits_and_debits(
        rig,
        payees={claim["spec"]["terms"]["quote"]["payee"] for claim in settled},
        payers={claim["spec"]["terms"]["account"]["payer"] for claim in settled},
    )
    assert sum(credited.values()) == total
    assert sum(debited.values()) == total
    by_payee: dict[str, int] = {}
    for claim in settled:
        payee = claim["spec"]["terms"]["quote"]["payee"].lower()
        by_payee[payee] = by_payee.get(payee, 0) + parse_amount(claim["spec"]["amount"], decimals=6)
    assert by_payee == credited


def assert_nothing_is_paid_twice(rig: Rig) -> None:
    """I1 over all jobs: each attempt in at most one claim, each index with at most one paid success."""
    attempts: Counter[tuple[str, int, int]] = Counter()
    successes: Counter[tuple[str, int]] = Counter()
    for claim in rig.client("hub_admin").get(f"{GROUP}/paymentclaims")["items"]:
        uid = claim["spec"]["job"]["uid"]
        for text in claim["spec"]["ended"]:
            ended = Ended.parse(text)
            attempts[uid, ended.index, ended.attempt] += 1
            if ended.outcome is Outcome.SUCCEEDED:
                successes[uid, ended.index] += 1
    assert max(attempts.values(), default=0) <= 1, attempts.most_common(3)
    assert max(successes.values(), default=0) <= 1, successes.most_common(3)


def assert_no_node_was_ever_overfull(log: PodLog, *, gpus_per_node: int) -> None:
    """Never more GPUs in use on a node than it has, at any event the member's API server ever sent."""
    most = log.most_gpus_in_use()
    assert max(most.values(), default=0) <= gpus_per_node, most
