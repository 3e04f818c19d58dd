"""Bank statements: `YYYY-MM-DD account amount`, with comments."""

import datetime
from decimal import Decimal

from ..errors import LedgerError


def read(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.partition("#")[0].strip()
            if not line:
                continue
            try:
                date, account, amount = line.split()
                yield datetime.date.fromisoformat(date), account, int(Decimal(amount) * 100)
            except ValueError as error:
                raise LedgerError(f"line {number}: {error}") from error
