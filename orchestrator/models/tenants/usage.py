"""Usage of tenants: sums over ended executions, by day, API key or environment."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from orchestrator.models.frozen import Frozen

UsageDimension = Literal["day", "key", "environment"]


class UsageAmounts(Frozen):
    """Resources that executions have used together. Seconds are sums of whole microseconds, so they are exact.

    An execution that ended without a result, such as a cancelled execution that never started, has no seconds and no
    bytes.
    """

    executions: int = Field(0, description="Executions that have ended, in any state.")
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    output_bytes: int = Field(0, description="Bytes of stdout and stderr.")
    artifact_bytes: int = 0
    tool_calls: int = 0
    tokens_returned: int = Field(0, description="Tokens (o200k) of results and output in answers to agents.")
    tokens_withheld: int = Field(0, description="Tokens that the last answer on each execution withheld.")


class UsageRow(UsageAmounts):
    """Usage of one day, key or environment."""

    name: str = Field(
        description="The day (UTC), the key's id (empty: none), or the environment; `*`: further keys, together."
    )


class UsageReport(Frozen):
    """Usage of a tenant from one day to another, both included. Days begin at midnight UTC.

    An execution counts on the day on which it ended, its tokens on the day on which it was created.
    """

    tenant: str
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    by: UsageDimension
    items: list[UsageRow] = Field(description="In order of name, without items that have no usage.")
    total: UsageAmounts
