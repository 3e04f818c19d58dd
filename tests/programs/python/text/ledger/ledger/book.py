"""Accounts and postings."""

import json
from collections import defaultdict
from importlib import resources

from .errors import UnbalancedError, UnknownAccountError


class Ledger:
    COUNTER = "equity:clearing"

    def __init__(self, accounts):
        self.accounts = accounts
        self.postings = defaultdict(list)

    @classmethod
    def bundled(cls):
        text = resources.files(__package__).joinpath("accounts.json").read_text("utf-8")
        return cls(json.loads(text))

    def post(self, date, account, cents):
        if account not in self.accounts:
            raise UnknownAccountError(account, sorted(self.accounts))
        sign = 1 if self.accounts[account]["side"] == "debit" else -1
        self.postings[account].append((date, sign * cents))
        self.postings[self.COUNTER].append((date, -sign * cents))

    def balances(self):
        for account in sorted(self.postings):
            yield account, sum(cents for _, cents in self.postings[account])

    def check(self):
        total = sum(balance for _, balance in self.balances())
        if total:
            raise UnbalancedError(total)
