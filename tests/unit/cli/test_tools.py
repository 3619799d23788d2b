"""The tools' outside: help that fits, quick start, usage errors, and no key in sight."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account

import money_terms as money
from fallow.cli.bundles import BundleDirectory, BundleMissing
from fallow.cli.export import COLUMNS, as_csv, rows_of, totals_of
from fallow.cli.ledger_reads import LedgerReader
from fallow.errors import InvalidSetting, MoneyError
from fallow.receipts.epochs import genesis_commitment
from fallow.receipts.keystores import open_keystore
from fallow.receipts.typed_data import SignatureError, sign
from fallow.receipts.words import to_hex
from fallow.resources.settlement import SettlementSpec
from fallow.settler.statuses import settlement_object
from unit.cli.proof_cases import a_bundle, a_spec
from unit.cli.test_cli import exit_code
from unit.settler.epochs import DOMAIN as LEDGER
from unit.settler.epochs import a_bundle as a_ledger_bundle
from unit.settler.epochs import a_checked_claim

COMMANDS = [
    ["verify"], ["verify", "claim"], ["verify", "epoch"], ["verify", "receipt"],
    ["chain"], ["chain", "deploy"], ["chain", "deposit"], ["chain", "authorize"], ["chain", "balance"],
    ["chain", "register-payee"], ["chain", "withdraw"],
    ["account"], ["account", "bind"], ["export"], ["export", "claims"], ["hub", "restore"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help__of_every_tool__fits_80_columns_and_says_what_it_does(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert exit_code(monkeypatch, *command, "--help") == 0
    out = capsys.readouterr().out
    assert f"Usage: fallow {' '.join(command)}" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "…│" not in out  # no option name is cut off


def test_help__of_fallow__imports_no_chain_client_and_no_signing() -> None:
    program = (
        "import sys; sys.argv = ['fallow', '--help']\n"
        "from fallow.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('web3', 'eth_account', 'kopf', 'kubernetes') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify", "epoch", "1"), "Missing option"),
        (("verify", "epoch", "1", "--rpc", "http://h", "--escrow", "0x1"), "--escrow"),
        (("chain", "balance", "0x12", "--rpc", "http://h"), "--escrow"),
        (("export", "claims", "--archive", ".", "--since", "2027-01-01"), "--settlements"),
        (("hub", "restore", "--archive", ".", "--rpc", "http://h"), "neither"),
    ],
)
def test_usage_error__of_a_tool__exits_2_and_names_the_flag(
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(monkeypatch, *arguments) == 2
    assert said in capsys.readouterr().err


def test_keystore__opened__gives_the_key_and_no_secret_in_errors(tmp_path: Path) -> None:
    keystore, password = tmp_path / "key.json", tmp_path / "password"
    keystore.write_text(json.dumps(Account.encrypt(money.key("payer").key, "secret", "pbkdf2", 1000)))
    password.write_text("secret\n")
    assert open_keystore(keystore, password).address == money.address("payer")
    password.write_text("wrong-password")
    with pytest.raises(InvalidSetting, match="does not open") as refused:
        open_keystore(keystore, password)
    assert "wrong-password" not in str(refused.value)
    for content in ("[]", "{}", "no json"):
        keystore.write_text(content)
        with pytest.raises(InvalidSetting):
            open_keystore(keystore, password)
    keystore.write_text("{}")
    with pytest.raises(InvalidSetting, match="password file"):
        open_keystore(keystore, tmp_path / "none")


def test_rows__of_a_bundle__sum_up_per_provider_and_account() -> None:
    rows = list(rows_of(a_bundle([a_spec(0), a_spec(1)])))
    assert {row["account"] for row in rows} == {"default/default"}
    (total,) = totals_of(rows)
    assert (total["claims"], total["seconds"], total["amount"]) == (2, 7200, "3.6")
    read = list(csv.DictReader(io.StringIO(as_csv(COLUMNS, rows))))
    assert [row["claim_id"] for row in read] == [row["claim_id"] for row in rows]


def test_csv__text_that_a_spreadsheet_would_run__is_made_harmless() -> None:
    (row,) = rows_of(a_bundle([a_spec(0)]))
    text = as_csv(("job", "amount"), [{**row, "job": "=cmd()"}])
    assert text == "job,amount\n'=cmd(),1.8\n"


def a_ledger(*, signer: str = "settler") -> list[SettlementSpec]:
    """Two epochs of a ledger, signed."""
    specs, previous = [], genesis_commitment(LEDGER)
    for number in (1, 2):
        bundle = a_ledger_bundle(number, previous, [a_checked_claim(number)])
        signature = sign(LEDGER, bundle.settlement, key=money.key(signer))
        obj = settlement_object(bundle, name="n", mode="ledger", signature=signature)
        specs.append(SettlementSpec.model_validate(obj["spec"]))
        previous = bundle.commitment
    return specs


def test_ledger__chained_and_signed__stands_in_for_the_chain() -> None:
    specs = a_ledger()
    reader = LedgerReader(specs[::-1], settler=money.address("settler"))
    assert reader.last_epoch() == 2
    assert to_hex(reader.commitment(2)) == specs[1].commitment
    assert reader.commitment(3) == bytes(32)
    with pytest.raises(SignatureError):
        LedgerReader(specs, settler=money.address("stranger"))
    with pytest.raises(MoneyError, match="lacks epoch 1"):
        LedgerReader(specs[1:])
    changed = specs[0].model_copy(update={"claims_root": "0x" + "00" * 32})
    with pytest.raises(MoneyError, match="not what its commitment says"):
        LedgerReader([changed])


def test_directory__changed_or_foreign_files__are_as_good_as_missing(tmp_path: Path) -> None:
    bundle = a_bundle([a_spec(0)])
    (tmp_path / f"{to_hex(bundle.hash)}.json").write_bytes(bundle.data)
    (tmp_path / "notes.json").write_text("{}")
    directory = BundleDirectory(tmp_path)
    assert directory.find(bundle.stated_commitment).data == bundle.data
    assert directory.damaged == ["notes.json"]
    with pytest.raises(BundleMissing, match=r"notes\.json"):
        directory.find(b"\x01" * 32)
    with pytest.raises(InvalidSetting):
        BundleDirectory(tmp_path / "none")
