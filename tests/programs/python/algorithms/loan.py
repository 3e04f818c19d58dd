"""A loan's amortisation in exact decimals, and statistics over simulated rates in exact fractions."""

import decimal
import statistics
import sys
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

CENT = Decimal("0.01")


def payment(principal, rate, months):
    """The monthly annuity, rounded up to a cent."""
    monthly = rate / 12
    exact = principal * monthly / (1 - (1 + monthly) ** -months)
    return exact.quantize(CENT, decimal.ROUND_UP)


def schedule(principal, rate, months):
    rest, each = principal, payment(principal, rate, months)
    for month in range(1, months + 1):
        interest = (rest * rate / 12).quantize(CENT, ROUND_HALF_EVEN)
        paid = min(each, rest + interest)
        rest += interest - paid
        yield month, interest, paid, rest


def main():
    principal, rate, months = Decimal(sys.argv[1]), Decimal(sys.argv[2]), int(sys.argv[3])
    with decimal.localcontext(prec=50):
        rows = list(schedule(principal, rate, months))
    for month, interest, paid, rest in rows:
        if month % 12 == 0:
            print(f"{month:3} {interest:>9} {paid:>9} {rest:>11}")
    print("interest", sum(row[1] for row in rows), "left", rows[-1][3])

    numbers = [Fraction(n * n % 97, 7) for n in range(1, 200)]
    print("mean", statistics.mean(numbers), "median", statistics.median(numbers))
    print("variance", statistics.pvariance(numbers), "mode", statistics.mode(numbers))
    print("quantiles", [str(q) for q in statistics.quantiles(numbers, n=4, method="inclusive")])
    with decimal.localcontext() as context:
        context.traps[decimal.Inexact] = True
        try:
            Decimal(1) / 3
        except decimal.Inexact:
            print("inexact")
    print(Decimal(2).sqrt(decimal.Context(prec=60)))


main()
