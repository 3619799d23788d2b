from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.agent.guests import as_first_told, read_guest
from fallow.agent.outcomes import Circumstances, ending_of, never_bound, overdue, vanished
from fallow.resources.ended import Outcome, result_digest
from unit.agent.guest_pods import APod, a_pod, at

CASES: dict[str, tuple[APod, dict[str, Any], str | None, int]] = {
    "a guest that waits for a node has no outcome": (a_pod(node=None), {}, None, 0),
    "a guest that runs has no outcome": (a_pod().running(0), {}, None, 0),
    "exit code 0 is a success": (a_pod().ended(40), {}, "S", 40),
    "an end within the second of the start counts one second": (a_pod().ended(0), {}, "S", 1),
    "a clock that stepped back counts one second": (a_pod().ended(5, started=9), {}, "S", 1),
    "seconds are bounded by the deadline": (a_pod().ended(400), {}, "S", 100),
    "another exit code is its own failure": (a_pod().ended(40, code=3), {}, "F", 40),
    "killed for its memory is its own failure": (
        a_pod().ended(40, code=137, reason="OOMKilled"),
        {},
        "F",
        40,
    ),
    "evicted for its own storage limit is its own failure": (
        a_pod().ended(40, code=137).failed("Evicted", "Pod ephemeral local storage usage exceeds 1Gi"),
        {},
        "F",
        40,
    ),
    "evicted for pressure on the node is reclaimed": (
        a_pod()
        .ended(40, code=137)
        .failed("Evicted", "The node was low on memory")
        .disrupted(39, "TerminationByKubelet"),
        {},
        "R",
        40,
    ),
    "past its deadline is timed out": (a_pod().ended(100, code=143).failed("DeadlineExceeded"), {}, "T", 100),
    "preempted by the member's scheduler is reclaimed": (
        a_pod().ended(41, code=143).deleted(40).disrupted(40),
        {},
        "R",
        41,
    ),
    "a trainer that exits 0 on SIGTERM is reclaimed all the same": (
        a_pod().ended(41, code=0).deleted(40).disrupted(40),
        {},
        "R",
        41,
    ),
    "an end in the second of the disruption counts as disrupted": (
        a_pod().ended(40).deleted(40),
        {},
        "R",
        40,
    ),
    "a kubelet's last delete, without grace, tells that it was told to go": (
        a_pod().ended(30).deleted(33, grace=0),
        {},
        "R",
        30,
    ),
    "an end well before the deletion stands": (a_pod().ended(30).deleted(40, grace=0), {}, "S", 30),
    "a failure well before the deletion stands": (
        a_pod().ended(30, code=3).deleted(40, grace=0),
        {},
        "F",
        30,
    ),
    "killed by a node whose clock is behind is disrupted": (
        a_pod().ended(30, code=143).deleted(40),
        {},
        "R",
        30,
    ),
    "deleted by the owner and still stopping has no outcome": (a_pod().running(0).deleted(40), {}, None, 0),
    "stopped because the hub said so is cancelled": (
        a_pod().ended(42, code=143).deleted(40),
        {"stop_requested": True},
        "C",
        42,
    ),
    "preempted while the hub also wants it stopped is reclaimed": (
        a_pod().ended(42, code=143).deleted(40).disrupted(40),
        {"stop_requested": True},
        "R",
        42,
    ),
    "finished by itself although the hub wants it stopped keeps its own outcome": (
        a_pod().ended(42, code=3),
        {"stop_requested": True},
        "F",
        42,
    ),
    "a gang's member stopped for another's failure shares its fate": (
        a_pod().ended(42, code=143).deleted(40),
        {"gang_fate": Outcome.FAILED},
        "F",
        42,
    ),
    "deleted by the agent past its deadline is timed out": (
        a_pod().ended(107, code=137).deleted(106),
        {"stop_requested": True},
        "T",
        100,
    ),
    "taken with its node by the pod collector is lost": (
        a_pod().running(0).failed("").disrupted(40, "DeletionByPodGC"),
        {},
        "L",
        40,
    ),
    "running on a lost node is lost": (a_pod().running(0), {"node_lost": True}, "L", 60),
    "deleted on a lost node is lost": (a_pod().running(0).deleted(40), {"node_lost": True}, "L", 40),
    "evicted from a lost node is lost": (
        a_pod().ended(41, code=137).deleted(40).disrupted(40, "DeletionByTaintManager"),
        {"node_lost": True},
        "L",
        41,
    ),
    "evicted by an owner's taint from a living node is reclaimed": (
        a_pod().ended(41, code=137).deleted(40).disrupted(40, "DeletionByTaintManager"),
        {},
        "R",
        41,
    ),
    "finished on a node lost since keeps its own outcome": (a_pod().ended(30), {"node_lost": True}, "S", 30),
    "a container whose end the kubelet missed is lost": (
        a_pod().ended(30, code=137, reason="ContainerStatusUnknown"),
        {},
        "L",
        30,
    ),
    "an image that is no image name is unstartable at once": (
        a_pod().waiting("InvalidImageName"),
        {},
        "U",
        0,
    ),
    "an image that cannot be pulled is unstartable after a minute": (
        a_pod().waiting("ImagePullBackOff"),
        {},
        "U",
        0,
    ),
    "creating its container is no failure": (a_pod().waiting("ContainerCreating"), {}, None, 0),
    "a command that does not exist is unstartable": (
        a_pod().ended(0, code=128, reason="StartError"),
        {},
        "U",
        1,
    ),
    "refused by the kubelet is unstartable": (a_pod().failed("UnexpectedAdmissionError"), {}, "U", 0),
    "a node shut down is reclaimed": (a_pod().ended(40, code=137).failed("Terminated"), {}, "R", 40),
    "a kubelet that never confirms a deletion is not waited for for ever": (
        a_pod().waiting("ContainerCreating").deleted(-70, grace=5),
        {"stop_requested": True},
        "C",
        0,
    ),
    "deleted before it had a node has no outcome: it is handed back": (
        a_pod(node=None).deleted(3),
        {},
        None,
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_outcome__by_the_precedence__is(case: str) -> None:
    pod, facts, want, want_seconds = CASES[case]
    ending = ending_of(pod.guest(), Circumstances(now=at(60), **facts))
    if want is None:
        assert ending is None
    else:
        assert ending is not None
        assert (ending.ended.outcome.value, ending.ended.seconds) == (want, want_seconds)
        assert (ending.ended.index, ending.ended.attempt) == (7, 0)


def test_outcome__image_pull_fails_for_half_a_minute__is_awaited() -> None:
    assert ending_of(a_pod().waiting("ErrImagePull").guest(), Circumstances(now=at(30))) is None


def test_ending__success__carries_result_and_digest_and_no_words() -> None:
    ending = ending_of(a_pod().ended(40, message="loss=0.1").guest(), Circumstances(now=at(60)))
    assert ending is not None
    assert (ending.result, ending.ended.digest) == ("loss=0.1", result_digest("loss=0.1"))
    assert ending.last_words is None


def test_ending__failure__says_code_and_message_within_bounds() -> None:
    ending = ending_of(a_pod().ended(40, code=3, message="é" * 900).guest(), Circumstances(now=at(60)))
    assert ending is not None
    assert ending.last_words is not None
    assert (ending.last_words.index, ending.last_words.outcome, ending.last_words.exit_code) == (
        7,
        "Failed",
        3,
    )
    assert ending.last_words.message.startswith("éé")
    assert len(ending.last_words.message.encode()) <= 512


def test_digest__several_containers__is_that_of_the_specs_first() -> None:
    pod = a_pod().ended(40, message="mine")
    pod.raw["spec"]["containers"].append({"name": "aside"})
    pod.raw["status"]["containerStatuses"].insert(
        0,
        {
            "name": "aside",
            "state": {
                "terminated": {
                    "startedAt": "2026-03-01T11:59:50Z",
                    "finishedAt": "2026-03-01T12:00:50Z",
                    "exitCode": 0,
                }
            },
        },
    )
    ending = ending_of(pod.guest(), Circumstances(now=at(60)))
    assert ending is not None
    assert (ending.result, ending.ended.seconds) == ("mine", 60)


def test_seconds__initialisation_ran_first__count_from_its_start() -> None:
    pod = a_pod().ended(40, started=30)
    pod.raw["status"]["initContainerStatuses"] = [
        {
            "name": "fetch",
            "state": {
                "terminated": {
                    "startedAt": "2026-03-01T12:00:05Z",
                    "finishedAt": "2026-03-01T12:00:30Z",
                    "exitCode": 0,
                }
            },
        }
    ]
    ending = ending_of(pod.guest(), Circumstances(now=at(60)))
    assert ending is not None
    assert ending.ended.seconds == 35


def test_outcome__initialisation_failed__is_its_own_failure_without_result() -> None:
    pod = a_pod().waiting("PodInitializing").failed("")
    pod.raw["status"]["initContainerStatuses"] = [
        {
            "name": "fetch",
            "state": {
                "terminated": {
                    "startedAt": "2026-03-01T12:00:05Z",
                    "finishedAt": "2026-03-01T12:00:30Z",
                    "exitCode": 4,
                    "message": "no such bucket",
                }
            },
        }
    ]
    ending = ending_of(pod.guest(), Circumstances(now=at(60)))
    assert ending is not None
    assert (ending.ended.outcome, ending.ended.seconds, ending.result) == (Outcome.FAILED, 25, "")
    assert ending.last_words is not None
    assert (ending.last_words.exit_code, ending.last_words.message) == (4, "no such bucket")


def test_never_bound__deleted_without_a_node__is_true() -> None:
    assert never_bound(a_pod(node=None).deleted(3).guest())
    assert not never_bound(a_pod(node="n1").deleted(3).guest())
    assert not never_bound(a_pod(node=None).guest())


def test_overdue__kubelet_let_the_deadline_pass__is_true_after_the_slack() -> None:
    guest = a_pod().running(0).guest()
    assert not overdue(guest, now=at(104))
    assert overdue(guest, now=at(105))


def test_vanished__still_ran_when_last_seen__is_lost() -> None:
    ending = vanished(a_pod().running(0).guest(), Circumstances(now=at(60)))
    assert (ending.ended.outcome, ending.ended.seconds) == (Outcome.LOST, 60)


def test_vanished__had_been_stopped_for_the_hub__is_cancelled() -> None:
    ending = vanished(a_pod().running(0).deleted(40).guest(), Circumstances(now=at(60), stop_requested=True))
    assert (ending.ended.outcome, ending.ended.seconds) == (Outcome.CANCELLED, 40)


def test_vanished__had_succeeded__keeps_its_success() -> None:
    ending = vanished(a_pod().ended(40, message="x").guest(), Circumstances(now=at(60)))
    assert (ending.ended.outcome, ending.result) == (Outcome.SUCCEEDED, "x")


def test_deletion__moved_by_the_kubelets_last_delete__counts_from_when_it_was_first_seen() -> None:
    seen = read_guest(a_pod().running(0).deleted(20).raw)
    late = read_guest(a_pod().ended(40).deleted(70, grace=0).raw)
    assert as_first_told(late, seen).delete_requested_at == at(20)
    assert as_first_told(late, None).delete_requested_at == at(70)
    assert as_first_told(seen, late).delete_requested_at == at(20)
    other = replace(seen, uid="another")
    assert as_first_told(late, other).delete_requested_at == at(70)
