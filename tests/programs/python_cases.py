"""Programs for the environment ``python``: what they get, and what must come out, reckoned in another way."""

from __future__ import annotations

from typing import Any

import bz2
import gzip
import hashlib
import heapq
import hmac
import io
import json
import lzma
import math
import random
import re
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from base64 import urlsafe_b64encode
from collections import Counter
from datetime import date, timedelta
from fractions import Fraction
from xml.etree import ElementTree

from tests.programs.cases import Case, Expected, lines, program, source_of

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "mix",
    "liquid",
    "jade",
    "potions",
]


def primes_below(limit: int) -> list[int]:
    flags = bytearray([1]) * limit
    flags[:2] = b"\0\0"
    for n in range(2, math.isqrt(limit) + 1):
        if flags[n]:
            flags[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return [n for n in range(limit) if flags[n]]


@program("python/json_orders.py")
def json_orders() -> Case:
    rng = random.Random(1)
    orders, spent, units, months = [], Counter[str](), Counter[str](), Counter[str]()
    cancelled = 0
    for number in range(15_000):
        email = f"user{rng.randrange(900)}@example.org"
        placed = f"2025-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T12:00:00Z"
        cart: list[dict[str, Any]] = [
            {"sku": f"S-{rng.randrange(60):02}", "quantity": rng.randrange(1, 5), "unit_cents": rng.randrange(99, 9999)}
            for _ in range(rng.randrange(1, 7))
        ]
        order: dict[str, Any] = {
            "id": number,
            "status": rng.choice(["paid", "shipped", "cancelled", "open"]),
            "customer": {"email": email, "name": f"Ünal {number} “Ann”\n"},
            "placed": placed,
            "lines": cart,
        }
        discount = rng.choice([None, 0, 5, 33])
        if discount is not None:
            order["discount_percent"] = discount
        orders.append(order)
        if order["status"] == "cancelled":
            cancelled += 1
            continue
        subtotal = 0
        for line in cart:
            subtotal += int(line["quantity"]) * int(line["unit_cents"])
            units[str(line["sku"])] += int(line["quantity"])
        total = subtotal - math.floor(Fraction(subtotal * (discount or 0), 100))
        spent[email] += total
        months[placed[:7]] += total
    top = sorted(sorted(spent), key=spent.__getitem__, reverse=True)[:5]
    skus = sorted(sorted(units), key=units.__getitem__, reverse=True)[:3]
    text = json.dumps({"format": "orders/2", "orders": orders}, ensure_ascii=False)
    assert len(text) > 5_000_000
    return Case(
        files={"data/orders.json": text},
        stdout=lines(
            f"orders 15000, cancelled {cancelled}, customers {len(spent)}",
            *(f"{email.ljust(24)}{format(spent[email] / 100, ',.2f').rjust(14)}" for email in top),
            *(f"{sku} x{units[sku]}" for sku in skus),
        ),
        artifacts={
            "months.csv": "month,cents\r\n" + "".join(f"{month},{months[month]}\r\n" for month in sorted(months))
        },
    )


def expression(rng: random.Random, depth: int, least: int) -> tuple[str, Fraction]:
    """A random expression that binds at least so tightly, without needless parentheses, and its value."""
    kind = rng.randrange(6) if depth else 5
    if kind < 2:
        (left, a), (right, b) = expression(rng, depth - 1, 1), expression(rng, depth - 1, 2)
        text, value, binds = (f"{left} + {right}", a + b, 1) if kind else (f"{left}-{right}", a - b, 1)
    elif kind == 2:
        (left, a), (right, b) = expression(rng, depth - 1, 2), expression(rng, depth - 1, 3)
        text, value, binds = (f"{left} / {right}", a / b, 2) if b else (f"{left}*{right}", a * b, 2)
    elif kind == 3:
        inner, a = expression(rng, depth - 1, 3)
        text, value, binds = f"-{inner}", -a, 3
    elif kind == 4:
        (base, a), power = expression(rng, depth - 1, 5), rng.choice([2, 3, -1])
        power = abs(power) if a == 0 else power
        text, value, binds = f"{base}^{power}", a**power, 4
    else:
        tenths = rng.randrange(1, 99)
        text, value, binds = f"{tenths // 10}.{tenths % 10}", Fraction(tenths, 10), 5
    return (text, value) if binds >= least else (f"({text})", value)


@program("python/calculator.py")
def calculator() -> Case:
    rng = random.Random(2)
    random_ones = [expression(rng, 5, 1) for _ in range(200)]
    fixed: list[tuple[str, object]] = [
        ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2", -4),
        ("8 / 4 / 2 - 1 - 2", -2),
        ("x = 3 / 4", "3/4"),
        ("y = max(x, 1/2, min(4, 2*x)) + abs(-1)", "5/2"),
        ("sum(x, y, 0.25)", "7/2"),
    ]
    wrong = [
        ("1 +", "unexpected 'the end'"),
        ("2 * (3 + 4", "expected ')', found 'the end'"),
        ("1 / (x - 3/4)", "division by zero"),
        ("foo + 1", "no variable 'foo'"),
        ("3 $ 4", "unexpected '$'"),
        ("sin(1)", "no function 'sin'"),
        ("2 ^ (1 / 2)", "only whole exponents"),
        ("1 2", "unexpected '2'"),
    ]
    good = [*random_ones, *fixed]
    return Case(
        stdin=lines(*(text for text, _ in [*good, *wrong])),
        stdout=lines(*(value for _, value in good)),
        stderr=lines(*(f"line {number}: {error}" for number, (_, error) in enumerate(wrong, len(good) + 1))),
        exit_code=1,
    )


@program("python/async_pipeline.py")
def async_pipeline() -> Case:
    digests = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(300)).hex()
    return Case(
        stdout=lines(
            f"300 True {hashlib.sha256(digests.encode()).hexdigest()}",
            "timed out ['hang']",
            "['slept', 'TimeoutError']",
            "enilepip 0",
        )
    )


