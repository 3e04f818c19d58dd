"""Turns a CSV of time sheets, quoted and messy, into a report table and a CSV of totals."""

import csv
import sys
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

CENT = Decimal("0.01")


def rows(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            try:
                hours = Decimal(row["hours"].replace(",", "."))
            except InvalidOperation:
                print(f"skipped: {row['person']}: {row['hours']!r}", file=sys.stderr)
                continue
            yield row["project"].strip(), row["person"].strip(), hours, Decimal(row["rate"])


def table(lines, widths):
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    yield rule
    for position, line in enumerate(lines):
        cells = [
            f" {cell:<{width}} " if column < 2 else f" {cell:>{width}} "
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "|" + "|".join(cells) + "|"
        if position == 0:
            yield rule
    yield rule


def main(path):
    totals = defaultdict(lambda: [Decimal(0), Decimal(0)])
    for project, person, hours, rate in rows(path):
        totals[project, person][0] += hours
        totals[project, person][1] += hours * rate
    lines = [("project", "person", "hours", "amount")]
    for (project, person), (hours, amount) in sorted(totals.items()):
        lines.append((project, person, f"{hours:.2f}", str(amount.quantize(CENT, ROUND_HALF_UP))))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    print("\n".join(table(lines, widths)))
    with open("/output/totals.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";", quoting=csv.QUOTE_NONNUMERIC).writerows(lines)
    return 0


sys.exit(main(sys.argv[1]))
