"""Golden vectors of the money formats: made here from Python, checked by Foundry and by pytest.

`contracts/test/Vectors.t.sol` recomputes every hash with Solidity's own `abi.encode` and keccak, so
a slip in either language, or a change of a format, is seen. All inputs are fixed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eth_account import Account

from fallow.receipts import merkle
from fallow.receipts.attempts import ATTEMPT_TYPE, AttemptLeaf, attempts_root, payable_seconds
from fallow.receipts.charging import charged, covered_elapsed
from fallow.receipts.epochs import (
    ALLOCATION_TYPE,
    CLAIM_TYPE,
    Claim,
    Epoch,
    claim_id,
    commitment,
    genesis_commitment,
)
from fallow.receipts.messages import AccountAuthorization, PayeeRegistration, Quote, Receipt
from fallow.receipts.pricing import UnitPrices, price_per_task_hour
from fallow.receipts.requests import Requests
from fallow.receipts.typed_data import Domain, TypedMessage, digest, sign, struct_hash
from fallow.receipts.words import checksummed, keccak, to_hex, uid_bytes
from fallow.resources.elapsed import parse_all, stops_of
from fallow.resources.ended import Ended, Outcome, result_digest

VECTORS = Path(__file__).parents[2] / "contracts" / "test" / "vectors"

HUB_ID = keccak(b"fallow test hub")
ESCROW = checksummed("0x" + keccak(b"escrow")[:20].hex())
TOKEN = checksummed("0x" + keccak(b"token")[:20].hex())
DOMAIN = Domain(chain_id=31337, escrow=ESCROW, hub_id=HUB_ID)
SALT_KEY = keccak(b"salt key")
JOB_UID = "8f14e45f-ceea-467f-a0e6-7b3b3c2d1e0f"
PLACEMENT_UIDS = tuple(f"0b5ad3c1-{n:04x}-4e2b-9d3f-2a1b0c9d8e7f" for n in range(6))


def _key(name: str) -> Any:
    return Account.from_key(keccak(name.encode()))


def _address(name: str) -> str:
    return str(_key(name).address)


def merkle_vector() -> dict[str, Any]:
    """Five leaves (no power of two) with a proof each."""
    encoded = [bytes([number]) * 64 for number in range(1, 6)]
    leaves = [merkle.leaf_hash(each) for each in encoded]
    vector: dict[str, Any] = {"count": len(leaves), "root": to_hex(merkle.root(leaves))}
    for number, (each, leaf) in enumerate(zip(encoded, leaves, strict=True)):
        vector[f"encoded{number}"] = to_hex(each)
        vector[f"leaf{number}"] = to_hex(leaf)
        vector[f"proof{number}"] = [to_hex(sibling) for sibling in merkle.proof(leaves, leaf)]
    return vector


def attempts_vector() -> dict[str, Any]:
    """Two attempts: one with a result, one without."""
    ended = [
        Ended(3, 1, 3600, Outcome.SUCCEEDED, result_digest("loss=0.25")),
        Ended(70_000, 0, 1, Outcome.RECLAIMED),
    ]
    vector: dict[str, Any] = {"type": ATTEMPT_TYPE, "root": to_hex(attempts_root(ended))}
    for number, each in enumerate(ended):
        vector[f"attempt{number}"] = {
            "string": str(each),
            "index": each.index,
            "attempt": each.attempt,
            "fromSeconds": 0,
            "toSeconds": each.seconds,
            "outcome": to_hex(each.outcome.value.encode()),
            "digest": to_hex(each.digest or bytes(32)),
            "leaf": to_hex(AttemptLeaf.of(each).hash()),
        }
    return vector


def intervals_vector() -> dict[str, Any]:
    """Return a placement billed by the interval: three claims, each with its receipt's root and its own.

    Index 0 runs for 1543 s and succeeds; index 1 is lost after 700 s. Intervals are 600 s long.
    """
    price, attempt = 1_800_001, 2
    done, lost = Ended(0, attempt, 1543, Outcome.SUCCEEDED), Ended(1, attempt, 700, Outcome.LOST)
    claims: tuple[tuple[list[Ended], list[Ended], list[str]], ...] = (
        ([], [], ["0-600:0-1"]),
        ([], [lost], ["600-600:1", "600-1200:0"]),
        ([done], [lost], ["600-600:1", "1200-1200:0"]),
    )
    vector: dict[str, Any] = {
        "type": ATTEMPT_TYPE,
        "attempt": attempt,
        "pricePerTaskHour": price,
        "claimCount": len(claims),
    }
    for number, (paid, covered, texts) in enumerate(claims):
        elapsed = parse_all(texts)
        sums = charged(paid, elapsed, longest=10**6)
        whole = covered_elapsed(elapsed)
        vector[f"claim{number}"] = {
            "ended": [str(one) for one in paid],
            "alsoCovered": [str(one) for one in covered],
            "elapsed": texts,
            "receiptRoot": to_hex(attempts_root([*paid, *covered], whole, attempt=attempt)),
            "receiptSeconds": payable_seconds([*paid, *covered], stops_of(whole)),
            "claimRoot": to_hex(attempts_root(paid, elapsed, attempt=attempt)),
            "secondsBefore": sums.before,
            "seconds": sums.seconds,
            "amount": sums.amount(price),
        }
    return vector


def prices_vector() -> dict[str, Any]:
    """Prices of a task-hour, from unit prices in smallest units and a pod's requests."""
    rows = (
        (Requests(cpu_millicores=0, memory_mib=0, devices={"nvidia.com/gpu": 1}), 0, 0, 1_800_000),
        (
            Requests(cpu_millicores=1500, memory_mib=3000, devices={"nvidia.com/gpu": 2}),
            10_000,
            1_000,
            1_800_000,
        ),
        (Requests(cpu_millicores=1, memory_mib=1, devices={}), 999, 1023, 0),
    )
    vector: dict[str, Any] = {"count": len(rows)}
    for number, (requests, core, gib, device) in enumerate(rows):
        prices = UnitPrices(cpu_core_hour=core, memory_gib_hour=gib, device_hour={"nvidia.com/gpu": device})
        vector[f"row{number}"] = {
            "cpuMillicores": requests.cpu_millicores,
            "memoryMiB": requests.memory_mib,
            "devices": dict(requests.devices),
            "cpuCoreHour": core,
            "memoryGiBHour": gib,
            "deviceHour": device,
            "pricePerTaskHour": price_per_task_hour(requests, prices),
        }
    return vector


