"""Real API servers for the tests of this directory: a rig for each file, namespaces per test."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from devkit.rig import Rig, default_members, up
from integration.settler_world import chain_world, hub_lease, ledger_world  # noqa: F401  (fixtures)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Hub, aurora and borealis (two nodes of eight H100 each) with CRDs, RBAC and identities; no Fallow.

    Shared by all tests of a file: use namespaces of your own, and names that no other test uses for what
    is not in a namespace. Not by files: a hub that one of them runs would act on what another left.
    """
    with up(
        tmp_path_factory.mktemp("rig"),
        members=default_members(2, nodes=2, gpus_per_node=8),
        with_fallow=False,
    ) as rig:
        print(f"\nrig ready after {rig.ready_seconds:.1f} s: {rig.state}")
        yield rig


@pytest.fixture
def hub_namespace(rig: Rig) -> Iterator[str]:
    """A namespace on the hub in which `submitter` may submit; deleted after the test, without waiting."""
    client = rig.hub_client()
    name = f"test-{uuid.uuid4().hex[:10]}"
    client.post("/api/v1/namespaces", {"metadata": {"name": name}})
    client.post(
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}/rolebindings",
        {
            "metadata": {"name": "submitter"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "fallow-submitter",
            },
            "subjects": [{"kind": "User", "name": "submitter", "apiGroup": "rbac.authorization.k8s.io"}],
        },
    )
    yield name
    client.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def member_namespace(rig: Rig) -> Iterator[Callable[[str], str]]:
    """Make namespaces on members in which pods can run: `member_namespace("aurora")` gives its name."""
    made: list[tuple[str, str]] = []

    def make(member: str) -> str:
        client = rig.members[member].client()
        name = f"test-{uuid.uuid4().hex[:10]}"
        client.post("/api/v1/namespaces", {"metadata": {"name": name}})
        made.append((member, name))
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        client.until("the default service account", lambda: bool(client.get(account)), seconds=30)
        return name

    yield make
    for member, name in made:
        rig.members[member].client().delete(f"/api/v1/namespaces/{name}")
