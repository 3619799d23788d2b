"""Shows pictures as they come: a live table on a terminal, else one line for each change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from devkit.demo.picture import JobLine, Picture


class View(Protocol):
    """Where pictures go."""

    def show(self, picture: Picture, *, seconds: float) -> None:
        """Show a picture, `seconds` after the jobs were submitted."""


@contextmanager
def view(console: Console) -> Iterator[View]:
    """Give the view that fits the console."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=False) as live:
            yield _Table(live)
    else:
        yield _Lines(console)


class _Table:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, picture: Picture, *, seconds: float) -> None:
        jobs = Table(title=f"{seconds:5.1f} s", title_justify="left", expand=False, pad_edge=False)
        for heading in ("job", "tasks", "running", "done", "", "cost", "settled"):
            jobs.add_column(
                heading, justify="right" if heading in ("tasks", "running", "done", "cost") else "left"
            )
        for job in picture.jobs:
            bar = ProgressBar(total=job.tasks, completed=job.succeeded, width=18)
            settled = "yes" if job.conditions.get("Settled") == "True" else ""
            jobs.add_row(
                job.name, str(job.tasks), str(job.running), str(job.succeeded), bar, job.cost, settled
            )
        self._live.update(Group(jobs, Text(_placements(picture)), Text(_claims(picture))))


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, str] = {}

    def show(self, picture: Picture, *, seconds: float) -> None:
        lines = {job.name: _job_line(job) for job in picture.jobs}
        lines["claims"] = _claims(picture)
        for key, line in lines.items():
            if self._shown.get(key) != line:
                self._shown[key] = line
                self._console.print(
                    f"{seconds:6.1f} s  {line}", soft_wrap=True, highlight=False, markup=False
                )


def _job_line(job: JobLine) -> str:
    line = (
        f"{job.name}: {job.succeeded}/{job.tasks} done, {job.running} running, "
        f"{job.placed} placed, {job.pending} pending, cost {job.cost}"
    )
    return f"{line}, settled" if job.conditions.get("Settled") == "True" else line


def _placements(picture: Picture) -> str:
    parts = [f"{provider} {sum(states.values())}" for provider, states in sorted(picture.placements.items())]
    return f"placements: {', '.join(parts) or 'none'}"


def _claims(picture: Picture) -> str:
    settled = sum(1 for claim in picture.claims if claim.state == "Settled")
    transactions = len({claim.transaction for claim in picture.claims if claim.transaction})
    return f"claims: {settled} of {len(picture.claims)} settled, in {transactions} transactions"
