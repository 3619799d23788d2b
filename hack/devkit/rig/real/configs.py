"""What the programs of a real node are told, as their own kinds of configuration."""

import json
from collections.abc import Mapping
from pathlib import Path

from devkit.rig.addresses import DNS, POD_RANGE
from devkit.rig.api import Json
from devkit.rig.real.images import PAUSE

PIDS_OF_A_POD = 128
"""A fork bomb in a guest ends here."""


def containerd(directory: Path, *, plugins: Path | None, handlers: Mapping[str, Path]) -> str:
    """Return containerd's configuration: all it keeps lies below `directory`.

    `handlers` are further runtime handlers, each with the OCI spec that its containers start from.
    """
    more = "".join(_handler(name, f'base_runtime_spec = "{spec}"') for name, spec in handlers.items())
    return f"""\
version = 2
root = "{directory}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# Without CAP_SYS_RESOURCE nobody may make a process safer from the kernel's killer than itself.
restrict_oom_score_adj = true
# DNS listens on port 53 as nobody, as it does elsewhere.
enable_unprivileged_ports = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{directory}/cni"
{_handler("runc")}{more}"""


def _handler(name: str, option: str = "") -> str:
    table = f'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}'
    return f"""\
[{table}]
runtime_type = "io.containerd.runc.v2"
{option}
[{table}.options]
SystemdCgroup = false
"""


def cni(directory: Path) -> str:
    """Return the pods' network: a pair of interfaces for each pod, so that every packet between two pods is
    routed by the node, where the policies see it.
    """
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{directory}/ipam",
    }
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": ipam}]
    return json.dumps({"cniVersion": "0.4.0", "name": "rig", "plugins": plugins}, indent=1)


def kubelet(directory: Path, *, group: str, authority: Path, resolv: Path) -> Json:
    """Return the kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolv),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "podPidsLimit": PIDS_OF_A_POD,
        "podLogsDir": f"{directory}/pods",
        "maxPods": 100,
        # The machine's own disk and memory are shared: a full disk is no reason to evict, nor to clean up.
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        # How soon a guest that fills its disk is seen.
        "volumeStatsAggPeriod": "2s",
        "serializeImagePulls": False,
        "makeIPTablesUtilChains": False,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "eventRecordQPS": 0,
    }


def proxy(node: str, kubeconfig: Path) -> Json:
    """Return kube-proxy's configuration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": node,
        "clusterCIDR": POD_RANGE,
        # How many connections a kernel tracks is set for all of it, which is not ours to do.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "nftables": {"minSyncPeriod": "0.2s"},
    }


def egress(socket: Path) -> Json:
    """Return what makes an API server reach nodes, pods and Services through a socket."""
    transport = {"uds": {"udsName": str(socket)}}
    connection = {"proxyProtocol": "HTTPConnect", "transport": transport}
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }
