"""A node with real containers: kubelet, containerd and runc in namespaces of their own.

The node's first process owns a network, a process table and a mount table that nobody else sees: what runs on
the node ends with that process, and its mounts and interfaces with it. No interface leads out of the node's
network. `wires` carries single connections between it and the loopback of the machine, over sockets.

`node` is the place to start reading.
"""

from devkit.rig.real.machine import prepare, why_not
from devkit.rig.real.node import RealNode, server_options, sweep

__all__ = ["RealNode", "prepare", "server_options", "sweep", "why_not"]
