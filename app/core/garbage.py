"""Python's garbage collector, told what this program is like: much that lives for good, and much that lives briefly."""

from __future__ import annotations

import gc

# The collector looks at young objects after so many more were made than freed. Python's 700 is less than what the
# requests under way hold, so that it would look at all of them again and again.
THRESHOLDS = (10_000, 20, 20)


def settle() -> None:
    """Take what the start has made, and what lives as long as the process, out of the collector's sight."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