@program("python/process_pool.py")
def process_pool() -> Case:
    steps = {1: 0}
    for start in range(1, 3000):
        way, number = [], start
        while number not in steps:
            way.append(number)
            number = 3 * number + 1 if number & 1 else number >> 1
        for back, seen in enumerate(reversed(way), 1):
            steps[seen] = steps[number] + back
    return Case(
        stdout=lines(
            f"primes {len(primes_below(20_000))} True",
            f"collatz {max(steps[n] for n in range(1, 3000))}",
            "raised no 7",
            "counter 600 [('adder-100', 100), ('adder-200', 200), ('adder-300', 300)] [0, 0, 0]",
            "empty",
        )
    )


@program("python/many_artifacts.py")
def many_artifacts() -> Case:
    artifacts: dict[str, bytes] = {}
    for number in range(200):
        data = hashlib.sha256(f"artifact {number}".encode()).digest() * (number**2 % 161)
        suffix, data = ("bin", data) if number & 1 else ("txt", data.hex().encode())
        artifacts[f"group-{number % 8}/part-{number % 3}/file {number:03}.{suffix}"] = data
    sizes = {path: len(data) for path, data in artifacts.items()}
    largest = sorted(sizes, key=lambda path: (sizes[path], path))[-1]
    manifest = "{\n" + ",\n".join(f' "{path}": {sizes[path]}' for path in sorted(sizes)) + "\n}"
    assert 0 in sizes.values() and len(artifacts) == 200
    return Case(
        args=("200",),
        stdout=lines(f"200 files, {sum(sizes.values())} bytes", f"largest: {largest} with {sizes[largest]}"),
        artifacts={**artifacts, "manifest.json": manifest},
    )


