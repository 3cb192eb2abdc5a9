"""Ranks: which of an endpoint's ready deliveries goes first. Within a rank the sequence decides.

FIFO lanes ignore all of this but `FORCED`: their rows have one rank, so that only the sequence orders them.
"""

# A person asked for it (retry now, a test): before everything else, and also while the endpoint is held.
FORCED = -1
# First attempts, by the event's priority.
HIGH, NORMAL = 0, 1
# First attempts never wait behind these.
RETRY, REPLAY = 2, 3
FIFO = HIGH
