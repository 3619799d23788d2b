"""Builders for snapshots: `a_job().gpus(8).tasks(4).build()` reads like the sentence it tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from fallow.receipts.pricing import UnitPrices
from fallow.resources.ranges import IndexRanges
from fallow.scheduler.snapshot import Job, Limits, Node, Pool, Provider, Purse, Requirements, Shape, Snapshot

GPU = "nvidia.com/gpu"
HOUR = 3600


@dataclass
class JobBuilder:
    uid: str = "job"
    wants: dict[str, int] = field(default_factory=lambda: {"cpu": 1000, "memory": 1024, "pods": 1})
    requirements: Requirements = field(default_factory=Requirements)
    fields: dict[str, Any] = field(default_factory=dict)
    shape_fields: dict[str, Any] = field(default_factory=dict)
    pending: IndexRanges = field(default_factory=lambda: IndexRanges.span(0, 1))

    def named(self, uid: str) -> JobBuilder:
        self.uid = uid
        return self

    def gpus(self, count: int) -> JobBuilder:
        self.wants[GPU] = count
        return self

    def cpu(self, millicores: int) -> JobBuilder:
        self.wants["cpu"] = millicores
        return self

    def tasks(self, count: int) -> JobBuilder:
        self.pending = IndexRanges.span(0, count)
        return self

    def gang(self) -> JobBuilder:
        self.fields["gang"] = True
        return self

    def requires(self, **requirements: Any) -> JobBuilder:
        self.requirements = replace(self.requirements, **requirements)
        return self

    def shaped(self, **fields: Any) -> JobBuilder:
        self.shape_fields.update(fields)
        return self

    def having(self, **fields: Any) -> JobBuilder:
        self.fields.update(fields)
        return self

    def build(self) -> Job:
        shape = Shape(
            request=tuple(sorted(self.wants.items())), requirements=self.requirements, **self.shape_fields
        )
        fields: dict[str, Any] = {"purses": ("purse",), "timeout_seconds": HOUR, **self.fields}
        return Job(uid=self.uid, name=f"default/{self.uid}", shape=shape, pending=self.pending, **fields)


def a_job() -> JobBuilder:
    return JobBuilder()


def a_node(name: str, *, gpus: int = 8, used: int = 0, cpu: int = 64_000, pods: int = 110) -> Node:
    offerable = {"cpu": cpu, "memory": 512 * 1024, "ephemeral-storage": 1024 * 1024, "pods": pods}
    free = dict(offerable)
    if gpus:
        offerable[GPU] = gpus
        free[GPU] = gpus - used
        free["pods"] -= used
    return Node(name=name, offerable=offerable, free=free)


def a_pool(
    *nodes: Node, gpu_price: int = 2_000_000, product: str = "NVIDIA-H100-80GB-HBM3", **fields: Any
) -> Pool:
    prices = UnitPrices(cpu_core_hour=10_000, memory_gib_hour=1_000, device_hour={GPU: gpu_price})
    fields = {"accelerator_memory_mib": 81_559, "interconnect": "NVLink", **fields}
    return Pool(product=product, nodes=tuple(nodes), prices=prices, **fields)


def a_provider(name: str, *pools: Pool, **fields: Any) -> Provider:
    return Provider(name=name, pools=tuple(pools), **fields)


def a_snapshot(
    *jobs: JobBuilder | Job,
    providers: tuple[Provider, ...] = (),
    money: int = 10**15,
    limits: Limits | None = None,
) -> Snapshot:
    return Snapshot(
        jobs=tuple(job.build() if isinstance(job, JobBuilder) else job for job in jobs),
        providers=providers,
        purses=(Purse("purse", money),),
        limits=limits or Limits(),
    )
