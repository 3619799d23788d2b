"""One platform team, one owner, one submitter: every step of a life of the charts, each checked.

The hub is one cluster, the member another; the member's pods reach the hub's API server and nothing else of
it. People do here what the charts' notes and docs tell them to, with helm and kubectl. Ledger mode: what is
tested is the charts; the same programs settle on a chain in every other test.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eth_account import Account

from devkit import image as images
from devkit.e2e_charts import checks
from devkit.e2e_charts.people import HUB, MEMBER, Admin, Owner, Submitter
from devkit.errors import DevkitError
from devkit.image import OUTPUT
from devkit.rig.bare import Cluster, bare
from devkit.rig.real import why_not as no_real_pods
from fallow import __version__

GPUS = 8


def why_not() -> str | None:
    """Say in one sentence why this machine cannot run it, or None."""
    return no_real_pods() or images.why_not()


def run(*, image: Path | None = None, keep: bool = False) -> dict[str, Any]:
    """Build the image unless one is given, and play it all; return seconds by step.

    Raises DevkitError with the step that failed; logs stay.
    """
    if image is None:
        image = OUTPUT
        images.build(image)
    state = Path(tempfile.mkdtemp(prefix="fallow-charts-"))
    started = time.monotonic()
    clock = _Clock()
    try:
        with (
            clock.step("two clusters"),
            bare(state, [HUB, MEMBER], gpus={MEMBER: GPUS}, reaches={MEMBER: [HUB]}, keep=keep) as clusters,
        ):
            clock.next("the image on both nodes")
            for cluster in clusters.values():
                cluster.node.load(image, name=f"docker.io/library/fallow:{__version__}")
            try:
                _play(clusters, clock, state)
            except (DevkitError, AssertionError):
                _write_down(clusters, state / "logs")
                raise
    except (DevkitError, AssertionError) as error:
        raise DevkitError(f"{clock.name}: {error}\nLogs: {state / 'logs'}") from error
    if keep:
        print(f"Both clusters are up: {state}/planes/*/admin.kubeconfig; hack/rig down --state {state}")
    return {"seconds": round(time.monotonic() - started, 1), "steps": clock.seconds}


def _play(clusters: dict[str, Cluster], clock: _Clock, state: Path) -> None:
    hub, member = clusters[HUB], clusters[MEMBER]
    hub_id = "0x" + secrets.token_hex(32)
    payee = Account.create().address
    admin = Admin(hub, hub_id=hub_id, files=state / "hub")
    owner = Owner(member, hub_id=hub_id, payee=payee, files=state / "member")
    submitter = Submitter(hub)

    clock.next("helm install of the hub")
    admin.installs()
    clock.next("join")
    admin.lets_in(MEMBER, payee=payee, signer=owner.signer)
    owner.gets(admin.credentials_for(MEMBER))
    clock.next("helm install of the agent")
    owner.installs()
    owner.opens_offer()
    checks.probe_sees(member, gpus=GPUS)
    checks.provider_is(hub, MEMBER, "Schedulable")
    clock.next("a job, settled")
    admin.gives_credit()
    job = submitter.submits(tasks=12, script='echo -n "$JOB_COMPLETION_INDEX" > /dev/termination-log')
    checks.settled(hub, job)
    checks.each_index_once(hub, job)
    checks.archive_has_bundle(hub)

    clock.next("helm upgrade under guests")
    # Each waits for a word from outside, so that none ends while the releases change.
    waiting = "until test -e /tmp/go; do sleep 1; done"
    job = submitter.submits(tasks=6, script=waiting)
    guests = checks.running_guests(member, job, count=6)
    admin.upgrades("changed")
    owner.upgrades("changed")
    checks.same_guests(member, job, guests)
    clock.next("helm rollback under guests")
    admin.rolls_back()
    owner.rolls_back()
    checks.same_guests(member, job, guests)
    for guest in guests:
        owner.tells(guest, "touch", "/tmp/go")
    checks.settled(hub, job)
    checks.each_index_once(hub, job)

    clock.next("helm uninstall of the agent")
    job = submitter.submits(tasks=4, script=waiting)
    checks.running_guests(member, job, count=4)
    owner.leaves()
    checks.node_is_clean(member)
    checks.waits(hub, job)  # for another provider: what was reclaimed is not paid, and not lost
    submitter.gives_up(job)

    clock.next("helm uninstall of the hub")
    kept = checks.what_is_kept(hub)
    admin.uninstalls()
    assert checks.what_is_kept(hub) == kept, "the uninstall took jobs, claims or kinds with it"
    checks.namespaces_can_go(hub, f"provider-{MEMBER}", "fallow-system")


def _write_down(clusters: dict[str, Cluster], logs: Path) -> None:
    """Keep what the clusters know of a failure: they are gone in a moment."""
    for name, cluster in clusters.items():
        asked = [("get", "pods,jobs,events", "-A", "-o", "wide"), ("describe", "pods", "-A")]
        for space, part in (("fallow-system", "agent"), ("fallow-system", "hub"), ("fallow-probe", "probe"),
                            ("fallow-system", "settler"), ("fallow-system", "leaving")):  # fmt: skip
            selector = f"--selector=app.kubernetes.io/component={part}"
            asked.append(("logs", f"--namespace={space}", selector, "--tail=-1", "--prefix"))
        with (logs / f"{name}.seen.txt").open("w") as file:
            for words in asked:
                with suppress(DevkitError):
                    file.write(f"$ kubectl {' '.join(words)}\n{cluster.kubectl(*words)}\n")


class _Clock:
    """Takes the time of each step and says how it goes."""

    def __init__(self) -> None:
        self.name = ""
        self.seconds: dict[str, float] = {}
        self._started = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time everything inside; `next` begins the next step."""
        self._begin(name)
        try:
            yield
        finally:
            self._end()

    def next(self, name: str) -> None:
        self._end()
        self._begin(name)

    def _begin(self, name: str) -> None:
        self.name, self._started = name, time.monotonic()

    def _end(self) -> None:
        self.seconds[self.name] = round(time.monotonic() - self._started, 1)
        print(f"{self.name}: {self.seconds[self.name]} s", flush=True)
