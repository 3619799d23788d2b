"""XIDs: the driver's numbered error events, and which of them speak against the device.

Numbers and words: NVIDIA's "XID Errors" document. The ignored ones are what a faulty program does to
itself; NVIDIA's own device plugin ignores the same six. Any number not listed here counts against
the device: a new one is more likely to be news than noise.
"""

from __future__ import annotations

OF_THE_APPLICATION = frozenset({13, 31, 43, 45, 68, 109})
"""Graphics engine exception, page fault, stopped processing, clean-up after these, video processor
exception, context switch time-out."""

WORDS = {
    48: "double-bit ECC error",
    54: "auxiliary power is not connected",
    61: "internal micro-controller breakpoint or warning",
    62: "internal micro-controller halt",
    63: "ECC page retirement or row remapping recorded",
    64: "ECC page retirement or row remapping failed",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    92: "high single-bit ECC error rate",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "GSP RPC time-out",
    120: "GSP error",
    140: "unrecovered ECC error",
    143: "GPU initialisation failure",
    144: "NVLink SAW error",
    145: "NVLink RLW error",
    149: "NVLink NETIR error",
}


def in_words(number: int) -> str:
    """Say an XID: "XID 79: GPU has fallen off the bus"."""
    words = WORDS.get(number)
    return f"XID {number}: {words}" if words else f"XID {number}"
