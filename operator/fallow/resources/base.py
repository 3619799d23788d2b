"""What all kinds share: the model base, field types with their bounds, conditions, and the `Kind` record.

Field names are snake_case in Python and camelCase on the wire. Docstrings under fields become the
descriptions that `kubectl explain` shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "fallow.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MAX_TASKS = 100_000
"""Most tasks of one ComputeJob."""
MAX_TASKS_PER_PLACEMENT = 1_024
"""Most tasks of one Placement: keeps its status (72 bytes a task) far below the 1.5 MB of an object."""
MAX_RANGES_BYTES = 65_536
"""Longest index-range string any object carries."""


def wire_name(name: str) -> str:
    """Return the camelCase name of a field; units keep their usual spelling (`memory_mib` → `memoryMiB`)."""
    return to_camel(name).replace("Mib", "MiB").replace("Gib", "GiB")


class Model(BaseModel):
    """Base of every API model: frozen, camelCase on the wire, unknown fields ignored on reading.

    The API server prunes unknown fields; a newer peer's field must not break an older reader.
    """

    model_config = ConfigDict(
        alias_generator=wire_name,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    def wire(self) -> dict[str, Any]:
        """Return the JSON form: camelCase, without absent optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


Ranges = Annotated[
    str, Field(pattern=r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$", max_length=MAX_RANGES_BYTES)
]
"""Index ranges, ascending and disjoint: "0-97,100"; see `fallow.resources.ranges`."""

PackedRanges = Annotated[
    str,
    Field(pattern=r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*|~[A-Za-z0-9_-]*)?$", max_length=MAX_RANGES_BYTES),
]
"""The same, or "~" and a bitmap in base64url where that many ranges would be too long for an object."""

DecimalAmount = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?$", max_length=40)]
"""A non-negative amount of the token as a decimal string ("1.80"); see `fallow.resources.money`."""

Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$", max_length=42)]
Bytes32 = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$", max_length=66)]
Signature = Annotated[str, Field(pattern=r"^0x([0-9a-f]{2})+$", max_length=2050)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
Label63 = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
Uid = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=1024)]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=40)]
Seconds = Annotated[int, Field(ge=0, le=2**40)]
EndedString = Annotated[
    str, Field(pattern=r"^[0-9]+:[0-9]+:[0-9]+:[SFTRLUC]:[A-Za-z0-9_-]{0,43}$", max_length=72)
]
"""One ended attempt, `index:attempt:seconds:outcome:digest`; see `fallow.resources.ended`."""
RevealString = Annotated[str, Field(pattern=r"^[0-9]+:[A-Za-z0-9_-]{22}:[A-Za-z0-9_-]{43}$", max_length=80)]
"""What opens the commitment of one task, `index:salt:digest`; see `fallow.resources.reveal`."""

ElapsedString = Annotated[str, Field(pattern=r"^[0-9]+-[0-9]+:[0-9]+[0-9,-]*$", max_length=8192)]
"""Elapsed time of attempts, `from-to:indexes`; see `fallow.resources.elapsed`."""


class Condition(Model):
    """A standard Kubernetes condition."""

    type: Annotated[str, Field(max_length=64)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(max_length=128)]
    message: Annotated[str, Field(max_length=4096)] = ""
    last_transition_time: Timestamp
    observed_generation: Annotated[int, Field(ge=0)] | None = None


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class JobRef(Model):
    """The ComputeJob that something belongs to; its UID is the identity, the names are for people."""

    namespace: Label63
    name: Name
    uid: Uid


class PlacementRef(Model):
    """A Placement by name and UID."""

    name: Name
    uid: Uid


@dataclass(frozen=True, kw_only=True)
class Column:
    """A printer column: what `kubectl get` shows."""

    name: str
    path: str
    type: str = "string"
    description: str
    wide: bool = False
    """Shown only with `-o wide`."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One resource of the API group: its names, scope, models and presentation."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    spec: type[Model]
    status: type[Model] | None
    description: str
    plane: Literal["hub", "member"] = "hub"
    namespaced: bool = True
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    """JSON paths usable in field selectors, so that a watch can leave finished objects out."""
    rules: tuple[dict[str, str], ...] = ()
    """CEL rules over the whole object, each {"rule": …, "message": …}. An API server evaluates them at every
    status write too, so what only a spec can break belongs into an admission policy."""
    spec_is_written_whole: bool = False
    """Whether one program writes the spec: then nobody's ownership of single fields is kept (and paid for
    at every write). A status always has one writer."""
    categories: tuple[str, ...] = field(default=("fallow",))


def condition_column(condition: str, *, description: str, wide: bool = False) -> Column:
    """Return a column that shows one condition's status."""
    return Column(
        name=condition,
        path=f'.status.conditions[?(@.type=="{condition}")].status',
        description=description,
        wide=wide,
    )


AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date", description="Time since creation.")


def rule(expression: str, message: str) -> dict[str, str]:
    """Return one CEL validation; the message says what to change."""
    return {"rule": expression, "message": message}
