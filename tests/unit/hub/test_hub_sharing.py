"""What the scheduler is told about who holds what, and until when."""

from __future__ import annotations

from fallow.hub import sharing
from fallow.settings import SharingSettings
from unit.hub.builders import CREATED_UNIX, GPU
from unit.hub.test_hub_snapshots import a_view, live

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
    assert sharing.quota_keys(ACCOUNT, SharingSettings()) == ()
