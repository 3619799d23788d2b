"""What the members of a rig look like: how many nodes with which accelerators, where, at which price."""

from dataclasses import dataclass, field
from typing import Any

H100 = "NVIDIA-H100-80GB-HBM3"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member to bring up."""

    name: str
    nodes: int = 2
    """Simulated ones."""
    real: bool = False
    """Has a node that runs containers, beside the simulated ones."""
    bare: bool = False
    """Has an API server only: nobody schedules or plays its nodes, which are ready for ever."""
    gpus_per_node: int = 8
    product: str = H100
    memory_mib: int = 81_559
    """Of one accelerator."""
    cpus_per_node: int = 192
    memory_per_node_gib: int = 2048
    region: str = "eu-north-1"
    prices: dict[str, str] = field(
        default_factory=lambda: {"gpu": "2.00", "cpu": "0.01", "memory_gib": "0.001"}
    )
    """Per hour, decimal strings of the token: an accelerator, a core, a GiB."""


def default_members(count: int, *, nodes: int, gpus_per_node: int) -> list[Member]:
    """Return `count` members: aurora, borealis (another region, dearer), then member-3 and so on."""
    members = []
    for number in range(1, count + 1):
        name = {1: "aurora", 2: "borealis"}.get(number, f"member-{number}")
        region = "eu-north-1" if number % 2 else "us-east-1"
        gpu = f"{180 + 20 * number}"
        prices = {"gpu": f"{gpu[:-2]}.{gpu[-2:]}", "cpu": "0.01", "memory_gib": "0.001"}
        members.append(
            Member(name=name, nodes=nodes, gpus_per_node=gpus_per_node, region=region, prices=prices)
        )
    return members


REAL_MEMBER = "terra"


def real_member(*, gpus: int) -> Member:
    """Return the member of a rig with real pods: one real node that claims to have so many accelerators."""
    prices = {"gpu": "1.50", "cpu": "0.01", "memory_gib": "0.001"}
    return Member(name=REAL_MEMBER, nodes=0, real=True, gpus_per_node=gpus, region="eu-west-1", prices=prices)


def node_object(member: Member, number: int) -> dict[str, Any]:
    """Return the Node object of one of `member`'s nodes, ready from the start, as kwok takes it over."""
    name = f"{member.name}-{number:03d}"
    resources = {
        "cpu": str(member.cpus_per_node),
        "memory": f"{member.memory_per_node_gib}Gi",
        "ephemeral-storage": "4Ti",
        "pods": "250",
    }
    if member.gpus_per_node:
        resources["nvidia.com/gpu"] = str(member.gpus_per_node)
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        **node_labels(member),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": resources, "allocatable": resources},
    }


def node_labels(member: Member) -> dict[str, str]:
    """Return what a cloud and NVIDIA's feature discovery say of each node of `member`."""
    labels = {
        "topology.kubernetes.io/region": member.region,
        "topology.kubernetes.io/zone": f"{member.region}a",
    }
    if member.gpus_per_node:
        labels |= {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": member.product,
            "nvidia.com/gpu.count": str(member.gpus_per_node),
            "nvidia.com/gpu.memory": str(member.memory_mib),
            "nvidia.com/gpu.family": "hopper",
            "nvidia.com/gpu.compute.major": "9",
            "nvidia.com/gpu.compute.minor": "0",
            "nvidia.com/cuda.driver-version.full": "580.95.05",
            # Feature discovery says nothing of links between accelerators; owners do.
            "fallow.dev/interconnect": "NVLink",
        }
    return labels
