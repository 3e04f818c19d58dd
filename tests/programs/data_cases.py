"""Programs for the environment ``python-data``; what they compute is reckoned without numpy and pandas."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
import struct
import zipfile
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

from tests.programs.cases import Case, Check, lines, png, program


@program("python-data/sales_plot.py")
def sales_plot() -> Case:
    rng = random.Random(21)
    regions = ["east", "north", "south", "west"]
    text = ["date,region,quantity,price_cents"]
    revenue, sales, largest = Counter[str](), Counter[str](), dict.fromkeys(regions, 0)
    monthly = Counter[tuple[int, str]]()
    for _ in range(4000):
        month, day, region = rng.randrange(1, 13), rng.randrange(1, 29), rng.choice([*regions, ""])
        quantity, cents = rng.randrange(1, 20), rng.randrange(100, 20_000)
        text.append(f"2024-{month:02}-{day:02},{region},{quantity},{cents}")
        if region:
            revenue[region] += quantity * cents
            sales[region] += 1
            largest[region] = max(largest[region], quantity * cents)
            monthly[month, region] += quantity * cents
    totals = [sum(monthly[month, region] for region in regions) for month in range(1, 13)]
    table = [f"{month},{','.join(str(monthly[month, region]) for region in regions)}" for month in range(1, 13)]
    return Case(
        files={"sales.csv": lines(*text)},
        stdout=lines(
            *(
                f"{region:<8}{total:>12}{sales[region]:>6}{largest[region]:>9}"
                for region, total in revenue.most_common()
            ),
            f"best month {totals.index(max(totals)) + 1} {max(totals)}",
        ),
        artifacts={
            "revenue.png": png(800, 450, 10_000),
            "monthly.csv": lines(f"date,{','.join(regions)}", *table),
        },
    )


@program("python-data/matrices.py")
def matrices() -> Case:
    size = 60
    a, b = ([[(r * 31 + c * 17 + r * c + salt) % 23 - 11 for c in range(size)] for r in range(size)] for salt in (3, 8))
    columns = list(zip(*b, strict=True))
    product = [[sum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in a]
    field = [[100.0] + [0.0] * 19 for _ in range(20)]
    for _ in range(400):
        before = [row[:] for row in field]
        for r in range(1, 19):
            for c in range(1, 19):
                around = before[r - 1][c] + before[r + 1][c] + before[r][c - 1] + before[r][c + 1]
                field[r][c] = before[r][c] + 0.2 * (around - 4 * before[r][c])
    fibonacci = [0, 1]
    while len(fibonacci) <= 90:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])

    def check(data: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert sorted(archive.namelist()) == ["field.npy", "product.npy"]
            array = archive.read("product.npy")
        assert array[:6] == b"\x93NUMPY" and b"'shape': (60, 60)" in array[:128]
        assert list(struct.unpack("<3600q", array[-28800:])) == [value for row in product for value in row]

    return Case(
        args=(str(size),),
        stdout=lines(
            f"product {sum(map(sum, product))} {sum(product[n][n] for n in range(size))} {product[1][2]} int64",
            f"power {fibonacci[90]}",
            "solved True",
            "eigen True True",
            "svd True True",
            "qr True True",
            "fft 8 128",
            f"heat {field[10][1]:.4f} {field[10][10]:.6f}",
            "random True True",
        ),
        artifacts={"matrices.npz": check},
    )


def jpeg(width: int, height: int) -> re.Pattern[bytes]:
    """The start of a JPEG and its frame header with that size."""
    size = re.escape(struct.pack(">HH", height, width))
    return re.compile(rb"\A\xff\xd8\xff.*\xff[\xc0\xc2]\x00\x11\x08" + size + rb"\x03.*\xff\xd9\Z", re.DOTALL)


@program("python-data/plots.py")
def plots() -> Case:
    def check_svg(data: bytes) -> None:
        root = ElementTree.fromstring(data)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "centre point" in "".join(root.itertext())

    def check_pdf(data: bytes) -> None:
        assert data.startswith(b"%PDF-1.") and data.rstrip().endswith(b"%%EOF") and len(data) > 10_000

    def check_jpeg(data: bytes) -> None:
        assert jpeg(400, 400).search(data) and len(data) > 5000

    return Case(
        stdout=lines("backend agg", "grid 7 [720, 480]", "contour 1 [640, 480]", "surface 1 [400, 400]", "open []"),
        artifacts={
            "figures/grid.png": png(720, 480, 20_000),
            "figures/grid.pdf": check_pdf,
            "figures/contour.svg": check_svg,
            "figures/surface.jpg": check_jpeg,
        },
    )


@program("python-data/merge_pivot.py")
def merge_pivot() -> Case:
    rng = random.Random(22)
    countries, categories = ["AT", "DE", "FR"], ["books", "games", "tools"]
    customers = [
        {
            "id": id,
            "country": countries[id % 3],
            "name": f"{rng.choice(['Ann', 'Bob', 'Cy'])} {rng.choice(['Smith', 'Jones', 'Okoye'])}",
        }
        for id in range(1, 61)
    ]
    products = {f"K{n:02}": (categories[n % 3], rng.randrange(100, 3000)) for n in range(20)}
    sales = [
        (number, rng.randrange(1, 64), f"K{rng.randrange(22):02}", rng.randrange(1, 6)) for number in range(1, 1201)
    ]
    orphans = [customer for _, customer, _, _ in sales if customer > 60]
    pivot: dict[str, Counter[str]] = {country: Counter() for country in countries}
    spent, totals = Counter[int](), []
    for number, customer, sku, quantity in sales:
        if customer <= 60 and sku in products:
            category, cents = products[sku]
            pivot[countries[customer % 3]][category] += quantity * cents
            spent[customer] += quantity * cents
            totals.append((number, quantity * cents))
    best = sorted(spent, key=lambda customer: (-spent[customer], customer))[:3]
    bands = {"low": 0, "middle": 0, "high": 0}
    for total in spent.values():
        bands["low" if total < 60_000 else "middle" if total < 100_000 else "high"] += 1
    assert all(bands.values())
    last = Counter(customer["name"].split()[1].upper() for customer in customers)  # type: ignore[attr-defined]

    def check(data: bytes) -> None:
        wanted = {country: {**row, "all": row.total()} for country, row in pivot.items()}
        assert json.loads(data) == wanted

    return Case(
        files={
            "customers.json": json.dumps(customers),
            "orders.csv": lines("order,customer,sku,quantity", *(",".join(map(str, order)) for order in sales)),
            "products.tsv": lines(
                "sku\tcategory\tcents", *(f"{sku}\t{row[0]}\t{row[1]}" for sku, row in products.items())
            ),
        },
        stdout=lines(
            f"orphans {len(orphans)} {sorted(set(orphans))}",
            "pivot books games tools all",
            *(
                f"{country} {row['books']} {row['games']} {row['tools']} {row.total()}"
                for country, row in pivot.items()
            ),
            f"top {[(customer, spent[customer]) for customer in best]}",
            f"bands {bands}",
            f"long (9, 3) {spent.total()}",
            f"slice {pivot['FR'].total()}",
            f"names {dict(sorted(last.items()))}",
        ),
        artifacts={
            "pivot.json": check,
            "totals.csv": lines("order,total", *(f"{number},{total}" for number, total in sorted(totals))),
        },
    )


@program("python-data/timeseries.py")
def timeseries() -> Case:
    rng = random.Random(23)
    start = datetime(2024, 3, 1, tzinfo=UTC)
    times = [start + timedelta(hours=hour) for hour in range(30 * 24)]
    lost = sorted(rng.sample(range(30, 690, 2), 25))  # never two in a row, so that the middle is a mean
    values = {
        time: round(20 + n / 200 + 5 * math.sin((time.hour - 9) / 24 * 2 * math.pi) + rng.uniform(-1, 1), 3)
        + (100 if n == 401 else 0)
        for n, time in enumerate(times)
        if n not in lost
    }
    rows = [f"{time:%Y-%m-%d %H:%M:%S},{value:.3f}" for time, value in values.items()]
    values = {time: float(f"{value:.3f}") for time, value in values.items()}
    rng.shuffle(rows)
    known = list(values)
    days: dict[int, list[float]] = defaultdict(list)
    hours: dict[int, list[float]] = defaultdict(list)
    for time, value in values.items():
        days[time.day].append(value)
        hours[time.hour].append(value)
    fewest = min(days, key=lambda day: (len(days[day]), day))
    mean = {hour: sum(series) / len(series) for hour, series in hours.items()}
    hole = times[lost[0]]
    between = (values[hole - timedelta(hours=1)] + values[hole + timedelta(hours=1)]) / 2
    jumps = {b: abs(values[b] - values[a]) for a, b in pairwise(known)}
    highest = max(jumps, key=jumps.__getitem__)
    first, final = ([values[time] for time in part] for part in (known[:24], known[-24:]))

    def check(data: bytes) -> None:
        daily = json.loads(data)
        assert {int(day[8:10]): row["count"] for day, row in daily.items()} == {d: len(v) for d, v in days.items()}
        assert [row["max"] for row in daily.values()] == [max(series) for series in days.values()]

    return Case(
        files={"readings.csv": lines("time,value", *rows)},
        stdout=lines(
            f"readings {len(known)} missing 25 {hole.isoformat()}",
            f"filled 0 {between:.3f}",
            f"daily (30, 3) {[int(min(days[1])), int(max(days[1])), 24]} 2024-03-{fewest:02}",
            "local 2024-02-29 5 20",
            f"rolling 23 {sum(first) / 24:.4f} {sum(final) / 24:.4f}",
            f"hour {max(mean, key=mean.__getitem__)} {min(mean, key=mean.__getitem__)}",
            f"weekend {sum(time.isoweekday() > 5 for time in known)}",
            f"trend True {30 * 24}",
            f"jump {highest.isoformat()} {jumps[highest]:.1f}",
        ),
        artifacts={"daily.json": check},
    )


@program("python-data/science.py")
def science() -> Case:
    return Case(
        stdout="""\
