"""The thin layer to API servers: raw JSON, typed errors, compare-and-set, views kept by watches.

`client.ApiServer` speaks to one server; `watch.Reflector` keeps a `view.View` of one kind;
`compare_and_set` writes what follows from a read; `lease` says whether this process may write at
all; `writers.Writers` carries writes out; `kopf_host` runs a program with Kopf inside its loop.
"""
