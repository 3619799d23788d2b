"""Settings: flags win over variables, and whatever is wrong is one sentence that says what to write."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from fallow.errors import InvalidSetting
from fallow.settings import (
    AgentSettings,
    CommonSettings,
    HubSettings,
    ProbeSettings,
    ProgramSettings,
    SettlerSettings,
    parse,
    unknown_variables,
    variables,
)

HUB_ID = "0x" + "ab" * 32
PAYEE = "0x" + "12" * 20
PROGRAMS: list[type[ProgramSettings]] = [HubSettings, AgentSettings, SettlerSettings, ProbeSettings]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("FALLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FALLOW_HUB_ID", HUB_ID)


def refused(*arguments: str, program: type[CommonSettings] = HubSettings) -> str:
    with pytest.raises(InvalidSetting) as caught:
        parse(program, arguments)
    return str(caught.value)


def test_parse__flag_and_variable__flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_KUBECONFIG", "/from/variable")
    monkeypatch.setenv("FALLOW_LEASE__NAME", "from-variable")
    settings, _ = parse(HubSettings, ["--kubeconfig", "/from/flag"])
    assert settings.kubeconfig == Path("/from/flag")
    assert settings.lease.name == "from-variable"


def test_parse__one_of_a_group__leaves_the_others_at_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_SILENCE__SILENT_SECONDS", "7")
    settings, _ = parse(HubSettings, ["--silence.mass-silence-providers=5"])
    assert settings.silence.silent_seconds == 7
    assert settings.silence.mass_silence_providers == 5
    assert settings.silence.mass_silence_window_seconds == 30


def test_parse__defaults__are_what_the_design_says() -> None:
    hub, _ = parse(HubSettings, [])
    assert hub.payments.mode == "ledger"
    assert (hub.silence.silent_seconds, hub.silence.mass_silence_hold_seconds) == (20, 600)
    assert hub.jobs.placement_tasks_max == 1024
    agent, _ = parse(AgentSettings, ["--provider=p", "--hub-kubeconfig=/h", f"--payee={PAYEE}"])
    assert (agent.writes.per_second, agent.writes.burst) == (20, 200)
    assert agent.guests.namespace == "fallow-guests"
    assert agent.kubeconfig is None


@pytest.mark.parametrize("by", ["flag", "repeated flag", "variable"])
def test_parse__several_rpc_urls__are_split_at_commas_and_never_shown(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--archive-directory=/a"]
    if by == "flag":
        arguments += ["--chain.rpc-urls", "http://a/key,http://b"]
    elif by == "repeated flag":
        arguments += ["--chain.rpc-urls", "http://a/key", "--chain.rpc-urls", "http://b"]
    else:
        monkeypatch.setenv("FALLOW_CHAIN__RPC_URLS", "http://a/key, http://b")
    settings, _ = parse(SettlerSettings, arguments)
    assert settings.chain.rpc_urls == ("http://a/key", "http://b")
    assert "key" not in repr(settings.chain)
    assert "rpc_urls" not in settings.model_dump(mode="json")["chain"]


def test_parse__hub_id_in_capitals__is_the_same_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_HUB_ID", HUB_ID.upper().replace("0X", "0x"))
    assert parse(HubSettings, [])[0].hub_id == HUB_ID


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (
            ["--payments.mode=cash"],
            "--payments.mode (FALLOW_PAYMENTS__MODE) must be 'chain' or 'ledger', not 'cash'.",
        ),
        (
            ["--lease.duration-seconds=soon"],
            "--lease.duration-seconds (FALLOW_LEASE__DURATION_SECONDS) must be a number, not 'soon'.",
        ),
        (
            ["--jobs.placement-tasks-max=2000"],
            (
                "--jobs.placement-tasks-max (FALLOW_JOBS__PLACEMENT_TASKS_MAX) must be less than or equal"
                " to 1024, not '2000'."
            ),
        ),
        (
            ["--writers.in-flight=many"],
            "--writers.in-flight (FALLOW_WRITERS__IN_FLIGHT) must be a whole number, not 'many'.",
        ),
        (
            ["--lease.enabled=perhaps"],
            "--lease.enabled (FALLOW_LEASE__ENABLED) must be true or false, not 'perhaps'.",
        ),
        (["--hub-id=0x12"], "--hub-id (FALLOW_HUB_ID) must be 0x and 64 hexadecimal digits, not '0x12'."),
        (
            ["--metrics-address=9090"],
            "--metrics-address (FALLOW_METRICS_ADDRESS) must be host:port or off, not '9090'.",
        ),
        (
            ["--payments.mode=chain"],
            "--payments.chain-id (FALLOW_PAYMENTS__CHAIN_ID) must be the chain's number when mode is chain.",
        ),
        (
            ["--payments.chain-id=1"],
            "--payments.mode (FALLOW_PAYMENTS__MODE) must be chain when chain_id or escrow is set.",
        ),
        (
            ["--lease.renew-seconds=10"],
            "--lease.renew-seconds (FALLOW_LEASE__RENEW_SECONDS) must be at most half of duration_seconds.",
        ),
        (["--log-fromat=json"], "--log-fromat is not a flag: did you mean --log-format?"),
        (["now"], "now is not a flag; see --help."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_parse__value_not_allowed__one_sentence_names_flag_variable_and_what_is_allowed(
    arguments: list[str], want: str
) -> None:
    assert refused(*arguments) == want


def test_parse__required_value_missing__says_which() -> None:
    assert refused(program=AgentSettings) == "--provider (FALLOW_PROVIDER) must be set."


def test_parse__wrong_value_in_a_variable__says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_PAYMENTS__TOKEN_DECIMALS", "six")
    want = "--payments.token-decimals (FALLOW_PAYMENTS__TOKEN_DECIMALS) must be a whole number, not 'six'."
    assert refused() == want


def test_parse__unknown_key_of_a_group__is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_PAYMENTS__CHAINID", "1")
    assert "did you mean FALLOW_PAYMENTS__CHAIN_ID?" in refused()


def test_parse__unknown_variable__warns_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_KUBECONFG", "/k")
    settings, warnings = parse(HubSettings, [])
    assert settings.kubeconfig is None
    want = "FALLOW_KUBECONFG is not a setting of Fallow and is ignored: did you mean FALLOW_KUBECONFIG?"
    assert warnings == [want]


def test_unknown_variables__another_programs_or_another_tools__no_warning() -> None:
    environment = {"FALLOW_CHAIN__RPC_URLS": "", "FALLOW_PROVIDER": "", "KUBECONFIG": "", "HOME": ""}
    assert unknown_variables(HubSettings, environment) == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_help__80_columns__explains_each_setting_with_flag_variable_and_default(
    program: type[ProgramSettings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        parse(program, ["--help"], name="fallow program")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    flat = re.sub(r"\s+", " ", text)
    for variable in variables(program):
        assert f"[env: {variable}]" in flat


def fields(program: type[BaseModel], path: str = "") -> list[tuple[str, str | None]]:
    found = []
    for name, field in program.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += fields(kind, f"{path}{name}.")
        else:
            found.append((path + name, field.description))
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_settings__every_field__says_what_it_is_and_its_unit(program: type[ProgramSettings]) -> None:
    for path, description in fields(program):
        assert description, path
        if path.endswith("_seconds"):
            assert re.search(r"second|\d+ ms|longer than", description), f"{path}: {description}"


def test_settler__when_one_lease_field_is_set__then_the_lease_keeps_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FALLOW_LEASE__DURATION_SECONDS", "10")
    monkeypatch.setenv("FALLOW_HUB_ID", "0x" + 64 * "1")
    settings, _ = parse(SettlerSettings, ["--archive-directory", "archive"])
    assert (settings.lease.name, settings.lease.duration_seconds) == ("fallow-settler", 10)


def test_parse__probe__needs_no_hub_and_reads_xids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FALLOW_HUB_ID")
    monkeypatch.setenv("FALLOW_NODE_NAME", "gpu-7.rack-2")
    settings, _ = parse(ProbeSettings, ["--health.ignored-xids=94,63"])
    assert (settings.node_name, settings.health.ignored_xids) == ("gpu-7.rack-2", (94, 63))
    assert (settings.period_seconds, settings.idle.window_seconds) == (5, 60)


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (["--node-name=N"], "--node-name (FALLOW_NODE_NAME) must be a Node's name, not 'N'."),
        (
            ["--node-name=n", "--period-seconds=10", "--idle.window-seconds=5"],
            "--period-seconds (FALLOW_PERIOD_SECONDS) must be at most idle.window_seconds.",
        ),
    ],
)
def test_parse__probe_wrong__one_sentence(arguments: list[str], want: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse(ProbeSettings, arguments)
    assert str(caught.value) == want
