"""Runs the ledger package over its own data file and the statement given as an argument."""

import sys

from ledger import Ledger, __version__
from ledger.formats import statement


def main(argv):
    book = Ledger.bundled()
    print(f"ledger {__version__}: {len(book.accounts)} accounts")
    for date, account, cents in statement.read(argv[1]):
        book.post(date, account, cents)
    for account, balance in book.balances():
        print(f"{account:<20}{balance / 100:>12.2f}")
    book.check()
    print("loaded", sorted(name for name in sys.modules if name.partition(".")[0] == "ledger"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
