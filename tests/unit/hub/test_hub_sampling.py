"""Samples of new providers' work: which tasks, once each, what they found, and nothing waits for them."""

from __future__ import annotations

import hashlib
from typing import Any

from fallow.hub.records import Tally
from fallow.hub.sampling import SAMPLE_DIGEST, SAMPLE_OF, Sampling, is_chosen
from fallow.resources.ended import Ended, Outcome
from fallow.settings import TrustSettings
from unit.hub.builders import a_job, placed
from unit.hub.desks import Outbox, a_desk, furnish

JSON = dict[str, Any]
DIGEST = hashlib.sha256(b"result").digest()


def a_sampling(**trust: Any) -> tuple[Sampling, Outbox]:
    desk, outbox, _ = a_desk()
    furnish(desk)
    given = TrustSettings(sample_share=1.0, **trust)
    desk.settings = desk.settings.model_copy(update={"trust": given})
    return Sampling(desk), outbox


def done(*digests: bytes, **fields: Any) -> Any:
    reports = [str(Ended(at, 0, 5, Outcome.SUCCEEDED, digest)) for at, digest in enumerate(digests)]
    return placed(f"0-{len(digests) - 1}", reports=reports, state="Finished", **fields)


def test_made__when_a_new_provider_ended_tasks__then_each_runs_once_more_at_another_owner() -> None:
    sampling, outbox = a_sampling()
    job = a_job(tasks=2, priority=7, taskTimeoutSeconds=60)
    assert not sampling.made(done(DIGEST, b""), job)
    (sample,) = outbox.samples
    assert sample["metadata"]["namespace"] == "fallow-samples"
    assert sample["metadata"]["annotations"] == {SAMPLE_OF: "aurora", SAMPLE_DIGEST: DIGEST.hex()}
    spec = sample["spec"]
    assert (spec["tasks"], spec["firstIndex"], spec["taskTimeoutSeconds"]) == (1, 0, 60)
    assert spec["template"] == job["spec"]["template"]
    assert spec["requirements"]["excludeProviders"] == ["aurora"]
    assert spec["priority"] < 0


def test_made__when_created_or_refused_for_good__then_nothing_waits_for_it() -> None:
    sampling, outbox = a_sampling()
    assert not sampling.made(done(DIGEST), a_job())
    outbox.sampled[0]()
    assert sampling.made(done(DIGEST), a_job())
    assert len(outbox.samples) == 1


def test_made__when_off_or_the_provider_is_known__then_there_are_none() -> None:
    for trust in ({"sample_share": 0.0}, {"settled_amount": "0"}):
        desk, outbox, _ = a_desk()
        furnish(desk)
        desk.settings = desk.settings.model_copy(
            update={"trust": TrustSettings(**({"sample_share": 1.0} | trust))}
        )
        assert Sampling(desk).made(done(DIGEST), a_job())
        assert not outbox.samples


def test_made__of_a_sample_itself__then_there_is_none() -> None:
    sampling, outbox = a_sampling()
    job = a_job()
    job["metadata"] |= {"namespace": "fallow-samples", "annotations": {SAMPLE_OF: "borealis"}}
    assert sampling.made(done(DIGEST), job)
    assert not outbox.samples


def test_found__when_the_result_is_the_same__then_the_sampled_provider_agreed() -> None:
    sampling, _ = a_sampling()
    sample = a_job()
    sample["metadata"] |= {
        "namespace": "fallow-samples",
        "annotations": {SAMPLE_OF: "borealis", SAMPLE_DIGEST: DIGEST.hex()},
    }
    assert sampling.found(done(DIGEST), sample) == ("borealis", Tally(agreed=1))
    assert sampling.found(done(b"x" * 32), sample) == ("borealis", Tally(disagreed=1))
    assert sampling.found(placed("0", state="Finished"), sample) is None


def test_found__when_a_submitter_writes_such_annotations__then_they_mean_nothing() -> None:
    sampling, _ = a_sampling()
    job = a_job()
    job["metadata"]["annotations"] = {SAMPLE_OF: "borealis", SAMPLE_DIGEST: "00"}
    assert sampling.found(done(DIGEST), job) is None


def test_is_chosen__over_many_tasks__is_about_the_share_and_always_the_same() -> None:
    chosen = [index for index in range(2000) if is_chosen("job", index, share=0.1)]
    assert 140 < len(chosen) < 260
    assert chosen == [index for index in range(2000) if is_chosen("job", index, share=0.1)]