@program("python/big_output.py")
def big_output() -> Case:
    letters = "abcdefghijklmnopqrstuvwxyz" * 2
    out, state = [], 1
    for number in range(5_000_000 // 44):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(f"{number:07} {letters[state % 26 :][:26]} {state:08x}\n")
    text = "".join(out)
    return Case(
        limits={"output_bytes": 6_000_000},
        stdout=(text + "." * (5_000_000 - len(text) - 1) + "\n").encode(),
        stderr=lines(*(f"{44 * (n + 1)} so far" for n in range(0, len(out), 10_000)), "end"),
    )


@program("python/binary_output.py")
def binary_output() -> Case:
    words, seed = [], 2463534242
    for _ in range(50_000):
        seed = (seed ^ (seed << 13)) % 2**32
        seed ^= seed >> 17
        seed = (seed ^ (seed << 5)) % 2**32
        words.append(seed)

    def check(data: bytes) -> None:
        parts = []
        while len(data) > 2:
            size = int.from_bytes(data[:4], "little")
            parts.append(data[4 : 4 + size])
            data = data[4 + size :]
        assert data == b"\xf0\x9f"
        assert parts.pop(5).startswith(b"\x78\xda")
        assert parts == [
            bytearray(range(256)),
            b"\x0d\x0a\x0d\x0a\x0a\x0d\x00\x1a\x04",
            b"\xc3\xa9\xe2\x82\xac\xf0\x9d\x84",
            b"\xc0\xaf\xed\xa0\x80\xff\xfe",
            struct.pack(">50000I", *words),
            b"\xff\xfel\x00a\x00s\x00t\x00 \x00\xac\x20",
        ]

    return Case(stdout=check, stderr=b"\x80\x00error\xff")


@program("python/unicode_everywhere.py")
def unicode_everywhere() -> Case:
    names = ("план.txt", "数据 — 1.csv", "e\u0301.txt", "👩\u200d🚀.md")
    return Case(
        path="скрипты/über ⽂.py",
        args=("größer", "日本", "🙂 🙃", ""),
        env={"GRUSS": "Grüß Gott", "EMOJI": "👩\u200d🚀"},
        stdin="olé été\u0000Ω\n",
        files={"données/β.txt": "ωmega\n", "données/α — ä.txt": "straße\n漢字\n"},
        stdout=lines(
            "code: 15.708 東京 → 13960000",
            "file: скрипты/über ⽂.py",
            "args: | größer | 日本 | 🙂 🙃 | ",
            "env: Grüß Gott 3",
            "stdin: Ω\u0000été élo",
            "input: · α — ä.txt · STRASSE · LATIN SMALL LETTER S",
            "input: · α — ä.txt · 漢字 · CJK UNIFIED IDEOGRAPH-6F22",
            "input: · β.txt · ΩMEGA · GREEK SMALL LETTER OMEGA",
            "sorted: ['Ölberg', 'Zebra', 'apfel', 'äpfel']",
        ),
        stderr="bidi: שלום \u202bעולם\u202c\nSchlußwort: конец 終わり\n",
        exit_code=1,
        artifacts={f"résumé/{name}": f"«{name}»\n" for name in names},
    )


def sensor_readings() -> tuple[bytes, str]:
    """20 MB of readings and what the program says of them: twenty turns of one block of lines."""
    rng = random.Random(4)
    names = [f"sensor-{n:02}-{place}" for n in range(25) for place in ("attic", "cellar", "Küche")]
    readings = [(rng.choice(names), rng.randrange(-400, 900)) for _ in range(45_000)]
    rows = [f"{name};{tenths / 10:.1f}\n".encode() for name, tenths in readings]
    turns = 20_000_000 // sum(map(len, rows)) + 1
    text = b"".join(b"".join(rows[turn * 100 :] + rows[: turn * 100]) for turn in range(turns))
    by_name: dict[str, list[int]] = {}
    for name, tenths in readings:
        by_name.setdefault(name, []).append(tenths)
    summary = lines(
        f"{len(text)} {len(rows) * turns} {hashlib.sha256(text).hexdigest()}",
        *(
            f"{name} {min(values)} {sum(values) * turns} {max(values)} {len(values) * turns}"
            for name, values in sorted(by_name.items())
        ),
        "read-only",
    )
    return text, summary


@program("python/large_input.py", "content")
def large_input_content() -> Case:
    text, summary = sensor_readings()
    return Case(args=("inputs/big/readings.txt",), files={"big/readings.txt": text.decode()}, stdout=summary)


@program("python/large_input.py", "blob")
def large_input_blob() -> Case:
    text, summary = sensor_readings()
    return Case(args=("/inputs/readings.txt",), blobs={"readings.txt": text}, stdout=summary)


@program("python/sqlite_inventory.py")
def sqlite_inventory() -> Case:
    rng = random.Random(11)
    price = {f"P{n:03}": rng.randrange(100, 9000) for n in range(40)}
    quantity, quarters = Counter[str](), Counter[int]()
    for _ in range(5000):
        sku, month, _, count = (
            f"P{rng.randrange(40):03}",
            rng.randrange(1, 13),
            rng.randrange(1, 29),
            rng.randrange(-3, 9),
        )
        quantity[sku] += count
        quarters[math.ceil(month / 3)] += count
    worth = {sku: quantity[sku] * price[sku] for sku in price}
    best = sorted(price, key=lambda sku: (-worth[sku], sku))[:4]
    rank = {sku: 1 + sum(other > worth[sku] for other in worth.values()) for sku in best}

    def check(data: bytes) -> None:
        db = sqlite3.connect(":memory:")
        db.deserialize(data[:18] + b"\x01\x01" + data[20:])  # not WAL: there is no file to have a log beside
        assert db.execute("SELECT count(*), sum(quantity) FROM movement").fetchone() == (5000, quantity.total())
        assert dict(db.execute("SELECT sku, price FROM product")) == price
        db.close()

    return Case(working_files=r"inventory.db", 
        stdout=lines(
            "refused: FOREIGN KEY constraint failed",
            "refused: UNIQUE constraint failed: product.sku",
            "refused: CHECK constraint failed: price > 0",
            "products 40 P039",
            *(f"{sku} {worth[sku]} {rank[sku]}" for sku in best),
            [(quarter, quarters[quarter]) for quarter in (1, 2, 3, 4)],
            "ok True",
        ),
        artifacts={"backup.db": check},
    )


@program("python/csv_report.py")
def csv_report() -> Case:
    sheet = """\
        project, person, hours, rate
        Apollo, "Ray, Ann", 7.5, 80.00
        Zeus, Bob, 10, 61.335
        Apollo, "Ray, Ann", "2,25", 80.00
        Apollo, "Dent ""DJ"" Cy", 0.1, 0.05
        Zeus, Bob, none, 61.335
        Gaia, "Zoë Lang ", 3, 12.50
    """.replace("    ", "")
    return Case(
        args=("/inputs/sheet.csv",),
        files={"sheet.csv": "\ufeff" + sheet},
        stdout="""\
+---------+--------------+-------+--------+
| project | person       | hours | amount |
+---------+--------------+-------+--------+
| Apollo  | Dent "DJ" Cy |  0.10 |   0.01 |
| Apollo  | Ray, Ann     |  9.75 | 780.00 |
| Gaia    | Zoë Lang     |  3.00 |  37.50 |
| Zeus    | Bob          | 10.00 | 613.35 |
+---------+--------------+-------+--------+
""",
        stderr="skipped: Bob: 'none'\n",
        artifacts={
            "totals.csv": '"project";"person";"hours";"amount"\r\n"Apollo";"Dent ""DJ"" Cy";"0.10";"0.01"\r\n'
            '"Apollo";"Ray, Ann";"9.75";"780.00"\r\n"Gaia";"Zoë Lang";"3.00";"37.50"\r\n'
            '"Zeus";"Bob";"10.00";"613.35"\r\n'
        },
    )


@program("python/threads.py")
def threads() -> Case:
    squares = 999 * 1000 * 1999 // 6
    return Case(
        stdout=lines(
            f"squares {squares} True",
            "money 4000 True",
            "met xyz ['before', 'before', 'before'] False",
            "timer True",
        )
    )


@program("python/subprocesses.py")
def subprocesses() -> Case:
    return Case(
        stdout=lines(
            ("1:ONE\n2:TWO\n3:THREE\n", 0, 0),
            "9 ['a b', 'ü'] oops",
            "SIGUSR1",
            "1 KeyError: 'missing'",
            "timeout import time; time.sleep(60)",
            "True ['LC_CTYPE', 'ONLY']",
            "The Zen of Python, by Tim Peters",
            "b'by fd' 0",
        )
    )


@program("python/dataclass_store.py")
def dataclass_store() -> Case:
    first = date(2024, 2, 27)
    documents = [
        {
            "id": n,
            "due": str(first + timedelta(n)),
            "level": "low" if n % 3 else "high",
            "steps": [{"title": f"step {m + 1}", "minutes": n + m + 1} for m in range(n % 4)],
            "tags": {"n": n},
        }
        for n in range(1, 31)
    ]
    # The m-th of k steps of task n takes n + m minutes.
    minutes = sum(n * (n % 4) + (n % 4) * (n % 4 + 1) // 2 for n in range(3, 31, 3))

    def check(data: bytes) -> None:
        assert json.loads(data) == documents

    return Case(
        stdout=lines(
            "equal True shared False",
            f"minutes {minutes}",
            "days ['2024-02-29', '2024-03-01', '2024-03-02'] Step(title='step 3', minutes=14)",
            "Task(id=5, due=datetime.date(2024, 3, 3), level=<Level.HIGH: 'high'>, "
            "steps=[Step(title='step 1', minutes=6)], tags={'n': 5})",
            "refused x: minutes must be positive",
            "refused unknown: ['colour']",
        ),
        artifacts={"tasks.json": check},
    )


@program("python/loan.py")
def loan() -> Case:
    rate = Fraction("0.0375") / 12
    rest = 25_000_000
    each = math.ceil(rest * rate / (1 - (1 + rate) ** -60))
    table, paid_interest = [], 0
    for month in range(1, 61):
        interest = round(rest * rate)  # Fractions round half to even
        paid = min(each, rest + interest)
        rest += interest - paid
        paid_interest += interest
        if month % 12 == 0:
            table.append(f"{month:3} {interest / 100:9.2f} {paid / 100:9.2f} {rest / 100:11.2f}")
    numbers = [Fraction(n**2 % 97, 7) for n in range(1, 200)]
    mean = sum(numbers) / 199
    ordered = sorted(numbers)
    quantiles = [
        str((ordered[at] * (4 - part) + (ordered[at + 1] * part if part else 0)) / 4)
        for at, part in (divmod(198 * n, 4) for n in (1, 2, 3))
    ]
    counts = Counter(numbers)
    root = math.isqrt(2 * 10**118)
    root += (2 * root + 1) ** 2 < 8 * 10**118
    return Case(
        args=("250000", "0.0375", "60"),
        stdout=lines(
            *table,
            f"interest {paid_interest / 100:.2f} left {rest / 100:.2f}",
            f"mean {mean} median {ordered[99]}",
            f"variance {sum(n * n for n in numbers) / 199 - mean**2} mode {max(numbers, key=counts.__getitem__)}",
            f"quantiles {quantiles}",
            "inexact",
            f"{str(root)[0]}.{str(root)[1:]}",
        ),
    )


@program("python/log_analysis.py")
def log_analysis() -> Case:
    rng = random.Random(6)
    pages = {
        "/": "/",
        "/items/{}": "/items/{id}",
        "/users/{}/orders/{}": "/users/{id}/orders/{id}",
        "/search": "/search",
    }
    status, hours, refused, queries = Counter[str](), Counter[int](), Counter[str](), Counter[str]()
    times: dict[tuple[str, str], list[int]] = {}
    log: list[str] = []
    size = broken = 0
    for _ in range(30_000):
        if rng.random() < 0.01:
            log.append(rng.choice(["", "garbage", '1.2.3.4 - - [x] "GET / HTTP/1.1" 200 5', "\ufffd" * 9]))
            broken += 1
            continue
        client, hour = f"10.0.{rng.randrange(3)}.{rng.randrange(20)}", int(rng.triangular(0, 24, 17)) % 24
        page, method = rng.choice(list(pages)), rng.choice(["GET", "GET", "POST"])
        keys = rng.sample(["q", "page", "sort"], rng.randrange(4)) if page == "/search" else []
        path = page.format(rng.randrange(1000), f"{rng.getrandbits(32):08x}")
        query = "?" + "&".join(f"{key}={rng.randrange(99)}" for key in keys) if keys else ""
        code, sent, millis = rng.choice([200, 200, 304, 404, 401, 500]), rng.randrange(5000), rng.randrange(1, 900)
        if client.startswith("10.0.2.") and code != 500:
            code = 403
        log.append(
            f"{client} - {rng.choice(['-', 'ann'])} [11/Mar/2025:{hour:02}:10:59 +0000] "
            f'"{method} {path}{query} HTTP/1.1" {code} {sent or "-"} {millis}ms'
        )
        status[f"{code // 100}xx"] += 1
        hours[hour] += 1
        size += sent
        times.setdefault((method, pages[page]), []).append(millis)
        queries.update(keys)
        refused[client] += code in (401, 403)

    def rank(values: list[int], percent: int) -> int:
        """The smallest value that at least so many percent do not exceed."""
        return next(v for v in sorted(set(values)) if 100 * sum(w <= v for w in values) >= percent * len(values))

    rows = [(-rank(millis, 95), key, len(millis), rank(millis, 50)) for key, millis in times.items()]
    return Case(
        files={"logs/access.log.gz": gzip.compress("\n".join([*log, ""]).encode(), mtime=0)},
        stdout=lines(
            f"{dict(sorted(status.items()))} {size} bytes, {broken} broken",
            f"busiest {[f'{hour:02}' for hour in sorted(hours, key=lambda hour: (-hours[hour], hour))[:3]]}",
            *(f"{key[0]:5}{key[1]:24}{count:6}{middle:6}{-slow:6}" for slow, key, count, middle in sorted(rows)),
            f"queries {sorted(queries.items())}",
            f"refused {sorted(client for client in refused if refused[client] >= 40)}",
        ),
    )


@program("python/dijkstra.py")
def dijkstra() -> Case:
    rng = random.Random(7)
    size = 40
    cells = {
        (row, column): None if rng.random() < 0.22 and 2 < row + column < 2 * size - 4 else rng.randrange(1, 10)
        for row in range(size)
        for column in range(size)
    }
    free = {place: step for place, step in cells.items() if step is not None}

    def beside(place: tuple[int, int]) -> list[tuple[int, int]]:
        row, column = place
        return [p for p in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)) if p in free]

    cost: dict[tuple[int, int], int] = {(0, 0): 0}
    changed = True
    while changed:  # Bellman and Ford
        changed = False
        for place, step in free.items():
            ways = [cost[near] + step for near in beside(place) if near in cost]
            if ways and min(ways) < cost.get(place, 10**9):
                cost[place], changed = min(ways), True
    corner = (size - 1, size - 1)
    assert corner in cost

    def check(data: bytes) -> None:
        *head, picture = data.decode().split("\n", 3)
        assert head == [
            f"reached {len(cost)} of {len(free)}",
            f"farthest {max(cost.values())} all {sum(cost.values())}",
            f"corner {cost[corner]}",
        ]
        drawn = {(r, c): sign for r, line in enumerate(picture.splitlines()) for c, sign in enumerate(line)}
        assert {place for place, sign in drawn.items() if sign == "#"} == cells.keys() - free.keys()
        way = {place for place, sign in drawn.items() if sign == "*"}
        assert {(0, 0), corner} <= way <= free.keys()
        assert sum(free[place] for place in way) - free[0, 0] == cost[corner]
        assert sum(near in way for place in way for near in beside(place)) >= 2 * len(way) - 2

    text = lines(*("".join(str(cells[row, column] or "#") for column in range(size)) for row in range(size)))
    return Case(stdin=text, stdout=check)


