"""Which programs, at which versions, from which Go modules, and about how long each takes to build."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

KUBERNETES_VERSION = "v1.36.3"
ETCD_VERSION = "v3.6.16"
KWOK_VERSION = "v0.8.0"
COREDNS_VERSION = "v1.15.0"
HELM_VERSION = "v4.3.1"
VERSITYGW_VERSION = "v1.8.0"
GO_MINIMUM = (1, 26, 0)
"""What the go.mod of Kubernetes asks for."""
NODE_MINIMUM = (20, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program to build from a pinned Go module."""

    name: str
    module: str
    """Directory under modules/ whose go.mod and go.sum pin what it is built from."""
    version: str
    package: str
    linker_flags: tuple[str, ...] = ()
    estimate_seconds: float
    """A cold build on two cores, after what comes before it in PROGRAMS; only feeds the display."""
    version_arguments: tuple[str, ...] = ("--version",)
    """How it tells its version, for copies found in KUBEBUILDER_ASSETS or on PATH."""


def _kubernetes(name: str, *, estimate_seconds: float) -> Program:
    flags = [f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"]
    if name == "kubectl":
        flags.append(f"-X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES_VERSION}")
    return Program(
        name=name,
        module="kubernetes",
        version=KUBERNETES_VERSION,
        package=f"k8s.io/kubernetes/cmd/{name}",
        linker_flags=tuple(flags),
        estimate_seconds=estimate_seconds,
        version_arguments=("version", "--client") if name == "kubectl" else ("--version",),
    )


_ALL = (
    _kubernetes("kube-apiserver", estimate_seconds=195),
    Program(
        name="etcd",
        module="etcd",
        version=ETCD_VERSION,
        package="go.etcd.io/etcd/server/v3",
        estimate_seconds=25,
    ),
    Program(
        name="etcdctl",
        module="etcd",
        version=ETCD_VERSION,
        package="go.etcd.io/etcd/etcdctl/v3",
        estimate_seconds=8,
        version_arguments=("version",),
    ),
    Program(
        name="etcdutl",
        module="etcd",
        version=ETCD_VERSION,
        package="go.etcd.io/etcd/etcdutl/v3",
        estimate_seconds=6,
        version_arguments=("version",),
    ),
    _kubernetes("kube-controller-manager", estimate_seconds=55),
    _kubernetes("kube-scheduler", estimate_seconds=5),
    _kubernetes("kubectl", estimate_seconds=18),
    Program(
        name="kwok",
        module="kwok",
        version=KWOK_VERSION,
        package="sigs.k8s.io/kwok/cmd/kwok",
        linker_flags=(f"-X sigs.k8s.io/kwok/pkg/consts.Version={KWOK_VERSION}",),
        estimate_seconds=60,
    ),
    _kubernetes("kubelet", estimate_seconds=40),
    _kubernetes("kube-proxy", estimate_seconds=10),
    Program(
        name="coredns",
        module="coredns",
        version=COREDNS_VERSION,
        package=".",
        estimate_seconds=40,
        version_arguments=("-version",),
    ),
    Program(
        name="helm",
        module="helm",
        version=HELM_VERSION,
        package="helm.sh/helm/v4/cmd/helm",
        linker_flags=(f"-X helm.sh/helm/v4/internal/version.version={HELM_VERSION}",),
        estimate_seconds=95,
        version_arguments=("version", "--short"),
    ),
    # An S3 server, for the one test that needs a bucket.
    Program(
        name="versitygw",
        module="versitygw",
        version=VERSITYGW_VERSION,
        package="github.com/versity/versitygw/cmd/versitygw",
        linker_flags=(f"-X main.Version={VERSITYGW_VERSION}",),
        estimate_seconds=100,
    ),
)
PROGRAMS: Mapping[str, Program] = MappingProxyType({program.name: program for program in _ALL})
"""Every program, in the order in which building them shares the most and serves the demo first."""

CONTROL_PLANES = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
"""What a rig without real pods needs."""
REAL_NODES = ("kubelet", "kube-proxy", "coredns")
"""What a node with real containers needs beside them."""


def parse_version(text: str) -> tuple[int, ...] | None:
    """Return the first dotted version in `text` as numbers ("Kubernetes v1.36.3" gives (1, 36, 3)).

    A pre-release ("1.27rc2", "v1.36.0-alpha.1") gives None: it is never what a pin asks for.
    """
    match = re.search(r"(?<![\w.])v?(?:go)?(\d+(?:\.\d+){1,2})(-?[A-Za-z][\w.-]*)?", text)
    if match is None or match[2]:
        return None
    return tuple(int(part) for part in match[1].split("."))


def fits(program: Program, version: tuple[int, ...] | None) -> bool:
    """Tell whether a copy of `version` may stand in for the pin: same minor, not older in the patch."""
    pinned = parse_version(program.version)
    assert pinned is not None
    return version is not None and version[:2] == pinned[:2] and version[2:] >= pinned[2:]