fit 2.5000 0.7000 1.5000
plan [2.0, 6.0] 36.0
root 1.521379707
area 3.141592654
swing -1.00000
determinant 1.0
sparse 1498 -2
spline 3.3750
test 0.0710 1.959964
solve [2, 3] {x: 2, y: 1}
derive x**3*cos(x) + 3*x**2*sin(x)
integral pi/4
factor (x - 1)*(x + 1)*(x**2 + 1) expand x**3 + 3*x**2*y + 3*x*y**2 + y**3
series 1 + x + x**2/2 + x**3/6 + x**4/24 + O(x**5)
sum x*(x + 1)*(2*x + 1)/6
limit E prime {3: 1, 768614336404564651: 1}
matrix [(1, 1), (3, 1)]
"""
    )


@program("python-data/monte_carlo.py")
def monte_carlo() -> Case:
    def check(data: bytes) -> None:
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        assert [int(row["seed"]) for row in rows] == list(range(100))
        ends = [int(row["end"]) for row in rows]
        assert len(set(ends)) > 20 and abs(sum(ends)) < 100 * 16  # five standard deviations of the sum of the ends

    return Case(
        stdout=lines("pi True 6", "again True", "legacy 6", "blas [0.0, 0.0, 0.0]", "walks (100, 3) True True"),
        artifacts={"walks.csv": check},
    )


@program("python-data/spreadsheets.py")
def spreadsheets() -> Case:
    rng = random.Random(27)
    places = ["Köln", "東京", "Rome"]
    rows = [(f"part {n}", rng.choice(places), rng.randrange(1000)) for n in range(30)]
    rows.append(("part 30", "Rome", 1000))
    sums = Counter[str]()
    for _, place, pieces in rows:
        sums[place] += pieces

    def book(data: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert {"xl/workbook.xml", "xl/worksheets/sheet2.xml"} <= set(archive.namelist())

    def check(data: bytes) -> None:
        first, *table, lxml, bs4, xml, best, count, names = data.decode().splitlines()
        assert first == "sheets all places True"
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
        assert cells[0] == ["place", "pieces"] and cells[1][1].endswith("-:")
        assert cells[2:] == [[place, str(sums[place])] for place in sorted(sums)]
        assert [lxml, bs4, xml, best, count] == ["lxml True", "bs4 True", "xml True", "best 1000", "31 rows"]
        assert names == " ".join(place.upper() for place in sorted(sums)) + " "

    return Case(
        files={"stock.csv": lines("name,place,pieces", *(f"{name},{place},{n}" for name, place, n in rows))},
        stdout=check,
        artifacts={"stock.xlsx": book},
    )


@program("python-data/titles.py")
def titles() -> Case:
    def starts(magic: bytes) -> Check:
        def check(data: bytes) -> None:
            assert data.startswith(magic) and len(data) > 5000

        return check

    return Case(
        stdout=lines("default", "seaborn", "ggplot"),
        artifacts={
            "titles.png": png(640, 480, 5000),
            "titles.pdf": starts(b"%PDF-"),
            "titles.svg": starts(b"<?xml"),
            "titles.ps": starts(b"%!PS"),
        },
    )


@program("python-data/first_imports.py")
def first_imports() -> Case:
    return Case(
        stdout=lines(
            "61 modules", "classified True", "line 2.0 3.0", "path b d 0.5", "picture (80, 30) True"
        )
    )
