"""What end-to-end tests, soaks and benchmarks do on a rig: submit as people do, watch what really happens.

`submitting` plays the submitter and reads back jobs, claims and chain; `pod_log` keeps every event of guest
pods as the members' own API servers tell it; `invariants` says what must hold; `faults` breaks things.
"""
