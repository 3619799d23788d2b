"""Who acts: the hub's platform team, the member's owner, a submitter. Each with helm and kubectl only."""

from __future__ import annotations

import json
import secrets
import uuid
from pathlib import Path
from typing import Any

from devkit.rig import kubeconfigs
from devkit.rig.addresses import API_PORT, OUTSIDE
from devkit.rig.bare import Cluster
from devkit.rig.keys import new_key_file
from devkit.rig.real.images import BUSYBOX
from devkit.rig.real.nvidia import HANDLER

Json = dict[str, Any]
HUB, MEMBER = "hub", "aurora"
SYSTEM, GUESTS = "fallow-system", "fallow-guests"
_WAIT = ("--wait", "--timeout=5m")
_HUB_TERMS = (
    # Nobody watches for an hour: an epoch is closed as soon as there is something to settle.
    '--set-json=settler.settings={"epochs": {"maxAgeSeconds": 3, "pollSeconds": 0.5}}',
)


class Admin:
    """The hub's platform team and hub admin."""

    def __init__(self, hub: Cluster, *, hub_id: str, files: Path) -> None:
        self._hub = hub
        self._hub_id = hub_id
        self._files = files

    def installs(self) -> None:
        operator = new_key_file(self._files, "operator")
        self._hub.kubectl("create", "namespace", SYSTEM)
        _secret(
            self._hub,
            "fallow-operator",
            f"--from-file=keystore={operator.keystore}",
            f"--from-file=password={operator.password_file}",
        )
        _secret(self._hub, "fallow-salt", f"--from-literal=salt={secrets.token_hex(32)}")
        self.offers_volume()
        self._release("install", "--set=podDisruptionBudget.enabled=true")

    def upgrades(self, word: str) -> None:
        """Change something of every pod."""
        change = f"podAnnotations.example\\.test/release={word}"
        self._release("upgrade", f"--set=hub.{change}", f"--set=settler.{change}")

    def rolls_back(self) -> None:
        self._hub.helm("rollback", "fallow-hub", "1", f"--namespace={SYSTEM}", *_WAIT)

    def uninstalls(self) -> None:
        self._hub.helm("uninstall", "fallow-hub", f"--namespace={SYSTEM}", *_WAIT)

    def lets_in(self, name: str, *, payee: str, signer: str) -> None:
        spec = {
            "accepted": True,
            "ownerId": "owner-a",
            "region": "eu-north-1",
            "payee": payee,
            "signer": signer,
        }
        _apply(self._hub, "Provider", name, spec)

    def credentials_for(self, name: str) -> Path:
        """Return a kubeconfig for a provider's agent, as the owner gets it."""
        space = f"provider-{name}"
        token = self._hub.kubectl("create", "token", "agent", f"--namespace={space}", "--duration=24h")
        return kubeconfigs.write(
            self._files / "agent.kubeconfig",
            cluster=HUB,
            host=OUTSIDE,
            port=API_PORT,
            authority=self._hub.plane.authority.certificate,
            user=kubeconfigs.by_token(token.strip()),
            namespace=space,
        )

    def gives_credit(self) -> None:
        """Let the namespace `default` charge: in ledger mode an Account is its limit."""
        payer = new_key_file(self._files, "payer").account.address
        spec = {"payer": payer, "limits": {"maxTotal": "1000000"}}
        _apply(self._hub, "Account", "default", spec, namespace="default")

    def _release(self, verb: str, *more: str) -> None:
        self._hub.helm(
            verb, "fallow-hub", "helm/fallow-hub", f"--namespace={SYSTEM}",
            f"--set=hubId={self._hub_id}", f"--set=providers={{{MEMBER}}}",
            "--set=settler.operator.existingSecret=fallow-operator",
            "--set=settler.saltKey.existingSecret=fallow-salt",
            "--set=settler.archive.size=1Gi", *_HUB_TERMS, *more, *_WAIT,
        )  # fmt: skip

    def offers_volume(self) -> None:
        """Offer a volume for the archive: a directory of the node, since there is no provisioner here."""
        directory = self._hub.node.directory / "archive"
        directory.mkdir()
        directory.chmod(0o777)
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(directory)},
        }
        _apply(self._hub, "PersistentVolume", "archive", spec, version="v1")


