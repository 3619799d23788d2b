"""The committed golden vectors are what the code makes today; Foundry checks the same files."""

from __future__ import annotations

import json
from fractions import Fraction
from math import floor

import pytest
from eth_abi.abi import encode
from eth_account.messages import encode_typed_data

from devkit import money_vectors
from fallow.receipts import merkle
from fallow.receipts.messages import Receipt
from fallow.receipts.typed_data import digest, struct_hash
from fallow.receipts.words import keccak, uid_bytes


@pytest.mark.parametrize("name", sorted(money_vectors.vectors()))
def test_vector_file__made_again__is_what_is_committed(name: str) -> None:
    assert (money_vectors.VECTORS / name).read_text() == money_vectors.vectors()[name]


def test_merkle_root__openzeppelins_published_example__is_its_root() -> None:
    # From the README of @openzeppelin/merkle-tree.
    rows = [
        ("0x1111111111111111111111111111111111111111", 5 * 10**18),
        ("0x2222222222222222222222222222222222222222", 25 * 10**17),
    ]
    leaves = [merkle.leaf_hash(encode(["address", "uint256"], row)) for row in rows]
    assert merkle.root(leaves).hex() == "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"


def test_receipt_digest__hashed_by_eth_account_from_its_type_string__is_equal() -> None:
    domain = money_vectors.DOMAIN
    receipt = Receipt(
        hub_id=domain.hub_id,
        provider="aurora",
        payer="0x" + "11" * 20,
        payee="0x" + "22" * 20,
        token="0x" + "33" * 20,
        job_uid=money_vectors.JOB_UID,
        placement_uid=money_vectors.PLACEMENT_UIDS[1],
        quote_hash=keccak(b"quote"),
        sequence=3,
        previous_receipt=keccak(b"previous"),
        period_start=1,
        period_end=2,
        attempts_root=keccak(b"root"),
        total_seconds=4,
        cumulative_amount=5,
    )
    fields = [
        field.split(" ") for field in Receipt.TYPE.removeprefix("Receipt(").removesuffix(")").split(",")
    ]
    values: list[object] = [
        receipt.hub_id, receipt.provider, receipt.payer, receipt.payee, receipt.token,
        uid_bytes(receipt.job_uid), uid_bytes(receipt.placement_uid),
        receipt.quote_hash, 3, receipt.previous_receipt, 1, 2, receipt.attempts_root, 4, 5,
    ]  # fmt: skip
    signable = encode_typed_data(
        domain_data={
            "name": "Fallow",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.escrow,
            "salt": domain.hub_id,
        },
        message_types={"Receipt": [{"name": name, "type": kind} for kind, name in fields]},
        message_data={name: value for (_, name), value in zip(fields, values, strict=True)},
    )
    assert bytes(signable.header) == domain.separator()
    assert bytes(signable.body) == struct_hash(receipt)
    assert keccak(b"\x19\x01" + signable.header + signable.body) == digest(domain, receipt)


def test_intervals__read_from_the_vector_file__sum_to_one_floor_and_never_overlap() -> None:
    """As another implementation would read it: with nothing but the file and eth_abi."""
    vector = json.loads((money_vectors.VECTORS / "intervals.json").read_text())
    typehash = keccak(vector["type"].encode())
    total = seconds = 0
    seen: dict[int, int] = {}
    for number in range(vector["claimCount"]):
        claim = vector[f"claim{number}"]
        leaves = []
        stops: dict[int, int] = {}
        for text in claim["elapsed"]:
            span, _, tasks = text.partition(":")
            start, stop = (int(each) for each in span.split("-"))
            first, _, last = tasks.partition("-")
            for index in range(int(first), int(last or first) + 1):
                assert seen.get(index, 0) == start
                seen[index] = stops[index] = stop
                if stop > start:
                    leaves.append((index, start, stop, b"I", bytes(32)))
        for text in claim["ended"]:
            index, _, end, outcome, _ = text.split(":")
            leaves.append((int(index), stops[int(index)], int(end), outcome.encode(), bytes(32)))
        hashes = [
            merkle.leaf_hash(
                encode(
                    ["bytes32", "uint32", "uint32", "uint64", "uint64", "bytes1", "bytes32"],
                    [typehash, index, vector["attempt"], start, stop, outcome, digest_],
                )
            )
            for index, start, stop, outcome, digest_ in leaves
        ]
        assert "0x" + merkle.root(hashes).hex() == claim["claimRoot"]
        assert claim["secondsBefore"] == seconds
        assert claim["seconds"] == sum(stop - start for _, start, stop, _, _ in leaves)
        seconds += claim["seconds"]
        total += claim["amount"]
        assert total == seconds * vector["pricePerTaskHour"] // 3600
        assert claim["receiptSeconds"] >= seconds


def test_prices__read_from_the_vector_file__are_one_floor_of_exact_fractions() -> None:
    vector = json.loads((money_vectors.VECTORS / "prices.json").read_text())
    for number in range(vector["count"]):
        row = vector[f"row{number}"]
        exact = (
            Fraction(row["cpuMillicores"], 1000) * row["cpuCoreHour"]
            + Fraction(row["memoryMiB"], 1024) * row["memoryGiBHour"]
            + sum(row["devices"].values()) * row["deviceHour"]
        )
        assert row["pricePerTaskHour"] == floor(exact)
