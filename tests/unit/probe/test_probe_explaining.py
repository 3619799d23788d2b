"""From a process to its pod, by control group."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.probe.explaining import HOST, CgroupPodResources, pod_uid

UID = "0a1b2c3d-1111-4222-8333-444455556666"
LOW = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
ID = "4c5d" * 16


@pytest.mark.parametrize(
    ("cgroup", "want"),
    [
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{LOW}.slice/cri-{ID}.scope",
            UID,
        ),
        (f"0::/kubepods.slice/kubepods-pod{LOW}.slice/cri-containerd-{ID}.scope", UID),
        (f"0::/kubepods/besteffort/pod{UID}/{ID}", UID),
        (f"0::/kubepods/pod{UID}", UID),
        (f"0::/../../pod{UID}/{ID}", UID),
        (
            f"0::/../../../kubepods-besteffort.slice/kubepods-besteffort-pod{LOW}.slice/x.scope/init.scope",
            UID,
        ),
        (f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{LOW}.slice/x.scope", UID),
        (f"11:memory:/\n4:cpu,cpuacct:/kubepods/burstable/pod{UID}/{ID}\n0::/", UID),
        (f"0::/kubepods/burstable/pod{STATIC}/{ID}", STATIC),
        ("0::/user.slice/user-1000.slice/session-3.scope", HOST),
        (f"0::/system.slice/docker-{ID}.scope", HOST),
        ("0::/machine.slice/libpod-0123456789abcdef0123456789abcdef.scope", HOST),
        (f"0::/user.slice/tripod{UID}/x", HOST),
        (f"0::/x/pod{UID}abc/x", HOST),
        ("0::/", HOST),
        ("", HOST),
    ],
)
def test_pod_uid__of_a_cgroup__is(cgroup: str, want: str) -> None:
    assert pod_uid(cgroup) == want


def test_pod_of__process_just_ended__is_gone_and_one_never_seen_is_the_hosts(tmp_path: Path) -> None:
    owners = CgroupPodResources(tmp_path)
    # On two devices at once: still the same look.
    assert [owners.pod_of(7, device=device) for device in ("GPU-0", "GPU-1")] == [None, None]
    owners.next_look()
    assert [owners.pod_of(7, device=device) for device in ("GPU-0", "GPU-1")] == [HOST, HOST]
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"0::/kubepods/pod{UID}/x\n")
    assert owners.pod_of(7, device="GPU-0") == UID


def test_pod_of__number_used_again_later__starts_anew(tmp_path: Path) -> None:
    owners = CgroupPodResources(tmp_path)
    assert owners.pod_of(7, device="GPU-0") is None
    owners.next_look()
    owners.next_look()
    assert owners.pod_of(7, device="GPU-0") is None
