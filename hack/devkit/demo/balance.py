"""Reads the money back from where it is and compares it with the claims, to the unit.

The chain's word counts: what each payee was credited and what each payer was debited are read from the escrow
contract, not from Fallow. Any difference is a failure of the demo.
"""

from __future__ import annotations

from dataclasses import dataclass

from devkit.demo.picture import Picture
from fallow.resources.money import parse_amount


@dataclass(frozen=True, kw_only=True)
class ProviderLine:
    """What one provider did and got."""

    provider: str
    payee: str
    tasks: int
    gpu_seconds: int
    seconds: int
    claimed: int
    """Sum of its settled claims, in the token's smallest unit."""
    credited: int
    """What the chain says it was credited."""
    transactions: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Whether chain and claims agree."""
        return self.claimed == self.credited


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All providers and the payers' side."""

    lines: tuple[ProviderLine, ...]
    debited: int
    """What the chain says all payers of these claims were debited."""

    @property
    def matches(self) -> bool:
        """Whether every provider's credit, and the sum of debits, equals the claims."""
        return all(line.matches for line in self.lines) and self.debited == sum(
            line.claimed for line in self.lines
        )


def compare(
    picture: Picture, *, credited: dict[str, int], debited: dict[str, int], decimals: int
) -> Comparison:
    """Compare settled claims with credits by payee and debits by payer (addresses in lower case)."""
    gpus = {job.uid: job.gpus_per_task for job in picture.jobs}
    settled = [claim for claim in picture.claims if claim.state == "Settled"]
    lines = []
    for provider in sorted({claim.provider for claim in settled}):
        own = [claim for claim in settled if claim.provider == provider]
        payee = own[0].payee.lower()
        lines.append(
            ProviderLine(
                provider=provider,
                payee=payee,
                tasks=sum(claim.attempts for claim in own),
                gpu_seconds=sum(claim.seconds * gpus.get(claim.job_uid, 0) for claim in own),
                seconds=sum(claim.seconds for claim in own),
                claimed=sum(parse_amount(claim.amount, decimals=decimals) for claim in own),
                credited=credited.get(payee, 0),
                transactions=tuple(sorted({claim.transaction for claim in own if claim.transaction})),
            )
        )
    return Comparison(lines=tuple(lines), debited=sum(debited.values()))
