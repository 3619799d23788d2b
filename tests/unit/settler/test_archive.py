"""Bundles, the archive and the history that is read from it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import money_terms as money
from fallow.receipts.epochs import genesis_commitment
from fallow.receipts.terms import canonical_json
from fallow.receipts.words import to_hex
from fallow.settler.archive import Archive
from fallow.settler.archive_directory import DirectoryStore
from fallow.settler.bundle import Bundle
from fallow.settler.faults import Faults
from fallow.settler.history import History
from fallow.settler.refusals import ArchiveDamaged
from unit.settler.epochs import DOMAIN, a_bundle, a_checked_claim


async def _chain(archive: Archive, length: int) -> list[Bundle]:
    made: list[Bundle] = []
    previous = genesis_commitment(DOMAIN)
    for number in range(1, length + 1):
        made.append(
            a_bundle(number, previous, [a_checked_claim(2 * number), a_checked_claim(2 * number + 1)])
        )
        await archive.write(made[-1])
        previous = made[-1].commitment
    return made


async def _archive(directory: Path) -> Archive:
    archive = Archive(DirectoryStore(directory, faults=Faults()))
    await archive.scan()
    return archive


def test_bundle__made_again_from_the_same_claims__is_the_same_bytes() -> None:
    claims = [a_checked_claim(1), a_checked_claim(2)]
    genesis = genesis_commitment(DOMAIN)
    assert a_bundle(1, genesis, claims).data == a_bundle(1, genesis, claims[::-1]).data


def test_bundle__read_back__says_what_was_settled() -> None:
    bundle = Bundle(a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1), a_checked_claim(2)]).data)
    assert [line.amount for line in bundle.lines] == [3_600_000]
    assert {claim.name for claim in bundle.claims()} == {"claim-1", "claim-2"}
    assert sum(paid.amount for paid in bundle.counted()) == 3_600_000


async def test_archive__another_process_opens_it__finds_everything(tmp_path: Path) -> None:
    first, second = await _chain(await _archive(tmp_path), 2)
    archive = await _archive(tmp_path)
    assert (await archive.find(second.commitment)).data == second.data
    assert [each.hash for each in await archive.followers(first.commitment)] == [second.hash]


async def test_archive__half_written_bundle__counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / ("0x" + "12" * 32 + ".partial")).write_bytes(b"{")
    assert await (await _archive(tmp_path)).followers(genesis_commitment(DOMAIN)) == []


async def test_archive__written_twice__stays_as_it_was(tmp_path: Path) -> None:
    archive = await _archive(tmp_path)
    (bundle,) = await _chain(archive, 1)
    await archive.write(bundle)
    assert len(os.listdir(tmp_path)) == 1


async def test_archive__bundle_changed_on_disk__is_noticed(tmp_path: Path) -> None:
    archive = await _archive(tmp_path)
    (bundle,) = await _chain(archive, 1)
    path = tmp_path / f"{to_hex(bundle.hash)}.json"
    path.write_bytes(path.read_bytes().replace(b"3600000", b"9600000"))
    with pytest.raises(ArchiveDamaged, match="changed"):
        await Archive(DirectoryStore(tmp_path, faults=Faults())).load(bundle.hash)
    with pytest.raises(ArchiveDamaged, match="changed"):
        await _archive(tmp_path)


async def test_history__followed_to_the_last_commitment__holds_what_was_paid(tmp_path: Path) -> None:
    archive = await _archive(tmp_path)
    bundles = await _chain(archive, 3)
    unused = a_bundle(3, bundles[1].commitment, [a_checked_claim(50)])
    await archive.write(unused)
    history = History(archive, DOMAIN)
    await history.follow(bundles[2].commitment)
    assert history.epochs == 3
    assert history.books.by_payer == {money.address("payer"): 6 * 1_800_000}
    assert a_checked_claim(50).claim.claim_id not in history.books


async def test_history__a_bundle_of_the_past_is_missing__refuses_to_go_on(tmp_path: Path) -> None:
    archive = await _archive(tmp_path)
    bundles = await _chain(archive, 3)
    (tmp_path / f"{to_hex(bundles[1].hash)}.json").unlink()
    with pytest.raises(ArchiveDamaged, match="not in the archive"):
        await History(await _archive(tmp_path), DOMAIN).follow(bundles[2].commitment)


async def test_history__final_epochs_undone__counts_anew(tmp_path: Path) -> None:
    archive = await _archive(tmp_path)
    first, second = await _chain(archive, 2)
    other = a_bundle(2, first.commitment, [a_checked_claim(60)])
    await archive.write(other)
    history = History(archive, DOMAIN)
    await history.follow(second.commitment)
    await history.follow(other.commitment)
    assert history.commitments() == [first.commitment, other.commitment]
    assert history.books.by_payer[money.address("payer")] == 3 * 1_800_000


@pytest.mark.parametrize("field", ["salt", "claimLeaf", "allocationLeaf", "line"])
def test_bundle__claims__carry_all_that_a_verifier_needs(field: str) -> None:
    bundle = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1)])
    content: dict[str, Any] = json.loads(bundle.data)
    assert field in content["claims"][0]


def test_bundle__written_a_claim_at_a_time__is_canonical_json_and_reads_back_as_any_parser_has_it() -> None:
    # More than one piece of text, and cut wherever a piece ends.
    claims = [a_checked_claim(number) for number in range(500)]
    bundle = a_bundle(1, genesis_commitment(DOMAIN), claims)
    content = json.loads(bundle.data)
    assert bundle.data == canonical_json(content)
    assert len(bundle.data) > 1 << 20
    assert [claim.uid for claim in bundle.claims()] == [claim["uid"] for claim in content.pop("claims")]
    assert bundle.content == content


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'},{"allocationLeaf"', b'}{"allocationLeaf"'),
        lambda data: b"[" + data + b"]",
        lambda data: b"",
    ],
)
def test_bundle__of_damaged_text__is_refused(damage: Callable[[bytes], bytes]) -> None:
    data = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1), a_checked_claim(2)]).data
    with pytest.raises(ArchiveDamaged):
        _read(Bundle(damage(data)))


def _read(bundle: Bundle) -> None:
    assert list(bundle.claims())
    assert bundle.content