@program("python/lru_cache.py")
def lru_cache() -> Case:
    rng = random.Random(8)
    tokens = [min(int(rng.expovariate(0.08)), 99) for _ in range(3000)]
    kept: list[tuple[int, int]] = []
    seen = Counter[str]()
    for now, key in enumerate(tokens, 1):
        born = dict(kept).get(key)
        kept = [entry for entry in kept if entry[0] != key]
        if born is not None and now - born <= 150:
            seen["hits"] += 1
        else:
            seen["expired"] += born is not None
            seen["misses"] += 1
            born = now
        kept.append((key, born))
        seen["evicted"] += len(kept) > 20
        kept = kept[-20:]
    assert all(seen[name] > 10 for name in ("hits", "misses", "evicted", "expired"))
    return Case(
        stdin=" ".join(map(str, tokens)),
        args=("kitten:sitting", "saturday:sunday", "intention:execution", ":abc"),
        stdout=lines(
            f"total {sum(token**2 for token in tokens)} square Squares.",
            f"hits {seen['hits']} misses {seen['misses']} evicted {seen['evicted']} expired {seen['expired']}",
            f"order {[key for key, _ in kept]}",
            "distances [3, 3, 5, 3]",
            "True True",
        ),
    )


@program("python/generators.py")
def generators() -> Case:
    primes = primes_below(100_000)
    twins = [(p, p + 2) for p in primes if p + 2 in set(primes[:400])]
    return Case(
        stdout=lines(
            f"twins {twins[30:33]}",
            f"sum {sum(primes)}",
            "sent [10.0, 15.0, 30.0] reset 7.0",
            "collected [1]",
            "queens 92 (0, 4, 7, 5, 2, 6, 1, 3) (7, 3, 0, 2, 5, 1, 6, 4)",
            """trace ['+a', '+b', "!'A'", '-b', '-a']""",
            "{3: ['the', 'fox', 'the', 'dog'], 4: ['over', 'lazy'], 5: ['quick', 'brown', 'jumps']}",
        )
    )


