"""The pure parts of the toolchain: versions, estimates, and where things are kept."""

import re
from pathlib import Path

import pytest

from devkit.toolchain import cache
from devkit.toolchain.pins import PROGRAMS, fits, parse_version
from devkit.toolchain.programs import MODULES
from devkit.toolchain.progress import Estimate, clock


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Kubernetes v1.36.3\n", (1, 36, 3)),
        ("etcd Version: 3.6.16\nGit SHA: 5f9a4d1\nGo Version: go1.26.8", (3, 6, 16)),
        ("kwok version v0.8.0 go1.26.8 (linux/amd64)", (0, 8, 0)),
        ("Client Version: v1.36.3\nKustomize Version: v5.8.0", (1, 36, 3)),
        ("go1.26.8", (1, 26, 8)),
        ("go1.26", (1, 26)),
        ("v4.3.1+g1234567", (4, 3, 1)),
        ("Client Version: v1.32.4-dispatcher", None),
        ("v1.36.0-alpha.1", None),
        ("go1.27rc2", None),
        ("command not found", None),
    ],
)
def test_parse_version__as_programs_print_it__gives_numbers_or_none(
    text: str, version: tuple[int, ...] | None
) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("version", "want"),
    [((1, 36, 3), True), ((1, 36, 4), True), ((1, 36, 2), False), ((1, 37, 3), False), (None, False)],
)
def test_fits__same_minor_and_no_older_patch__may_stand_in(
    version: tuple[int, ...] | None, want: bool
) -> None:
    assert fits(PROGRAMS["kube-apiserver"], version) is want


def test_pins__and_go_modules__name_the_same_versions() -> None:
    for program in PROGRAMS.values():
        text = (MODULES / program.module / "go.mod").read_text()
        required = dict(re.findall(r"^\s*(?:require )?(\S+) (v\S+)", text, re.MULTILINE))
        # A main package of our own stands for the one module that it is made from.
        alone = re.findall(r"^require (\S+) v", text, re.MULTILINE) if program.package == "." else []
        module = max((name for name in required if program.package.startswith(name)), key=len, default=None)
        module = module or alone[0]
        assert required[module] == program.version, program.name
        assert (MODULES / program.module / "go.sum").exists()


def test_estimate__a_machine_twice_as_slow__stretches_what_is_left() -> None:
    estimate = Estimate([300, 300])
    assert estimate.left_seconds(estimate_seconds=300, spent_seconds=0) == 600
    estimate.finished(estimate_seconds=300, spent_seconds=600)
    left = estimate.left_seconds(estimate_seconds=300, spent_seconds=0)
    assert left is not None
    assert 500 < left < 600
    assert estimate.left_seconds(estimate_seconds=300, spent_seconds=10_000) is None


def test_estimate__one_tiny_thing_far_off__hardly_moves_the_rest() -> None:
    estimate = Estimate([1, 300])
    estimate.finished(estimate_seconds=1, spent_seconds=10)
    left = estimate.left_seconds(estimate_seconds=300, spent_seconds=0)
    assert left is not None
    assert left < 400


def test_estimate__something_unforeseen__is_counted_in() -> None:
    estimate = Estimate([100])
    estimate.expect(10)
    assert estimate.left_seconds(estimate_seconds=10, spent_seconds=4) == 106


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1:00"), (187, "3:07")])
def test_clock__seconds__reads_as_on_a_watch(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_making__interrupted__leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    place = tmp_path / "v1" / "program"

    def interrupted() -> None:
        with cache.making(place) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not place.exists()
    assert list(place.parent.iterdir()) == []
    # As after a kill -9: nobody cleaned up.
    (place.parent / ".program.making").write_text("half of another")
    with cache.making(place) as temporary:
        assert not temporary.exists()
        temporary.write_text("whole")
    assert place.read_text() == "whole"
    assert [path.name for path in place.parent.iterdir()] == ["program"]


def test_cache_root__told_where__is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path / "here"))
    assert cache.cache_root() == tmp_path / "here"
    monkeypatch.delenv("FALLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_root() == tmp_path / "xdg" / "fallow"
