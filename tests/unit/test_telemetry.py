"""Logs have one format whoever writes them, and never show what a variable holds."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog
from prometheus_client import generate_latest

from fallow import __version__
from fallow.telemetry import Telemetry, configure_logging


def fail_with_a_secret() -> None:
    password = "hunter2"  # noqa: F841 - a local that must not be logged
    raise ValueError("no")


def test_json__our_log_and_the_standard_librarys__are_objects_of_one_form() -> None:
    out = io.StringIO()
    configure_logging(program="hub", log_format="json", stream=out)
    structlog.get_logger("fallow.test").info("said", provider="aurora")
    logging.getLogger("kopf.test").warning("said %s", "too")
    ours, theirs = (json.loads(line) for line in out.getvalue().splitlines())
    assert (ours["event"], ours["provider"], ours["level"]) == ("said", "aurora", "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("said too", "kopf.test", "warning")
    for each in (ours, theirs):
        assert each["program"] == "hub"
        assert each["timestamp"].endswith("Z")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_traceback__locals_hold_a_secret__shows_where_but_not_what(log_format: str) -> None:
    out = io.StringIO()
    configure_logging(program="hub", log_format=log_format, stream=out)  # type: ignore[arg-type]
    try:
        fail_with_a_secret()
    except ValueError:
        structlog.get_logger("fallow.test").exception("failed")
        logging.getLogger("kopf.test").exception("failed there")
    assert out.getvalue().count("fail_with_a_secret") >= 2
    # The line of source is shown by tracebacks; the frame's variables must not be.
    assert "hunter2" not in out.getvalue()


def test_level__below_it__is_silent() -> None:
    out = io.StringIO()
    configure_logging(program="hub", log_format="console", level="warning", stream=out)
    structlog.get_logger("fallow.test").info("unheard")
    logging.getLogger("anything").info("unheard")
    assert out.getvalue() == ""


def test_telemetry__two_in_one_process__do_not_share_numbers() -> None:
    first, second = Telemetry("hub"), Telemetry("agent")
    first.api_requests.labels("hub", "get", "Pod", "200").inc()
    assert b"fallow_api_requests_total{" in generate_latest(first.registry)
    assert b"fallow_api_requests_total{" not in generate_latest(second.registry)
    labels = {"program": "agent", "version": __version__}
    assert second.registry.get_sample_value("fallow_build_info", labels) == 1