def messages_vector() -> dict[str, Any]:
    """One of each signed message, with its hashes and signature."""
    quote = Quote(
        provider="aurora",
        payee=_address("payee"),
        signer=_address("signer"),
        terms_hash=keccak(b"terms"),
        valid_until=1_900_000_000,
        sequence=7,
    )
    receipt = Receipt(
        hub_id=HUB_ID,
        provider="aurora",
        payer=_address("payer"),
        payee=_address("payee"),
        token=TOKEN,
        job_uid=JOB_UID,
        placement_uid=PLACEMENT_UIDS[0],
        quote_hash=digest(DOMAIN, quote),
        sequence=2,
        previous_receipt=keccak(b"previous"),
        period_start=1_800_000_000,
        period_end=1_800_003_600,
        attempts_root=keccak(b"attempts"),
        total_seconds=3600,
        cumulative_amount=2_500_000,
    )
    authorization = AccountAuthorization(
        hub_id=HUB_ID,
        namespace_uid=JOB_UID,
        payer=_address("payer"),
        max_total=10**12,
        expiry=1_900_000_000,
        nonce=1,
    )
    registration = PayeeRegistration(payee=_address("payee"), deadline=1_900_000_000)
    return {
        "chainId": DOMAIN.chain_id,
        "escrow": DOMAIN.escrow,
        "hubId": to_hex(DOMAIN.hub_id),
        "separator": to_hex(DOMAIN.separator()),
        "ledgerSeparator": to_hex(Domain.of_ledger(HUB_ID).separator()),
        "quote": _signed(quote, "signer"),
        "receipt": _signed(receipt, "signer"),
        "authorization": _signed(authorization, "payer"),
        "registration": _signed(registration, "payee"),
    }


