"""What the kit raises: each says what went wrong and what to do next, and never needs a stack trace.

DevkitError
├── ToolchainError      a program could not be found, fetched or built
└── RigError            control planes or programs on them did not come up, or did not go away
"""


class DevkitError(Exception):
    """A failure that its message explains to a person."""


class ToolchainError(DevkitError):
    """A program could not be found, fetched or built; the message names the log."""


class RigError(DevkitError):
    """A rig could not be started, used or ended; the message names the log."""
