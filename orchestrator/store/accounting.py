"""The accounting of Redis's memory, which the scripts charge to tenants."""

from __future__ import annotations

# What Redis keeps of a tenant's executions, in bytes: ``bytes`` in ``mayfly:tenant:…:room``, and of each in ``bytes``
# of its record. ``most`` is how much the tenant may have, as of its last submission, if there is a bound.
RECORD_BYTES = 5 * 1024  # of keys, indexes and states, whatever is in them; 4 KB is the least of a stream
ENTRY_BYTES = 32  # of an entry of a stream
IDEMPOTENCY_BYTES = 1024  # of an Idempotency-Key, which stays when its execution is deleted
# What an accepted execution takes at most from its claim to its end, beside output: 2 KiB (measured) and its result.
# So much is kept free for each until then: submissions and output leave it alone.
RESERVED_BYTES = 20 * 1024
LEFT_MILLISECONDS = 200  # how long it is remembered how many bytes of output Redis may still take
LOG_BYTES = 32 * 2**20  # of a security log
