"""Bad input, as a submitter types it: a sentence that says what to change, never a stuck or silent object."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account

from devkit.rig import Rig
from devkit.rig.rpc import Rpc
from devkit.scenario.submitting import GROUP, JOBS, a_job, condition, kubectl, submit, wait_for
from fallow.receipts.messages import AccountAuthorization
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import from_hex

Json = dict[str, Any]


def changed(change: Callable[[Json], object], **spec: Any) -> Json:
    """Return a good job with one thing wrong."""
    job = a_job(2, **spec)
    change(job)
    return job


def refused(rig: Rig, job: Json) -> Json:
    """Submit a job and wait until the hub says that it is not accepted."""
    return wait_for(
        rig,
        submit(rig, job),
        lambda now: condition(now, "Accepted") == "False",
        seconds=20,
        what="to be refused",
    )


def _pod(job: Json) -> Json:
    pod: Json = job["spec"]["template"]["spec"]
    return pod


REFUSED_BY_THE_API_SERVER: dict[str, tuple[Json, str]] = {
    "an unknown field": (changed(lambda job: job["spec"].update(taks=3)), 'unknown field "spec.taks"'),
    "no tasks": (changed(lambda job: job["spec"].update(tasks=0)), "greater than or equal to 1"),
    "negative tasks": (changed(lambda job: job["spec"].update(tasks=-3)), "greater than or equal to 1"),
    "no containers": (changed(lambda job: _pod(job).update(containers=[])), "at least 1 items"),
    "a template without a spec": (
        changed(lambda job: job["spec"]["template"].pop("spec")),
        "spec.template.spec",
    ),
    "a price with a comma": (
        changed(lambda job: job["spec"].update(budget={"maxPricePerTaskHour": "1,80"})),
        "spec.budget.maxPricePerTaskHour",
    ),
    "a price as a number": (
        changed(lambda job: job["spec"].update(budget={"maxPricePerTaskHour": 1.8})),
        "must be of type string",
    ),
    "a negative price": (
        changed(lambda job: job["spec"].update(budget={"maxTotal": "-1"})),
        "spec.budget.maxTotal",
    ),
    "a name too long": (
        changed(lambda job: job["metadata"].update(name="n" * 64)),
        "metadata.name must be at most 63 characters",
    ),
    "a gang too large": (
        changed(lambda job: job["spec"].update(gang=True, tasks=1025)),
        "a gang has at most 1024 tasks",
    ),
    "a misspelt choice": (changed(lambda job: job["spec"].update(billing="Hourly")), "PerTask"),
}


@pytest.mark.parametrize("case", REFUSED_BY_THE_API_SERVER)
def test_apply__when_the_schema_forbids_it__then_kubectl_says_what_to_change(rig: Rig, case: str) -> None:
    job, want = REFUSED_BY_THE_API_SERVER[case]
    answer = kubectl(rig, "apply", "-f", "-", stdin=json.dumps(job))
    assert answer.returncode != 0
    assert want in answer.stderr, answer.stderr


NOT_ACCEPTED: dict[str, tuple[Json, tuple[str, ...]]] = {
    "a host path": (
        changed(lambda job: _pod(job).update(volumes=[{"name": "v", "hostPath": {"path": "/"}}])),
        ("spec.template.spec.volumes[0].hostPath",),
    ),
    "host network and a service account": (
        changed(lambda job: _pod(job).update(hostNetwork=True, serviceAccountName="admin")),
        ("spec.template.spec.hostNetwork", "spec.template.spec.serviceAccountName"),
    ),
    "a misspelt template field": (
        changed(lambda job: _pod(job)["containers"][0].update(comand=["x"])),
        ("spec.template.spec.containers[0].comand",),
    ),
    "privileged": (
        changed(lambda job: _pod(job)["containers"][0].update(securityContext={"privileged": True})),
        ("spec.template.spec.containers[0].securityContext.privileged",),
    ),
    "a secret in the environment": (
        changed(
            lambda job: _pod(job)["containers"][0].update(
                env=[{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
            )
        ),
        ("spec.template.spec.containers[0].env[0].valueFrom",),
    ),
    "GPUs requested without limits": (
        changed(lambda job: _pod(job)["containers"][0].update(resources={"requests": {"nvidia.com/gpu": 1}})),
        ("nvidia.com/gpu", "limits"),
    ),
    "no such quantity": (
        changed(lambda job: _pod(job)["containers"][0].update(resources={"requests": {"cpu": "a lot"}})),
        ("spec.template.spec.containers[0].resources.requests", "a lot"),
    ),
    "a price finer than the token": (
        changed(lambda job: job["spec"].update(budget={"maxTotal": "0.0000001"})),
        ("spec.budget.maxTotal", "6 decimal places"),
    ),
}


@pytest.mark.parametrize("case", NOT_ACCEPTED)
def test_job__when_the_hub_cannot_take_it__then_accepted_is_false_and_names_each_path(
    rig: Rig, case: str
) -> None:
    bad, wants = NOT_ACCEPTED[case]
    job = refused(rig, bad)
    sentence = _message(job, "Accepted")
    for want in wants:
        assert want in sentence, sentence
    assert "Traceback" not in sentence
    assert kubectl(rig, "delete", "computejob", job["metadata"]["name"]).returncode == 0


def test_account__when_it_does_not_exist__then_the_job_says_which(rig: Rig) -> None:
    bad = a_job(1, accountRef={"name": "nobody"})
    job = refused(rig, bad)
    assert "nobody" in _message(job, "Accepted")


def test_account__when_another_signed_for_it__then_is_not_bound_and_the_job_says_so(rig: Rig) -> None:
    """A namespace that charges a stranger's payer: the signature is not the payer's."""
    accounts = f"{GROUP}/namespaces/default/accounts"
    client = rig.client("submitter")
    stolen = client.get(f"{accounts}/default")["spec"]
    stolen["payer"] = "0x" + 40 * "a"
    client.post(
        accounts,
        {
            "apiVersion": "fallow.dev/v1alpha1",
            "kind": "Account",
            "metadata": {"name": "stolen"},
            "spec": stolen,
        },
    )
    client.until(
        "the account to be judged",
        lambda: condition(client.get(f"{accounts}/stolen"), "Bound") == "False",
        seconds=20,
    )
    bad = a_job(1, accountRef={"name": "stolen"})
    job = refused(rig, bad)
    assert "stolen" in _message(job, "Accepted")
    assert job["status"]["counts"]["placed"] == 0
    client.delete(f"{accounts}/stolen")


def test_account__when_its_payer_has_deposited_nothing__then_the_job_says_that_it_cannot_pay(
    rig: Rig,
) -> None:
    """A valid signature of a payer without money: bound, not funded."""
    accounts = f"{GROUP}/namespaces/default/accounts"
    client = rig.client("submitter")
    known = client.get(f"{accounts}/default")["spec"]["authorization"]
    payer = Account.create()
    assert rig.chain is not None
    rpc = Rpc(int(rig.chain["rpc"].rsplit(":", 1)[1]))
    rpc.give(payer.address, ether=1)
    rpc.send(payer, rig.chain["escrow"], "bind(uint96,uint24)", 10**9, 0)
    expiry = int(time.time()) + 3600
    consent = AccountAuthorization(
        hub_id=from_hex(known["hubId"]),
        namespace_uid=known["namespaceUid"],
        payer=payer.address,
        expiry=expiry,
        nonce=1,
    )
    domain = Domain(chain_id=known["chainId"], escrow=known["escrow"], hub_id=from_hex(known["hubId"]))
    authorization = {
        **known,
        "expiresAt": timestamp(expiry),
        "nonce": 1,
        "signature": sign(domain, consent, key=payer),
    }
    spec = {"payer": payer.address, "authorization": authorization}
    thing = {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "Account",
        "metadata": {"name": "poor"},
        "spec": spec,
    }
    client.post(accounts, thing)
    client.until(
        "the account to be bound",
        lambda: condition(client.get(f"{accounts}/poor"), "Bound") == "True",
        seconds=20,
    )
    assert condition(client.get(f"{accounts}/poor"), "Funded") == "False"
    job = refused(rig, a_job(1, accountRef={"name": "poor"}))
    assert "poor" in _message(job, "Accepted")
    client.delete(f"{JOBS}/{job['metadata']['name']}")
    client.delete(f"{accounts}/poor")


def test_budget__when_it_cannot_pay_for_one_task__then_the_job_waits_and_says_how_much_is_missing(
    rig: Rig,
) -> None:
    job = submit(rig, a_job(1, budget={"maxTotal": "0.000001"}))
    job = wait_for(
        rig,
        job,
        lambda now: "maxTotal" in now.get("status", {}).get("message", ""),
        seconds=20,
        what="to wait",
    )
    assert condition(job, "Accepted") == "True"
    assert job["status"]["counts"]["placed"] == 0


def test_requirement__when_no_provider_can_meet_it__then_the_job_says_which_and_stays_pending(
    rig: Rig,
) -> None:
    job = submit(rig, a_job(1, requirements={"acceleratorProducts": ["AMD-MI300*"]}))
    job = wait_for(
        rig,
        job,
        lambda now: "AMD-MI300*" in now.get("status", {}).get("message", ""),
        seconds=20,
        what="to wait",
    )
    assert condition(job, "Accepted") == "True"
    assert condition(job, "Scheduled") == "False"
    assert job["status"]["counts"]["pending"] == 1
    kubectl(rig, "delete", "computejob", job["metadata"]["name"])


def test_update__when_an_immutable_field_changes__then_the_api_server_refuses(rig: Rig) -> None:
    job = submit(rig, a_job(1, suspend=True))
    name = job["metadata"]["name"]
    for patch, want in (
        ({"spec": {"tasks": 5}}, "spec.tasks is immutable"),
        ({"spec": {"taskTimeoutSeconds": 5}}, "spec.taskTimeoutSeconds is immutable"),
        ({"spec": {"accountRef": {"name": "other"}}}, "spec.accountRef is immutable"),
        ({"spec": {"template": {"spec": {"hostname": "a"}}}}, "spec.template is immutable"),
    ):
        answer = kubectl(rig, "patch", "computejob", name, "--type=merge", "-p", json.dumps(patch))
        assert answer.returncode != 0
        assert want in answer.stderr, answer.stderr
    mutable = {"spec": {"suspend": False, "priority": 3, "parallelism": 1, "budget": {"maxTotal": "100"}}}
    assert (
        kubectl(rig, "patch", "computejob", name, "--type=merge", "-p", json.dumps(mutable)).returncode == 0
    )


def test_update__when_one_unknown_template_key_is_swapped_for_another__then_is_refused_too(rig: Rig) -> None:
    bad = a_job(1, suspend=True)
    _pod(bad)["unknownA"] = 1
    name = submit(rig, bad)["metadata"]["name"]
    # One patch that needs no resourceVersion: the hub writes the job's status at the same time.
    swap = [
        {"op": "remove", "path": "/spec/template/spec/unknownA"},
        {"op": "add", "path": "/spec/template/spec/unknownB", "value": 1},
    ]
    answer = kubectl(rig, "patch", "computejob", name, "--type=json", "-p", json.dumps(swap))
    assert answer.returncode != 0
    assert "spec.template is immutable" in answer.stderr, answer.stderr


def _message(job: Json, kind: str) -> str:
    return next(str(entry["message"]) for entry in job["status"]["conditions"] if entry["type"] == kind)
