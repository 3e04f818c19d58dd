"""The base of every model: immutable, without unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of every model: immutable, without unknown fields, NaN or infinity."""

    # Otherwise the parser caches up to 16,384 strings, mostly ids, which never occur again.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, cache_strings="keys")
