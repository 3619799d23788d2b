"""SIGTERM as Ctrl-C: whoever ends one of the kit's commands politely gets its rigs taken down as well."""

import signal
from types import FrameType


def terminate_like_ctrl_c() -> None:
    """Make SIGTERM raise KeyboardInterrupt in the main thread, so that contexts clean up on the way out."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
