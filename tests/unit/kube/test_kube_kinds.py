"""The names in URLs are those of the CRDs."""

from __future__ import annotations

from fallow.kube.kinds import FALLOW
from fallow.resources import base, kinds


def test_fallow_kinds__against_the_crds__same_names_and_scopes() -> None:
    ours = {(each.group, each.version, each.plural, each.kind, each.namespaced) for each in FALLOW}
    theirs = {(base.GROUP, base.VERSION, each.plural, each.kind, each.namespaced) for each in kinds.ALL}
    assert ours == theirs
