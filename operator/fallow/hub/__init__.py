"""The hub's operator: view → cycle → writes.

Kopf and light watches keep a view of the hub's API server (`view`); one cycle decides on it (`cycle`), with
pure modules for each question (`acceptance`, `folding`, `claims`, `staleness`, `providers`, `snapshots`); a
bounded set of writers carries the decisions out (`carrying`). Everything is re-derived after a restart.
"""
