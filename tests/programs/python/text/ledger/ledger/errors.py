"""What can be wrong with a ledger."""


class LedgerError(Exception):
    """Base of all."""


class UnknownAccountError(LedgerError):
    def __init__(self, account, known):
        super().__init__(f"{account!r} is none of {', '.join(known)}")


class UnbalancedError(LedgerError):
    pass
