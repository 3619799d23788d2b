"""What the scheduler is told about who holds what, and until when."""

from __future__ import annotations

from typing import Any

from fallow.hub import sharing
from fallow.hub.placements import most_of
from fallow.hub.view import HubView
from fallow.settings import SharingSettings
from unit.hub.builders import CREATED, CREATED_UNIX, GPU, a_job, ended
from unit.hub.test_hub_snapshots import a_claim, a_view, live

HOUR = 3600
ACCOUNT = "default/default"


def test_running__slots_of_a_placement__end_when_its_time_outs_have_run_out() -> None:
    view = a_view(live("p", tasks="0-5", slots=2))
    (one,) = sharing.running(view, now=CREATED_UNIX)
    (placed,) = view.placed["uid-of-job"].values()
    assert one.slots == 2
    assert dict(one.request)[GPU] == 1
    assert one.ends_at == CREATED_UNIX + 3 * placed.timeout_seconds  # six tasks, two at once


def test_running__placement_over_its_time__ends_a_moment_ahead() -> None:
    view = a_view(live("p"))
    (one,) = sharing.running(view, now=CREATED_UNIX + 10**7)
    assert one.ends_at > CREATED_UNIX + 10**7


def test_accounts__what_live_placements_hold__is_counted_to_theirs_only() -> None:
    view = a_view(live("p", tasks="0-5", slots=2))
    mine, other = sharing.accounts(view, [ACCOUNT, "other/other"], SharingSettings(), now=CREATED_UNIX)
    assert mine.key == ACCOUNT
    assert dict(mine.held)[GPU] == 2
    assert other.held == ()


def test_quotas__of_account_and_namespace__leave_what_is_not_held() -> None:
    settings = SharingSettings(accelerators_per_account=8, accelerators_per_namespace=1)
    view = a_view(live("p", tasks="0-5", slots=2))
    left = {quota.key: quota.accelerators_left for quota in sharing.quotas(view, [ACCOUNT], settings)}
    assert left == {f"account:{ACCOUNT}": 6, "namespace:default": 0}
    assert sharing.quota_keys(view, ACCOUNT, SharingSettings()) == ()


def a_paid_claim(seconds: int, *, began: str = CREATED, name: str = "c", of: str = "gone") -> tuple[str, Any]:
    kind, claim = a_claim("1")
    claim["metadata"] |= {"name": name, "uid": name}
    claim["spec"] |= {"seconds": seconds, "observations": {"placedAt": began}, "placement": {"uid": of}}
    claim["spec"]["terms"]["requests"] = {"cpuMillicores": 2000, "accelerators": {GPU: 4}}
    return kind, claim


def used(view: HubView, *, now: int = CREATED_UNIX, half_life: float = 7 * 86_400) -> dict[str, float]:
    settings = SharingSettings(half_life_seconds=half_life)
    (account,) = sharing.accounts(view, [ACCOUNT], settings, now=now)
    return dict(account.used)


def test_accounts__after_a_restart__claims_tell_what_was_used_and_it_decays() -> None:
    view = a_view(a_paid_claim(100))
    assert used(view)[GPU] == 400
    assert used(view, now=CREATED_UNIX + 2 * HOUR, half_life=HOUR)[GPU] == 100


def test_accounts__when_a_placement_is_claimed__then_its_seconds_count_once() -> None:
    view = a_view(live("p", reports=[ended(0, seconds=100)]))
    assert used(view)[GPU] == 100
    _kind, claim = a_paid_claim(100, of="uid-of-p")
    claim["spec"]["terms"]["requests"] = {"accelerators": {GPU: 1}}
    claim["spec"]["job"]["uid"] = "uid-of-job"
    view.claims.apply(claim)
    assert used(view)[GPU] == 100
    view.claims.forget(claim)
    assert used(view)[GPU] == 100


def a_namespace(**annotations: str) -> tuple[str, Any]:
    given = {f"fallow.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return "namespaces", {
        "metadata": {"name": "default", "uid": "ns", "resourceVersion": "1", "annotations": given}
    }


def test_grants__of_a_namespace__give_weight_quota_and_spend() -> None:
    view = a_view(
        a_namespace(weight="3", max_accelerators="4", max_spend_per_day="2.5"),
        live("p", tasks="0-5", slots=2),
    )
    (account,) = sharing.accounts(view, [ACCOUNT], SharingSettings(), now=CREATED_UNIX)
    assert account.weight == 3.0
    (quota,) = sharing.quotas(view, [ACCOUNT], SharingSettings())
    assert (quota.key, quota.accelerators_left, quota.name) == (
        "namespace:default",
        2,
        "the quota of namespace default",
    )
    (purse,) = sharing.spend_purses(view, ACCOUNT, now=CREATED_UNIX)
    (placed,) = view.placed["uid-of-job"].values()
    assert purse.available == max(0, 2_500_000 - most_of(placed))
    assert purse.name == "the daily quota of namespace default"


def test_grants__of_one_account__hold_for_that_one_only() -> None:
    kind, namespace = a_namespace(weight="2")
    namespace["metadata"]["annotations"] |= {
        "fallow.dev/weight.default": "5",
        "fallow.dev/max-accelerators.other": "1",
    }
    view = a_view((kind, namespace))
    mine, other = sharing.accounts(view, [ACCOUNT, "default/other"], SharingSettings(), now=CREATED_UNIX)
    assert (mine.weight, other.weight) == (5.0, 2.0)
    assert sharing.quota_keys(view, ACCOUNT, SharingSettings()) == ()
    assert sharing.quota_keys(view, "default/other", SharingSettings()) == ("account:default/other",)


def test_grants__that_cannot_be_read__grant_nothing() -> None:
    view = a_view(a_namespace(weight="many", max_accelerators="-1", max_spend_per_day="a lot"))
    (account,) = sharing.accounts(view, [ACCOUNT], SharingSettings(), now=CREATED_UNIX)
    assert account.weight == 1.0
    assert [quota.accelerators_left for quota in sharing.quotas(view, [ACCOUNT], SharingSettings())] == [0]
    assert [purse.available for purse in sharing.spend_purses(view, ACCOUNT, now=CREATED_UNIX)] == [0]


def test_spend__claims_of_the_day_and_reservations__count_for_all_accounts_of_the_namespace() -> None:
    view = a_view(a_namespace(max_spend_per_day="10"), a_claim("3"), live("p"))
    (placed,) = view.placed["uid-of-job"].values()
    (purse,) = sharing.spend_purses(view, "default/another", now=CREATED_UNIX + 60)
    assert purse.available == 10_000_000 - 3_000_000 - most_of(placed)
    (later,) = sharing.spend_purses(view, "default/another", now=CREATED_UNIX + 86_500)
    assert later.available == 10_000_000 - most_of(placed)


def test_grants__when_they_change__then_jobs_of_the_namespace_are_looked_at() -> None:
    view = a_view(a_namespace(weight="2"))
    view.jobs.apply(a_job())
    view.touched_jobs.clear()
    _kind, namespace = a_namespace(weight="3")
    namespace["metadata"]["resourceVersion"] = "2"
    view.namespaces.apply(namespace)
    assert view.touched_jobs == {"uid-of-job"}