class Owner:
    """The owner of the member."""

    def __init__(self, member: Cluster, *, hub_id: str, payee: str, files: Path) -> None:
        self._member = member
        self._hub_id = hub_id
        self._payee = payee
        self._key = new_key_file(files, "signer")

    @property
    def signer(self) -> str:
        """The address to compare out of band."""
        return str(self._key.account.address)

    def gets(self, kubeconfig: Path) -> None:
        """Take what the hub admin sent into Secrets."""
        self._member.kubectl("create", "namespace", SYSTEM)
        _secret(self._member, "fallow-hub", f"--from-file=kubeconfig={kubeconfig}")
        _secret(
            self._member,
            "fallow-signer",
            f"--from-file=keystore={self._key.keystore}",
            f"--from-file=password={self._key.password_file}",
        )
        handler = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": HANDLER}
        thing = {**handler, "metadata": {"name": HANDLER}}
        self._member.kubectl("apply", "-f", "-", stdin=json.dumps(thing))

    def installs(self) -> None:
        self._release("install")

    def upgrades(self, word: str) -> None:
        """Change something of every pod."""
        change = f"podAnnotations.example\\.test/release={word}"
        self._release("upgrade", f"--set=agent.{change}", f"--set=probe.{change}")

    def rolls_back(self) -> None:
        self._member.helm("rollback", "fallow-agent", "1", f"--namespace={SYSTEM}", *_WAIT)

    def opens_offer(self) -> None:
        """Open the Offer that the agent made."""
        self._member.kubectl("wait", "--for=create", "offer/default", "--timeout=60s")
        spec = {
            "images": ["rig.fallow.dev/*"],
            "accountsAllowed": ["*"],
            "reclaimGraceSeconds": 5,
            "prices": {
                "accelerators": [{"product": "NVIDIA-H100*", "pricePerHour": "2.00"}],
                "cpuCoreHour": "0.01",
                "memoryGiBHour": "0.001",
            },
        }
        self._member.kubectl("patch", "offer", "default", "--type=merge", "-p", json.dumps({"spec": spec}))

    def tells(self, guest: Json, *command: str) -> None:
        """Run a command in a guest."""
        self._member.kubectl("exec", f"--namespace={GUESTS}", guest["metadata"]["name"], "--", *command)

    def leaves(self) -> None:
        """Remove the chart, as docs/owner.md says under "Leaving": its hooks do the rest."""
        self._member.helm("uninstall", "fallow-agent", f"--namespace={SYSTEM}", *_WAIT)

    def _release(self, verb: str, *more: str) -> None:
        self._member.helm(
            verb, "fallow-agent", "helm/fallow-agent", f"--namespace={SYSTEM}",
            f"--set=hubId={self._hub_id}", f"--set=provider={MEMBER}", f"--set=payee={self._payee}",
            "--set=hub.existingSecret=fallow-hub", "--set=signer.existingSecret=fallow-signer",
            f"--set=probe.runtimeClassName={HANDLER}", *more, *_WAIT,
        )  # fmt: skip


class Submitter:
    """Who has work."""

    def __init__(self, hub: Cluster) -> None:
        self._hub = hub

    def submits(self, *, tasks: int, script: str) -> Json:
        """Apply a job whose tasks run a shell script on one accelerator each; return it."""
        resources = {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"memory": "64Mi", "ephemeral-storage": "64Mi", "nvidia.com/gpu": 1},
        }
        container = {
            "name": "main",
            "image": BUSYBOX,
            "command": ["sh", "-c", script],
            "resources": resources,
        }
        name = f"job-{uuid.uuid4().hex[:8]}"
        pod = {"containers": [container], "terminationGracePeriodSeconds": 2}
        spec = {"tasks": tasks, "taskTimeoutSeconds": 600, "template": {"spec": pod}}
        _apply(self._hub, "ComputeJob", name, spec, namespace="default")
        job: Json = json.loads(self._hub.kubectl("get", "computejob", name, "-o", "json"))
        return job

    def gives_up(self, job: Json) -> None:
        self._hub.kubectl("delete", "computejob", job["metadata"]["name"])


def _apply(
    cluster: Cluster,
    kind: str,
    name: str,
    spec: Json,
    *,
    namespace: str = "",
    version: str = "fallow.dev/v1alpha1",
) -> None:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    thing = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(thing))


def _secret(cluster: Cluster, name: str, *content: str) -> None:
    cluster.kubectl("create", "secret", "generic", name, f"--namespace={SYSTEM}", *content)
