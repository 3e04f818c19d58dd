"""The base of every model: immutable, without unknown fields; and the type of measured times."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

# To the microsecond in JSON: further digits would take memory of Redis for as long as the execution is stored.
Seconds = Annotated[float, PlainSerializer(lambda seconds: round(seconds, 6), return_type=float, when_used="json")]


class Frozen(BaseModel):
    """Base of every model: immutable, without unknown fields, NaN or infinity."""

    # Otherwise the parser caches up to 16,384 strings, mostly ids, which never occur again.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, cache_strings="keys")
