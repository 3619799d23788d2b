"""Owner pods that wait for an accelerator, and where each of them could run.

For as long as such a pod has no node, the agent keeps what says where it may go: node selector, required node
affinity and tolerations. What else a scheduler looks at (spread, affinity to pods, volumes) is not judged
here: then a node may be vacated on which the pod does not land, and nothing worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallow.agent.nodes import Node, Taint
from fallow.receipts.requests import Requests, effective_requests

_NOT_FOR_WORK = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingPod:
    """A pod of the owner that requests accelerators and has no node yet. Its name is not kept."""

    uid: str
    created_at: str
    priority: int
    requests: Requests
    node_selector: Mapping[str, str]
    node_terms: tuple[Mapping[str, Any], ...] | None
    """`nodeSelectorTerms` of its required affinity, one of which has to match; None when it has none."""
    tolerations: tuple[Mapping[str, Any], ...]
    nominated: str = ""
    """The node on which its scheduler makes room for it already."""

    def may_run_on(self, node: Node) -> bool:
        """Whether its own rules and the node's allow it there; room is another question."""
        return (
            node.ready
            and not node.cordoned
            and all(node.labels.get(key) == value for key, value in self.node_selector.items())
            and (self.node_terms is None or any(_term_matches(term, node) for term in self.node_terms))
            and all(self._tolerates(taint) for taint in node.all_taints if taint.key not in _NOT_FOR_WORK)
        )

    def _tolerates(self, taint: Taint) -> bool:
        # Admission (ExtendedResourceToleration) may add these only later; devices are what it asks for.
        return taint.key in self.requests.devices or any(_tolerated(t, taint) for t in self.tolerations)


def read_waiting_pod(raw: Mapping[str, Any]) -> WaitingPod | None:
    """Return the facts of a foreign pod that waits for an accelerator; None for every other pod."""
    spec, status, metadata = raw.get("spec") or {}, raw.get("status") or {}, raw["metadata"]
    if spec.get("nodeName") or metadata.get("deletionTimestamp"):
        return None
    if status.get("phase") not in (None, "", "Pending"):
        return None
    requests = effective_requests(spec)
    if not requests.devices:
        return None
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return WaitingPod(
        uid=metadata["uid"],
        created_at=metadata.get("creationTimestamp") or "",
        priority=spec.get("priority") or 0,
        requests=requests,
        node_selector=spec.get("nodeSelector") or {},
        node_terms=tuple(required.get("nodeSelectorTerms") or ()) if required is not None else None,
        tolerations=tuple(spec.get("tolerations") or ()),
        nominated=status.get("nominatedNodeName") or "",
    )


def _tolerated(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint.key:
        return False
    return toleration.get("operator") == "Exists" or (toleration.get("value") or "") == taint.value


def _term_matches(term: Mapping[str, Any], node: Node) -> bool:
    """Say whether a term matches; an empty one matches nothing, as the API has it."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(e, node.labels.get(e["key"])) for e in expressions) and all(
        _matches(f, node.name if f["key"] == "metadata.name" else None) for f in fields
    )


def _matches(expression: Mapping[str, Any], value: str | None) -> bool:
    values: Sequence[str] = expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                ours, wanted = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return ours > wanted if operator == "Gt" else ours < wanted
    return False
