"""Benchmarks and soaks by name."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from devkit import named


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    directory = tmp_path / "figures"
    directory.mkdir()
    (directory / "__init__.py").write_text('"""Two of them."""\n')
    (directory / "one_way.py").write_text('"""One way."""\ndef run():\n    return {"a": 1}\n')
    (directory / "other.py").write_text(
        '"""Other."""\nfrom devkit.errors import DevkitError\ndef run():\n    raise DevkitError("no good")\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "figures"]:
        monkeypatch.delitem(sys.modules, name)
    import figures  # type: ignore[import-not-found]

    return figures  # type: ignore[no-any-return]


def test_main__a_known_name__writes_its_figures(package: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    given = ["one-way", "--json", str(file)]
    assert named.main(package, given, program="p", all_without_name=False) == 0
    assert json.loads(file.read_text()) == {"a": 1}


def test_main__an_unknown_name__exits_2_and_lists_the_known(
    package: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named.main(package, ["nothing"], program="p", all_without_name=False) == 2
    assert "one-way, other" in capsys.readouterr().err


def test_main__no_name__lists_with_headlines(package: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert named.main(package, [], program="p", all_without_name=False) == 0
    assert "one-way\tOne way." in capsys.readouterr().out


def test_main__a_promise_that_did_not_hold__exits_1(
    package: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named.main(package, [], program="p", all_without_name=True) == 1
    assert "no good" in capsys.readouterr().err


def test_main__module_declares_options__gets_them_by_keyword(
    package: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "figures" / "wants.py").write_text(
        '"""Wants."""\ndef options(parser):\n    parser.add_argument("--many", type=int, required=True)\n'
        'def run(*, many):\n    return {"many": many}\n'
    )
    assert named.main(package, ["wants", "--many", "3"], program="p", all_without_name=False) == 0
    assert json.loads(capsys.readouterr().out) == {"many": 3}
    with pytest.raises(SystemExit):
        named.main(package, ["one-way", "--many", "3"], program="p", all_without_name=False)
