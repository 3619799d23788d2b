"""The pure parts of the rig: who a process is, what members look like, what kwok is told."""

import yaml

from devkit.rig.members import H100, Member, default_members, node_object
from devkit.rig.planes import STAGES
from devkit.rig.processes import Identity, parse_stat

REST = "1 23 23 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 2000 3 18446744073709551615"


def test_parse_stat__a_plain_line__gives_number_start_and_state() -> None:
    assert parse_stat(f"4242 (sh) S {REST}") == (Identity(pid=4242, start_ticks=987654), "S")


def test_parse_stat__a_name_with_spaces_and_parentheses__is_not_fooled() -> None:
    assert parse_stat(f"4242 (a) R 1 (b c) Z {REST}") == (Identity(pid=4242, start_ticks=987654), "Z")


def test_parse_stat__a_record_cut_short__is_none() -> None:
    for line in ("", "4242", "4242 (sh) S 1 2 3", "garbage", f"x (sh) S {REST}"):
        assert parse_stat(line) is None


def test_default_members__two__are_aurora_and_borealis_in_other_regions_at_other_prices() -> None:
    aurora, borealis, third = default_members(3, nodes=4, gpus_per_node=8)
    assert (aurora.name, borealis.name, third.name) == ("aurora", "borealis", "member-3")
    assert aurora.region != borealis.region
    assert (aurora.prices["gpu"], borealis.prices["gpu"]) == ("2.00", "2.20")


def test_node_object__with_accelerators__is_labelled_as_feature_discovery_does() -> None:
    node = node_object(Member(name="aurora", gpus_per_node=4), 7)
    assert node["metadata"]["name"] == "aurora-007"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "4"
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == H100
    assert node["metadata"]["labels"]["nvidia.com/gpu.count"] == "4"


def test_node_object__without_accelerators__mentions_none() -> None:
    node = node_object(Member(name="aurora", gpus_per_node=0), 0)
    assert "nvidia.com/gpu" not in node["status"]["capacity"]
    assert not [label for label in node["metadata"]["labels"] if label.startswith("nvidia.com")]


def test_stages__for_pods__are_disjoint_about_deletion() -> None:
    stages = [stage for stage in yaml.safe_load_all(STAGES.read_text()) if stage]
    pods = [stage for stage in stages if stage["spec"]["resourceRef"]["kind"] == "Pod"]
    assert len(pods) == 5
    for stage in pods:
        keys = [e["key"] for e in stage["spec"]["selector"]["matchExpressions"]]
        assert ".metadata.deletionTimestamp" in keys, stage["metadata"]["name"]
