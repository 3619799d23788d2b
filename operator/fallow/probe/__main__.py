"""The probe's lean process; started by `fallow.probe.app` with its settings, already checked, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

# NB: strictly before structlog, which imports rich where it is installed: 4 MB for the colours of
# tracebacks that nobody sees here. None is the import system's word for "not there".
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from fallow.errors import FallowError, SettingsError  # noqa: E402
from fallow.probe.process import run_probe  # noqa: E402
from fallow.telemetry import configure_logging  # noqa: E402

if TYPE_CHECKING:
    from fallow.settings import ProbeSettings


def main() -> None:
    """Run the probe until a signal ends it; an expected error is one sentence, as `fallow` says it."""
    # NB: not ProbeSettings itself, whose modules are what this process does without. Paths are texts here.
    carried = json.loads(sys.argv[1], object_hook=lambda values: SimpleNamespace(**values))
    settings = cast("ProbeSettings", carried)
    configure_logging(program="probe", log_format=settings.log_format, level=settings.log_level)
    try:
        asyncio.run(run_probe(settings))
    except FallowError as error:
        sys.stderr.write(f"fallow: {error}\n")
        raise SystemExit(2 if isinstance(error, SettingsError) else 1) from None


if __name__ == "__main__":
    main()