@program("python/archives.py")
def archives() -> Case:
    rng = random.Random(9)
    tree: dict[str, bytes] = {
        "empty": b"",
        "ünï/cödé.txt": "naïve\n".encode() * 50,
        "deep/a/b/c/leaf.bin": rng.randbytes(3000),
        **{f"text/{n:02}.txt": " ".join(rng.choices(WORDS, k=200)).encode() for n in range(20)},
    }
    ordered = [tree[path] for path in sorted(tree, key=lambda path: path.split("/"))]
    total = sum(map(len, ordered))

    def check_zip(data: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == {
                **tree,
                "META/comment.txt": b"packed in a sandbox\n",
            }
            assert archive.comment == b"made by archives.py" and len(data) < total

    def check_tar(data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = archive.getmembers()
            found = {m.name: reader.read() for m in members if (reader := archive.extractfile(m)) is not None}
            assert found == tree
            assert {(m.mode, m.mtime) for m in members} == {(0o640, 1_700_000_000)}

    def check_all(data: bytes) -> None:
        unpack = {b"\x1f\x8b": gzip.decompress, b"BZ": bz2.decompress, b"\xfd7": lzma.decompress}[data[:2]]
        assert unpack(data) == b"".join(ordered)

    checks: dict[str, Expected] = {"tree.zip": check_zip, "tree.tar.gz": check_tar, "tree.tar.xz": check_tar}
    return Case(working_files=r"out/.*", 
        files={f"tree/{path}": data for path, data in tree.items()},
        stdout=lines(
            f"sources {len(tree)} {total}",
            f"zip None {total + 20}",
            f"tar.gz {len(tree)} {total}",
            f"tar.xz {len(tree)} {total}",
            *(f"{kind} True True" for kind in ("gz", "bz2", "xz")),
            "unpacked True",
        ),
        artifacts=checks | {"all.gz": check_all, "all.bz2": check_all, "all.xz": check_all},
    )


@program("python/hashing.py")
def hashing() -> Case:
    rng = random.Random(10)
    files = {f"part-{n}.bin": rng.randbytes(n * 1000) for n in range(7)}

    def root(hashes: list[bytes]) -> bytes:
        if len(hashes) == 1:
            return hashes[0]
        pairs = [(hashes[n], hashes[min(n + 1, len(hashes) - 1)]) for n in range(0, len(hashes), 2)]
        return root([hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs])

    body = urlsafe_b64encode(b'{"admin": false, "sub": "ann"}').rstrip(b"=").decode()
    mac = urlsafe_b64encode(hmac.digest(b"not a secret", body.encode(), hashlib.sha512)[:16]).rstrip(b"=").decode()
    top = root([hashlib.sha256(b"\x00" + data).digest() for data in files.values()]).hex()
    return Case(
        files={f"files/{name}": data for name, data in files.items()},
        stdout=lines(
            *(
                f"{name} {hashlib.md5(data).hexdigest()[:16]} {hashlib.sha1(data).hexdigest()[:16]} "
                f"{hashlib.blake2b(data).hexdigest()[:16]} {hashlib.sha3_256(data).hexdigest()[:16]} "
                f"{zlib.crc32(data):08x}"
                for name, data in files.items()
            ),
            f"root {top} [7, 4, 2, 1]",
            "proofs True",
            "forged False",
            f"token {body}.{mac}",
            f"pbkdf2 {hashlib.pbkdf2_hmac('sha256', b'password', b'salt', 20_000).hex()}",
            "random 100",
        ),
    )


@program("python/binary_records.py")
def binary_records() -> Case:
    rng = random.Random(12)
    rows = [
        (rng.getrandbits(32), rng.randrange(-400, 500), rng.getrandbits(16), f"unit{rng.randrange(300)}", n / 8)
        for n in range(2000)
    ]
    data = b"RECS\x00\x02\x00\x01" + len(rows).to_bytes(4, "big")
    for id, temperature, flags, name, weight in rows:
        data += id.to_bytes(4, "little") + temperature.to_bytes(2, "little", signed=True) + flags.to_bytes(2, "little")
        data += name.encode().ljust(10, b"\0") + struct.pack("<d", weight)
    data += (sum(row[2] for row in rows) & 0xFFFF).to_bytes(2, "big")
    pixels = {row[0] % 9600: bytes([row[2] % 256, row[2] // 256, row[1] % 256]) for row in rows}
    body = b"".join(pixels.get(place, b"\0\0\0") for place in range(9600))

    def check(image: bytes) -> None:
        assert image[:2] == b"BM" and int.from_bytes(image[2:6], "little") == len(image)
        assert struct.unpack("<ii", image[18:26]) == (120, 80)
        assert image[54:] == body

    names = sorted({row[3] for row in rows})
    temperatures = sorted(row[1] for row in rows)
    return Case(
        files={"records.bin": data},
        stdout=lines(
            "2000 records of 26",
            f"ids {sum(row[0] for row in rows)} temperatures {temperatures[0]} {temperatures[-1]}",
            f"names {len(names)} {names[0]} {names[-1]}",
            f"checksum True {1999 * 2000 / 16:.6f}",
            f"image {54 + 28800}",
        ),
        artifacts={"records.bmp": check},
    )


@program("python/unit_tests.py")
def unit_tests() -> Case:
    source = source_of("python/unit_tests.py").read_text().splitlines()
    errs = source.index("        self.machine.undefined()") + 1

    def check(stderr: bytes) -> None:
        text = stderr.decode()
        assert text.count(" ... ok\n") == 4
        assert f'File "/work/main.py", line {errs}, in test_errs' in text
        assert "AssertionError: 4 != 5" in text
        assert "AttributeError: 'StackMachine' object has no attribute 'undefined'" in text
        assert "test_division (__main__.TestStackMachine.test_division) ... skipped 'not yet'" in text
        assert re.search(r"\nRan 8 tests in \d+\.\d+s\n", text)
        assert text.endswith("\nFAILED (failures=1, errors=1, skipped=1, expected failures=1)\n")

    return Case(stdout="set up class\n", stderr=check, exit_code=1)


@program("python/ledger")
def ledger() -> Case:
    return Case(
        args=("/inputs/data/2025.txt",),
        files={
            "data/2025.txt": """\
# date account amount
2025-01-01 income:salary 3000.00
2025-01-02 expenses:rent 1234.56   # January
2025-01-03 assets:bank 1765.44

2025-02-01 expenses:rent 1234.56
"""
        },
        stdout=lines(
            "ledger 1.4: 4 accounts",
            "assets:bank              1765.44",
            "equity:clearing         -1234.56",
            "expenses:rent            2469.12",
            "income:salary           -3000.00",
            "loaded ['ledger', 'ledger.book', 'ledger.errors', 'ledger.formats', 'ledger.formats.statement']",
        ),
    )


@program("python/ledger", "unknown-account")
def ledger_unknown_account() -> Case:
    main = (source_of("python/ledger") / "main.py").read_text().splitlines()
    call = main.index("        book.post(date, account, cents)") + 1
    return Case(
        args=("/inputs/data/2025.txt",),
        files={"data/2025.txt": "2025-01-01 assets:gold 1.00\n"},
        stdout="ledger 1.4: 4 accounts\n",
        stderr=re.compile(
            r"\ATraceback \(most recent call last\):\n"
            r'  File "/work/main\.py", line \d+, in <module>\n.*'
            rf'  File "/work/main\.py", line {call}, in main\n    book\.post\(date, account, cents\)\n'
            r'  File "/work/ledger/book\.py", line \d+, in post\n.*'
            r"\nledger\.errors\.UnknownAccountError: 'assets:gold' is none of assets:bank, equity:clearing, "
            r"expenses:rent, income:salary\n\Z",
            re.DOTALL,
        ),
        exit_code=1,
    )


@program("python/cli_tool.py", "convert")
def cli_convert() -> Case:
    return Case(
        args=("-vv", "convert", "--from", "16", "--to=36", "ff", "DEADBEEF", "0"),
        stdout="ff (16) = 73 (36)\nDEADBEEF (16) = 1ps9wxb (36)\n0 (16) = 0 (36)\n",
        stderr="command: convert verbosity: 2\n",
    )


@program("python/cli_tool.py", "wrap")
def cli_wrap() -> Case:
    return Case(
        args=("wrap", "--width", "12", "--centre", "several words", "and an überlong-ish one"),
        stdout=lines("  several", "words and an", "überlong-ish", "    one"),
    )


@program("python/cli_tool.py", "usage")
def cli_usage() -> Case:
    return Case(
        args=("convert", "--to", "40", "5"),
        stdout="",
        stderr=re.compile(
            r"\Ausage: cli_tool convert \[-h\].*error: argument --to: base 40 is not in 2\.\.36\n\Z", re.S
        ),
        exit_code=2,
    )


@program("python/guessing_game.py")
def guessing_game() -> Case:
    # The numbers to guess are (42 * 75 + 74) % 65537 % 100 + 1 = 25, and from that one on 64.
    return Case(
        stdin="Zoë\nhalf\nabc\n77\n25\ny\n64\ny\n",
        stdout="Name: Hello Zoë!\n[1-100]? lower\n[1-49]? 'abc' is no number\n[1-49]? out of range\n"
        "[1-49]? yes, after 2\nagain? [1-100]? yes, after 1\nagain? [1-100]? \nend of input\nZoë: 2 rounds, 3 tries\n",
        exit_code=2,
    )


@program("python/recursion.py")
def recursion() -> Case:
    return Case(
        stdout=lines(
            "caught maximum recursion depth exceeded",
            "depth 50000",
            "parity True False",
            f"ackermann {2 * 300 + 3} {2**8 - 3}",
            f"hanoi {2**14 - 1}",
            f"permutations {math.factorial(7)} ('b', 'c', 'a')",
            f"tree {20_000 * 19_999 // 2}",
        )
    )


def escape_steps(x: float, y: float) -> int:
    a = b = 0.0
    for steps in range(60):
        if math.hypot(a, b) > 2:
            return steps
        a, b = a * a - b * b + x, 2 * a * b + y
    return 60


@program("python/futures.py")
def futures() -> Case:
    rng = random.Random(13)
    texts = {f"texts/{n}.txt": " ".join(rng.choices(WORDS, range(1, len(WORDS) + 1), k=400)).title() for n in range(6)}
    words = " ".join(texts.values()).lower().split()
    frequent = sorted((-words.count(word), word) for word in set(words))[:4]
    picture = [
        "".join(
            " .:-=+*#%@"[escape_steps(-2.2 + 3.2 * column / 72, -1.2 + 2.4 * row / 28) * 9 // 60]
            for column in range(72)
        )
        for row in range(28)
    ]
    return Case(
        files=dict(texts),
        stdout=lines(
            "failed: ZeroDivisionError('division by zero')",
            "symmetric True",
            f"files 6 words {len(words)} {[(word, -count) for count, word in frequent]}",
            "timeout True True",
            "released True",
        ),
        artifacts={"mandelbrot.txt": lines(*picture)},
    )


@program("python/huffman.py")
def huffman() -> Case:
    rng = random.Random(14)
    text = " ".join(rng.choices([*WORDS, "größe", "naïve", "日本"], k=4000))
    weights = list(Counter(text).values())
    heapq.heapify(weights)
    bits = 0
    while len(weights) > 1:  # the cost of an optimal code is the sum of the weights of its inner nodes
        both = heapq.heappop(weights) + heapq.heappop(weights)
        heapq.heappush(weights, both)
        bits += both

    def check(data: bytes) -> None:
        assert data[:4] == b"HUF1"
        assert len(data) == 10 + 5 * len(set(text)) + (bits + 7) // 8
        assert {chr(int.from_bytes(data[at : at + 4], "big")) for at in range(10, 10 + 5 * len(set(text)), 5)} == set(
            text
        )

    return Case(
        args=("inputs/words.txt",),
        files={"words.txt": text},
        stdout=f"characters {len(text)} bits {bits} same True\n",
        artifacts={"text.huf": check},
    )


@program("python/xml_feed.py")
def xml_feed() -> Case:
    books = [
        ("b1", "de", "Größe & Maß", "30.00"),
        ("b2", "en", "Cheap <thrills>", "9.99"),
        ("b3", "fr", 'L’été "indien"', "20.00"),
        ("b4", "de", "Kurz", "19.50"),
    ]

    def escaped(title: str) -> str:
        return title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    catalogue = "".join(
        f'<book id="{id}" lang="{lang}"><title>{escaped(title)}</title><price>{price}</price></book>'
        for id, lang, title, price in books
    )

    def check_xml(data: bytes) -> None:
        root = ElementTree.fromstring(data)
        assert root.tag == "{urn:example:catalogue}catalogue"
        assert [["".join(part.itertext()) for part in book] for book in root] == [
            ["Größe & Maß", "27.00"],
            ['L’été "indien"', "20.00"],
        ]

    return Case(
        files={
            "catalogue.xml": f'<?xml version="1.0"?>\n<catalogue xmlns="urn:example:catalogue">{catalogue}</catalogue>'
        },
        stdout=lines(
            "books 4 ['de', 'en', 'fr']",
            "cheap ['b2', 'b4']",
            "Größe & Maß | True",
            'L’été "indien" | True',
            "broken: mismatched tag: line 1, column 8",
        ),
        artifacts={
            "catalogue.xml": check_xml,
            "page.html": "<table><tr><td>Größe &amp; Maß</td>"
            '<a href="https://shop.example/find?q=Gr%C3%B6%C3%9Fe+%26+Ma%C3%9F&amp;lang=de">buy</a></tr>\n'
            "<tr><td>L’été &quot;indien&quot;</td>"
            '<a href="https://shop.example/find?q=L%E2%80%99%C3%A9t%C3%A9+%22indien%22&amp;lang=fr">buy</a></tr></table>',
        },
    )


@program("python/calendar_zones.py")
def calendar_zones() -> Case:
    return Case(
        stdout="""\
Europe/Berlin       Tue 12 Mar 2024 22:30 CET +0100
America/New_York    Tue 12 Mar 2024 17:30 EDT -0400
Asia/Kolkata        Wed 13 Mar 2024 03:00 IST +0530
Australia/Lord_Howe Wed 13 Mar 2024 08:30 +11 +1100
Pacific/Chatham     Wed 13 Mar 2024 11:15 +1345 +1345
2024-03-31T01:00:00+00:00 3600
2024-10-27T01:00:00+00:00 -3600
gap 03:30:00 2:00:00
week (2020, 53) 2021-01-03
   February 2024
Mo Tu We Th Fr Sa Su
          1  2  3  4
 5  6  7  8  9 10 11
12 13 14 15 16 17 18
19 20 21 22 23 24 25
26 27 28 29
fridays 1
ages [22, 23]
parsed 2024-03-05 10:38:09+00:00
fixed 2024-01-01 00:00:00+05:45
unknown No time zone found with key Mars/Olympus
"""
    )


@program("python/file_organiser.py")
def file_organiser() -> Case:
    mess: dict[str, str | bytes] = {
        "a.txt": "top",
        "notes.MD": "# notes",
        "zero.csv": "",
        "pics/a.PNG": b"\x89PNG",
        "pics/b.jpeg": b"\xff\xd8\xff" * 700,
        "sub/a.txt": "second",
        "sub/deep/a.txt": "third",
        "sub/deep/data-2025": "1,2\n",
        "sub/Makefile": "all:\n",
    }
    moved = {
        "a.txt": "texts/a.txt",
        "notes.MD": "texts/notes.MD",
        "pics/a.PNG": "images/a.PNG",
        "pics/b.jpeg": "images/b.jpeg",
        "sub/Makefile": "other/Makefile",
        "sub/a.txt": "texts/a~2.txt",
        "sub/deep/a.txt": "texts/a~3.txt",
        "sub/deep/data-2025": "data/data-2025",
    }
    log = [f"INFO organiser: {source} -> {target}" for source, target in moved.items()]
    log.insert(2, "WARNING organiser: empty: zero.csv")
    return Case(
        files={f"mess/{path}": content for path, content in mess.items()},
        limits={"disk_bytes": 50 * 2**20},
        stdout=lines(
            "{'data': 1, 'images': 2, 'other': 1, 'texts': 4} left ['zero.csv'] scratch False",
            "biggest images/b.jpeg 2100",
            f"disk {50 * 2**20} True",
            "temporary in /tmp",
        ),
        artifacts={"organiser.log": lines(*log), **{target: mess[source] for source, target in moved.items()}},
    )


@program("python/shared_memory.py")
def shared_memory() -> Case:
    state, alive = 12345, set[tuple[int, int]]()
    for place in range(64 * 48):
        state = (state * 1664525 + 1013904223) % 2**32
        if state < 2**30:
            alive.add(divmod(place, 64))
    born = len(alive)
    for _ in range(40):
        around = Counter(
            ((row + down) % 48, (column + right) % 64)
            for row, column in alive
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if (down, right) != (0, 0)
        )
        alive = {place for place, count in around.items() if count == 3 or (count == 2 and place in alive)}
    return Case(stdout=lines(f"born {born}", "rows {0: 960, 1: 960} [0, 0]", f"alive {len(alive)}"))