def _signed(message: TypedMessage, key: str) -> dict[str, Any]:
    return {
        "type": message.TYPE,
        "words": to_hex(message.words()),
        "structHash": to_hex(struct_hash(message)),
        "digest": to_hex(digest(DOMAIN, message)),
        "signer": _address(key),
        "signature": sign(DOMAIN, message, key=_key(key)),
    }


def an_epoch() -> Epoch:
    """Six claims of two payers and three payees: five lines."""
    claims = [
        Claim(
            claim_id=claim_id(HUB_ID, uid, 0),
            provider=f"provider-{number % 3}",
            job_uid=JOB_UID,
            placement_uid=uid,
            quote_hash=keccak(b"quote %d" % number),
            receipt_hash=keccak(b"receipt %d" % number),
            attempts_root=keccak(b"attempts %d" % number),
            payer=_address(f"payer {number % 2}"),
            payee=_address(f"payee {number // 2}"),
            total_seconds=3600 + number,
            price_per_task_hour=1_800_000,
            amount=1_800_000 + 500 * number,
        )
        for number, uid in enumerate(PLACEMENT_UIDS)
    ]
    return Epoch.of(
        claims,
        domain=DOMAIN,
        number=1,
        previous_commitment=genesis_commitment(DOMAIN),
        salt_key=SALT_KEY,
    )


def epoch_vector() -> dict[str, Any]:
    """One epoch from claims to commitment."""
    epoch = an_epoch()
    settlement = epoch.settlement(keccak(b"bundle"))
    vector: dict[str, Any] = {
        "claimType": CLAIM_TYPE,
        "allocationType": ALLOCATION_TYPE,
        "chainId": DOMAIN.chain_id,
        "escrow": DOMAIN.escrow,
        "hubId": to_hex(DOMAIN.hub_id),
        "epoch": epoch.number,
        "previousCommitment": to_hex(epoch.previous_commitment),
        "packedLines": to_hex(epoch.packed_lines),
        "lineCount": len(epoch.lines),
        "claimsRoot": to_hex(epoch.claims_root),
        "allocationsRoot": to_hex(epoch.allocations_root),
        "bundleHash": to_hex(settlement.bundle_hash),
        "commitment": to_hex(commitment(settlement)),
        "claimCount": len(epoch.claims),
        "saltKey": to_hex(SALT_KEY),
    }
    for index, claim in enumerate(epoch.claims):
        vector[f"claim{index}"] = {
            "salt": to_hex(epoch.salts[index]),
            "claimId": to_hex(claim.claim_id),
            "provider": claim.provider,
            "jobUid": to_hex(uid_bytes(claim.job_uid)),
            "placementUid": to_hex(uid_bytes(claim.placement_uid)),
            "sequence": 0,
            "quoteHash": to_hex(claim.quote_hash),
            "receiptHash": to_hex(claim.receipt_hash),
            "attemptsRoot": to_hex(claim.attempts_root),
            "payer": claim.payer,
            "payee": claim.payee,
            "totalSeconds": claim.total_seconds,
            "pricePerTaskHour": claim.price_per_task_hour,
            "amount": claim.amount,
            "lineIndex": epoch.line_index(index),
            "claimLeaf": to_hex(epoch.claim_leaf(index)),
            "allocationLeaf": to_hex(epoch.allocation_leaf(index)),
        }
    return vector


def vectors() -> dict[str, str]:
    """All vector files by name, as their text."""
    made = {
        "merkle.json": merkle_vector(),
        "attempts.json": attempts_vector(),
        "intervals.json": intervals_vector(),
        "prices.json": prices_vector(),
        "messages.json": messages_vector(),
        "epoch.json": epoch_vector(),
    }
    return {name: json.dumps(vector, indent=2) + "\n" for name, vector in made.items()}


def write() -> None:
    """Write the vector files."""
    VECTORS.mkdir(parents=True, exist_ok=True)
    for name, text in vectors().items():
        (VECTORS / name).write_text(text)
