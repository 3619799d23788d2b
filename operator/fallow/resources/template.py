"""The pod template of a ComputeJob: a small typed core under preserved unknown fields.

The API server checks the core; the hub checks the rest strictly against its allow-list and names each path
at fault, so that nobody's field vanishes silently.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, JsonValue

from fallow.resources.base import Label63, Model

PRESERVE: dict[str, JsonValue] = {"x-kubernetes-preserve-unknown-fields": True}


class _Open(Model):
    """A model whose unknown fields are kept, for the hub to judge."""

    model_config = ConfigDict(**{**Model.model_config, "extra": "allow", "json_schema_extra": PRESERVE})


class ContainerResources(_Open):
    """Requests and limits as in a Pod."""

    requests: Annotated[dict[str, str | int], Field(max_length=16)] = {}
    limits: Annotated[dict[str, str | int], Field(max_length=16)] = {}


class Container(_Open):
    """A container as in a Pod; `name` and `image` are required."""

    name: Label63
    image: Annotated[str, Field(min_length=1, max_length=512)]
    resources: ContainerResources = ContainerResources()


class PodCore(_Open):
    """The pod spec of every task. The first container's termination message is the task's result."""

    containers: Annotated[
        tuple[Container, ...],
        Field(
            min_length=1,
            max_length=8,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]


class TemplateMetadata(_Open):
    """Labels and annotations passed on to each guest pod."""

    labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = {}
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] = {}


class Template(_Open):
    """The pod template of every task of the job."""

    # It never changes, so nobody's ownership of its single fields is kept.
    model_config = ConfigDict(
        **{
            **Model.model_config,
            "extra": "allow",
            "json_schema_extra": {**PRESERVE, "x-kubernetes-map-type": "atomic"},
        }
    )

    metadata: TemplateMetadata = TemplateMetadata()
    spec: PodCore

    def wire(self) -> dict[str, Any]:
        """Return the JSON form with everything the submitter wrote, and no defaults added."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
