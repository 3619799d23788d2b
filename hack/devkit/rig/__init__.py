"""Real control planes as plain processes on one machine: a hub, members, a chain, and Fallow on them.

    with up(Path("/tmp/rig"), members=[Member(name="aurora", nodes=16)]) as rig:
        rig.client("submitter").post(…)

No containers and no privileges: API servers, etcd, schedulers and controller-managers are the real
programs; kwok plays the kubelets. `lifecycle` is the place to start reading.
"""

from devkit.rig.api import ApiError, ApiServer
from devkit.rig.lifecycle import down, up
from devkit.rig.members import Member, default_members
from devkit.rig.record import MemberPlane, Rig
from devkit.rig.state import processes_of

__all__ = [
    "ApiError",
    "ApiServer",
    "Member",
    "MemberPlane",
    "Rig",
    "default_members",
    "down",
    "processes_of",
    "up",
]
