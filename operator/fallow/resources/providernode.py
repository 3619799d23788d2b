"""ProviderNode (`pn`): one node of a provider and what it offers. Written by the agent.

`offerable` = allocatable − what owner pods request − keep-free − withheld. Guests are not subtracted: the
hub knows its own placements, and a guest that ends must not have to be reported twice.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fallow.resources.base import AGE, Column, Kind, Model, Name, Text

AcceleratorCounts = Annotated[dict[str, Annotated[int, Field(ge=0, le=1_000_000)]], Field(max_length=16)]


class Offerable(Model):
    """What guests may take of a node, in whole units."""

    cpu_millicores: Annotated[int, Field(ge=0)] = 0
    memory_mib: Annotated[int, Field(ge=0)] = 0
    ephemeral_storage_mib: Annotated[int, Field(ge=0)] = 0
    pods: Annotated[int, Field(ge=0)] = 0
    accelerators: AcceleratorCounts = {}
    """Count by resource name ("nvidia.com/gpu")."""


class Withheld(Model):
    """A device that is not offered, and why."""

    device: Annotated[str, Field(max_length=128)]
    reason: Text


class ProviderNodeSpec(Model):
    """A node, its accelerators' product, and what is free for guests."""

    node_name: Name
    product: Annotated[str, Field(max_length=128)] = ""
    """Product of its accelerators ("NVIDIA-H100-80GB-HBM3"); empty on a CPU node."""
    accelerator_memory_mib: Annotated[int, Field(ge=0)] = 0
    interconnect: Annotated[str, Field(max_length=64)] = ""
    driver: Annotated[str, Field(max_length=64)] = ""
    labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64)] = {}
    offerable: Offerable = Offerable()
    withheld: Annotated[tuple[Withheld, ...], Field(max_length=64)] = ()


PROVIDER_NODE = Kind(
    kind="ProviderNode",
    plural="providernodes",
    short_names=("pn",),
    spec=ProviderNodeSpec,
    status=None,
    description="A node of a provider and what it offers.",
    spec_is_written_whole=True,
    columns=(
        Column(name="Product", path=".spec.product", description="Product of its accelerators."),
        Column(
            name="CPU-m",
            path=".spec.offerable.cpuMillicores",
            type="integer",
            description="Millicores on offer.",
        ),
        Column(
            name="GPUs",
            path=".spec.offerable.accelerators.nvidia\\.com/gpu",
            type="integer",
            description="NVIDIA GPUs on offer, guests not subtracted.",
        ),
        AGE,
    ),
)
