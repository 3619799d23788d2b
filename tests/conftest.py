"""What holds for all tests: a run that is terminated brings its rigs down as an interrupted one does."""

from devkit.interrupts import terminate_like_ctrl_c


def pytest_configure() -> None:
    terminate_like_ctrl_c()
