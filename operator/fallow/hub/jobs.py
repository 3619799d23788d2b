"""What a ComputeJob asks for, read once per generation, and where it stands now."""

from __future__ import annotations

from dataclasses import dataclass, field

from fallow.errors import FallowError
from fallow.hub.acceptance import Verdict, read_and_judge, request_of
from fallow.hub.folding import Folded, Standing
from fallow.hub.placements import JSON
from fallow.resources.computejob import ComputeJobSpec
from fallow.resources.money import parse_amount
from fallow.scheduler.explain import Wait
from fallow.scheduler.snapshot import Job, Requirements, Shape

NUMBERS_PER_RESERVATION = 64
"""Placement numbers reserved with one status write; what a restart leaves unused is never used."""
UNRESERVED_NUMBERS = 1
"""Placement numbers that a job may use before its first reservation (decision 023)."""

LONGEST_AVOIDED_SECONDS = 300.0
LONGEST_LATE_SECONDS = 16.0
FORGIVEN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Wish:
    """A ComputeJob's spec, parsed and judged.

    A refused one has a `spec` where it can be read, but no `shape`: a budget may be changed into nonsense
    while tasks run, and what runs is followed all the same.
    """

    generation: int
    verdict: Verdict
    spec: ComputeJobSpec | None = None
    shape: Shape | None = None
    max_total: int | None = None


def read_wish(job: JSON, *, decimals: int, shortest_interval_seconds: int = 0) -> Wish:
    """Parse and judge a ComputeJob object; never raises."""
    generation = job["metadata"].get("generation") or 0
    verdict, spec = read_and_judge(
        job, decimals=decimals, shortest_interval_seconds=shortest_interval_seconds
    )
    if spec is None or not verdict.accepted:
        return Wish(generation, verdict, spec)
    try:
        price, total = spec.budget.max_price_per_task_hour, spec.budget.max_total
        pod = job["spec"]["template"]["spec"]
        wanted = spec.requirements
        shape = Shape(
            request=request_of(pod),
            requirements=Requirements(
                products=wanted.accelerator_products,
                min_accelerator_memory_mib=wanted.min_accelerator_memory_mib,
                interconnect=wanted.interconnect or "",
                isolation=wanted.isolation or "",
                regions=wanted.regions,
                providers=wanted.providers,
                excluded_providers=wanted.exclude_providers,
                node_labels=tuple(sorted(wanted.node_labels.items())),
                max_providers=wanted.max_providers,
                min_agreed_results=wanted.min_agreed_results,
                max_disagreed_percent=wanted.max_disagreed_percent,
            ),
            images=tuple(sorted({container["image"] for container in pod["containers"]})),
            max_price=None if price is None else parse_amount(price, decimals=decimals),
        )
        return Wish(
            generation,
            verdict,
            spec,
            shape,
            None if total is None else parse_amount(total, decimals=decimals),
        )
    except (FallowError, ValueError) as error:
        return Wish(generation, Verdict(False, "Invalid", f"The hub cannot read this job: {error}"))


@dataclass(slots=True)
class JobRecord:
    """What this process keeps of one job between cycles; all of it can be derived again."""

    wish: Wish
    next_number: int
    """Next placement number: starts at what was reserved, as all below it may have been used."""
    followed: JSON | None = None
    """The object that it was added up from last."""
    folded: Folded = field(default_factory=Folded)
    """As the job's status has it."""
    judged: Folded = field(default_factory=Folded)
    """With the verdicts on replicated tasks that the next status write adds."""
    standing: Standing | None = None
    account_problem: str = ""
    wait: Wait | None = None
    asked: Job | None = None
    """As the scheduler saw it last, and of which standing and account that was made."""
    asked_of: tuple[Standing, JSON] | None = None
    wants_tried: int = 0
    """How often copies of a replicated job were offered to the scheduler: each of its wants in turn."""
    avoid: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Providers to keep off for a while: how often they could not start its tasks, and until when."""
    last_words: str = ""
    """What the last failed guest said."""
    status_written_at: float = float("-inf")
    """When its status was last decided on, in monotonic seconds."""
    claims_awaited_since: float | None = None
    """Since when its status waits for claims that are being written, in monotonic seconds."""

    def avoided(self, now: float) -> frozenset[str]:
        """Return the providers to keep off at the monotonic time `now`."""
        return frozenset(name for name, (_, until) in self.avoid.items() if until > now)

    def could_not_start(self, provider: str, now: float, *, only_late: bool = False) -> None:
        """Keep off a provider: 2, 4, 8 … at most 300 seconds; after ten good minutes all is forgotten.

        `only_late`: its owner was quicker. That says little about the next time: at most 16 seconds.
        """
        times, until = self.avoid.get(provider, (0, now))
        times = 1 if now - until > FORGIVEN_SECONDS else times + 1
        longest = LONGEST_LATE_SECONDS if only_late else LONGEST_AVOIDED_SECONDS
        self.avoid[provider] = (times, now + min(longest, 2.0**times))

    def started(self, provider: str) -> None:
        """Note that tasks of the job did start there: what went wrong before is forgiven."""
        if provider in self.avoid:
            self.avoid[provider] = (0, self.avoid[provider][1])
