"""Who is who on the planes of a rig, each with a kubeconfig of its own and no right but its role's.

People are client certificates (submitter, hub_admin); programs are service accounts with tokens.
"""

from pathlib import Path

from devkit.rig import kubeconfigs
from devkit.rig.api import ApiServer
from devkit.rig.manifests import Manifests, of_provider
from devkit.rig.planes import Plane

TOKEN_SECONDS = 86_400
"""As long as the hub lets an agent's last: a rig is for a day."""
SUBMITTER = "submitter"
HUB_ADMIN = "hub-admin"
HUB_ADMINS = "fallow:hub-admins"


def hub_identities(hub: Plane, client: ApiServer, into: Path) -> dict[str, Path]:
    """Write the kubeconfigs of submitter, hub admin, hub and settler; return them by name."""
    Manifests(client).apply([_submitter_binding("fallow-submitter"), _submitter_binding("view")])
    return {
        "submitter": hub.kubeconfig_for(SUBMITTER, into=into / "submitter.kubeconfig"),
        "hub_admin": hub.kubeconfig_for(HUB_ADMIN, HUB_ADMINS, into=into / "hub-admin.kubeconfig"),
        "hub": service_account(hub, client, "fallow-system", "hub", into / "hub.kubeconfig"),
        "settler": service_account(hub, client, "fallow-system", "settler", into / "settler.kubeconfig"),
    }


def provider_namespace(hub: Plane, client: ApiServer, name: str, into: Path) -> Path:
    """Create what a hub admin creates for a provider; return the kubeconfig of its agent on the hub."""
    Manifests(client).apply(of_provider(name))
    return service_account(hub, client, f"provider-{name}", "agent", into / f"agent-{name}.kubeconfig")


def service_account(plane: Plane, client: ApiServer, namespace: str, name: str, path: Path) -> Path:
    """Write a kubeconfig with a token that the API server issues for this service account."""
    token = client.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        },
    )["status"]["token"]
    return plane.write_kubeconfig(path, kubeconfigs.by_token(token), namespace=namespace)


def _submitter_binding(role: str) -> dict[str, object]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"submitter-{role}", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": SUBMITTER, "apiGroup": "rbac.authorization.k8s.io"}],
    }
