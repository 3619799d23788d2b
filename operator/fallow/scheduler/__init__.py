"""Who runs what where: pure decisions over a frozen snapshot.

`cycle.schedule(snapshot)` is the one entry point. It knows no clock, no network and no Kubernetes; the same
snapshot gives the same decisions, so a test is a snapshot and the decisions wanted.
"""
