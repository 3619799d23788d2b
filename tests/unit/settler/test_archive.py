"""Bundles, the archive and the history that is read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import money_terms as money
from fallow.receipts.epochs import genesis_commitment
from fallow.receipts.words import to_hex
from fallow.settler.archive import DirectoryArchive
from fallow.settler.bundle import Bundle
from fallow.settler.faults import Faults
from fallow.settler.history import History
from fallow.settler.refusals import ArchiveDamaged
from unit.settler.epochs import DOMAIN, a_bundle, a_checked_claim


def _chain(archive: DirectoryArchive, length: int) -> list[Bundle]:
    made: list[Bundle] = []
    previous = genesis_commitment(DOMAIN)
    for number in range(1, length + 1):
        made.append(
            a_bundle(number, previous, [a_checked_claim(2 * number), a_checked_claim(2 * number + 1)])
        )
        archive.write(made[-1])
        previous = made[-1].commitment
    return made


def _archive(directory: Path) -> DirectoryArchive:
    return DirectoryArchive(directory, faults=Faults())


def test_bundle__made_again_from_the_same_claims__is_the_same_bytes() -> None:
    claims = [a_checked_claim(1), a_checked_claim(2)]
    genesis = genesis_commitment(DOMAIN)
    assert a_bundle(1, genesis, claims).data == a_bundle(1, genesis, claims[::-1]).data


def test_bundle__read_back__says_what_was_settled() -> None:
    bundle = Bundle(a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1), a_checked_claim(2)]).data)
    assert [line.amount for line in bundle.lines] == [3_600_000]
    assert {claim.name for claim in bundle.claims} == {"claim-1", "claim-2"}
    assert sum(paid.amount for paid in bundle.counted()) == 3_600_000


def test_archive__another_process_opens_it__finds_everything(tmp_path: Path) -> None:
    first, second = _chain(_archive(tmp_path), 2)
    archive = _archive(tmp_path)
    assert archive.find(second.commitment).data == second.data
    assert [each.hash for each in archive.followers(first.commitment)] == [second.hash]


def test_archive__half_written_bundle__counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / ("0x" + "12" * 32 + ".partial")).write_bytes(b"{")
    assert _archive(tmp_path).followers(genesis_commitment(DOMAIN)) == []


def test_archive__written_twice__stays_as_it_was(tmp_path: Path) -> None:
    archive = _archive(tmp_path)
    (bundle,) = _chain(archive, 1)
    archive.write(bundle)
    assert len(list(tmp_path.iterdir())) == 1


def test_archive__bundle_changed_on_disk__is_noticed(tmp_path: Path) -> None:
    archive = _archive(tmp_path)
    (bundle,) = _chain(archive, 1)
    path = tmp_path / f"{to_hex(bundle.hash)}.json"
    path.write_bytes(path.read_bytes().replace(b"3600000", b"9600000"))
    with pytest.raises(ArchiveDamaged, match="changed"):
        archive.load(bundle.hash)
    with pytest.raises(ArchiveDamaged, match="changed"):
        _archive(tmp_path)


def test_history__followed_to_the_last_commitment__holds_what_was_paid(tmp_path: Path) -> None:
    archive = _archive(tmp_path)
    bundles = _chain(archive, 3)
    unused = a_bundle(3, bundles[1].commitment, [a_checked_claim(50)])
    archive.write(unused)
    history = History(archive, DOMAIN)
    history.follow(bundles[2].commitment)
    assert history.epochs == 3
    assert history.books.by_payer == {money.address("payer"): 6 * 1_800_000}
    assert a_checked_claim(50).claim.claim_id not in history.books


def test_history__a_bundle_of_the_past_is_missing__refuses_to_go_on(tmp_path: Path) -> None:
    archive = _archive(tmp_path)
    bundles = _chain(archive, 3)
    (tmp_path / f"{to_hex(bundles[1].hash)}.json").unlink()
    with pytest.raises(ArchiveDamaged, match="not in the archive"):
        History(_archive(tmp_path), DOMAIN).follow(bundles[2].commitment)


def test_history__final_epochs_undone__counts_anew(tmp_path: Path) -> None:
    archive = _archive(tmp_path)
    first, second = _chain(archive, 2)
    other = a_bundle(2, first.commitment, [a_checked_claim(60)])
    archive.write(other)
    history = History(archive, DOMAIN)
    history.follow(second.commitment)
    history.follow(other.commitment)
    assert history.commitments() == [first.commitment, other.commitment]
    assert history.books.by_payer[money.address("payer")] == 3 * 1_800_000


@pytest.mark.parametrize("field", ["salt", "claimLeaf", "allocationLeaf", "line"])
def test_bundle__claims__carry_all_that_a_verifier_needs(field: str) -> None:
    content: dict[str, Any] = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1)]).content
    assert field in content["claims"][0]
