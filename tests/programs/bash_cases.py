"""Programs for the environment ``bash``, with what they print reckoned in Python."""

from __future__ import annotations

import hashlib
import html
import io
import json
import math
import random
import re
import tarfile
from collections import Counter, defaultdict

from tests.programs.cases import Case, lines, program, source_of
from tests.programs.python_cases import primes_below


@program("bash/sales_report.sh")
def sales_report() -> Case:
    rng = random.Random(41)
    rows: list[tuple[str, str, str, str]] = []
    for _ in range(3000):
        day = f"2025-{rng.randrange(1, 7):02}-{rng.randrange(1, 29):02}"
        amount = "n/a" if rng.random() < 0.01 else str(rng.randrange(1, 500))
        rows.append((day, rng.choice(["north", "south", "öst"]), rng.choice(["ann", "bob", "cy"]), amount))
    good = [(day, region, seller, int(amount)) for day, region, seller, amount in rows if amount.isdigit()]
    totals, months, counts = Counter[str](), Counter[str](), Counter[str]()
    for day, region, _, sold in good:
        totals[region] += sold
        counts[region] += 1
        months[day[:7]] += sold
    report = []
    for region in sorted(totals, key=lambda name: (-totals[name], name)):
        process = max((row for row in good if row[1] == region), key=lambda row: row[3])[2]
        padding = " " * (8 - len(region))
        mean = totals[region] / counts[region]
        report.append(f"{region}{padding} {totals[region]:8} {counts[region]:5} {mean:7.2f} {process}")
    best = {
        f"regions/{region}.top": lines(
            *(
                ",".join(map(str, row))
                for row in sorted((row for row in good if row[1] == region), key=lambda row: (-row[3], row[0], row[2]))[
                    :3
                ]
            )
        )
        for region in totals
    }
    return Case(
        files={"sales.csv": lines("date,region,seller,amount", *(",".join(row) for row in rows))},
        stdout=lines(
            "rows: 3000",
            *report,
            f"total {totals.total()}, bad {len(rows) - len(good)}",
            "-- months",
            *(f"{month} {months[month]:7} {'#' * (months[month] // 2000)}" for month in sorted(months)),
            "files: 3",
        ),
        artifacts=dict(best),
    )


@program("bash/inventory.sh")
def inventory() -> Case:
    moves = """\
# moves of a week
price;bolt;5
 price ;gear;120

add;bolt;100
add;gear;7
take;bolt;30
take;gear;9
add;nut;0
add;nut;12
take;gear;7
sell;bolt;1;now
"""
    return Case(
        files={"moves.txt": moves},
        stdout=lines(
            "Bolt             70      5",
            "Nut              12    n/a",
            "worth 350, kinds 2, journal 7",
            "last: take gear 7; middle: take bolt 30 short gear 2",
            "archive.tar.gz /srv/data/archive /srv/backup/archive.tar.gz 24 tar",
        ),
        stderr=lines("line failed with 2: take gear", "line failed with 1: add nut", "unknown verb SELL (rest: now)"),
    )


@program("bash/word_count.sh")
def word_count() -> Case:
    rng = random.Random(42)
    text = "listen silent enlist stone notes onset tones evening every earth heart later alter the a of and"
    known = text.split(" ")
    rare = ["solitary", "ephemeral", "once", "unique", "alone", "eleven"]
    words = rng.choices(known, range(1, len(known) + 1), k=1500) + rare
    rng.shuffle(words)
    text = ""
    for n, word in enumerate(words):
        text += (word.title() if n % 9 == 0 else word) + rng.choice([" ", " ", ", ", ".\n", " 42 ", " — "])
    text += "\n"
    counted = sum(word.isascii() for word in text.split())  # wc sees no word in a dash that it cannot read
    counts = Counter(words)
    lengths = Counter(map(len, words))
    distinct = sorted(counts)
    once = ",".join(word for word in distinct if counts[word] == 1) + "\n"
    strange = [word for word in distinct if word not in known[3:]][:5]
    anagrams = defaultdict(list)
    for word in distinct:
        anagrams["".join(sorted(word))].append(word)
    return Case(working_files=r"(text|words).txt", 
        stdin=text,
        files={"dictionary.txt": lines(*known[3:])},
        stdout=lines(
            f"lines {text.count(chr(10))} words {counted} bytes {len(text.encode())}",
            f"words {len(words)}, distinct {len(distinct)}",
            "-- most frequent",
            *(f"{word:<10}{counts[word]}" for word in sorted(distinct, key=lambda w: (-counts[w], w))[:5]),
            "-- by length",
            " ".join(f"{length} {lengths[length]}" for length in sorted(lengths)),
            "-- once only",
            *(once[at : at + 60].rstrip("\n") for at in range(0, len(once) - 1, 60)),
            "-- not in the dictionary",
            *(f"{number:2}: {word}" for number, word in enumerate(strange, 1)),
            "-- anagrams",
            *(" ".join(group) for _, group in sorted(anagrams.items()) if len(group) > 1),
            f"starting with e: {sum(word[0] == 'e' for word in words)}",
        ),
    )


@program("bash/site.sh")
def site() -> Case:
    title = "Ünï & Co"
    posts = {f"post-{n}": f"Heading {n} <é>\nfirst & last\n\tindented $HOME `x` {n}\n" for n in range(6)}
    pages: dict[str, bytes] = {}
    for name, text in posts.items():
        heading, _, body = text.partition("\n")
        pages[f"./pages/{name}.html"] = (
            f"<!doctype html>\n<title>{heading} — {title}</title>\n<h1>{heading}</h1>\n"
            f"<pre>{html.escape(body.rstrip(), quote=False)}</pre>\n<p>1024 $literal `ticks`</p>\n"
        ).encode()
    pages["./data/raw.txt"] = b"$title is not expanded, nor is $(date) or `pwd`\n"
    described = {"title": title, "pages": 6, "tags": ["a", "b"]}
    pages["./data/site.json"] = (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode()
    sums = lines(*(f"{hashlib.sha256(pages[path]).hexdigest()}  {path}" for path in sorted(pages)))

    def check(data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {m.name: reader.read() for m in archive if (reader := archive.extractfile(m)) is not None}
        assert found == {f"site{path[1:]}": content for path, content in pages.items()}

    return Case(
        env={"SITE_TITLE": title},
        files={f"posts/{name}.txt": text for name, text in posts.items()},
        stdout=lines("A+B 2", "sums good: 8", "6", "same"),
        artifacts={
            **{f"site{path[1:]}": content for path, content in pages.items()},
            "SHA256SUMS": sums,
            "site.tar.gz": check,
        },
    )


@program("bash/site.sh", "no-title")
def site_without_title() -> Case:
    return Case(stdout="", stderr=re.compile(r"\A/work/main\.sh: line \d+: SITE_TITLE: no title\n\Z"), exit_code=1)


@program("bash/traps.sh")
def traps() -> Case:
    source = source_of("bash/traps.sh").read_text().splitlines()
    fails = source.index("false") + 1
    listing = source.index("ls /no/such/file 2>/dev/null") + 1
    return Case(
        stdout=lines(
            "codes 3 1 2, lines 1.0 2.0 2.1 3.0 3.1 3.2",
            "interrupted",
            "signals 3",
            f"error 1 in line {fails}: false",
            "subshell 7",
            "grep is no error here",
            f"error 2 in line {listing}: ls /no/such/file 2> /dev/null",
            "sleeper 143",
            "to three",
            "through a coprocess",
            "cleaned up, leaving with 42",
        ),
        exit_code=42,
    )


@program("bash/arithmetic.sh")
def arithmetic() -> Case:
    primes = primes_below(3001)
    # Machin's formula; bc truncates its arctangent at the 50th digit before it takes it four times
    scale = 10**70
    arctan = {d: sum((-1) ** n * scale // ((2 * n + 1) * d ** (2 * n + 1)) for n in range(60)) for d in (5, 239)}
    quarter = (4 * arctan[5] - arctan[239]) // 10**20
    squares = [n * n for n in range(2, 51, 3)]
    return Case(
        stdout=lines(
            f"gcd {math.gcd(1071, 462)} {math.gcd(123456, 7890)}",
            f"primes up to 3000: {len(primes)}, last {primes[-1]}",
            f"bases {0xFF} {0b101101} {0o777} {int('zz', 36)} beef 777",
            f"bits {0xF0 & 0x3C} {1 << 40} -6 -3 -2 {2**62}",
            f"overflow {-(2**63)}",
            "roman MCMXCIV MMMDCCCLXXXVIII",
            "collatz 111 178",
            f"factorial {math.factorial(30)}",
            f"pi {str(4 * quarter)[0]}.{str(4 * quarter)[1:]}",
            f"sums 5050 {sum(squares)} {sum(squares) / len(squares):.6g}",
            "status 1",
            "let 16 10",
        )
    )


@program("bash/join_csv.sh")
def join_csv() -> Case:
    rng = random.Random(43)
    people = [
        (f"E{n:03}", f"{rng.choice(['Ann', 'Åsa', 'Bob'])} {rng.choice(['Lee', 'Öz', 'Ray'])}{n}", n % 3, 1000 + n * n)
        for n in rng.sample(range(100, 200), 60)
    ]
    teams = ["core", "ops", "web"]
    rows = [f"{id},{name},{teams[team]},{salary}" for id, name, team, salary in people]
    bad = {
        5: "E77,Short Id,core,100",
        9: "E201,Zero Pay,ops,0",
        14: "E202,Many Fields,web,5,6",
        20: "X203,Odd Id,web,7",
    }
    for at, row in bad.items():
        rows.insert(at, row)
    badges = {id: f"B{rng.randrange(1000)}" for id, *_ in people if rng.random() < 0.8}
    salaries = sorted(salary for *_, salary in people)
    counts = Counter(teams[team] for id, _, team, _ in people if id in badges)
    initials = Counter("".join(part[0] for part in name.split()) for _, name, _, _ in people)
    twice = sorted(name for name, count in initials.items() if count > 1)
    without = sorted(name for id, name, *_ in people if id not in badges)
    sizes = Counter(teams[team] for _, _, team, _ in people)
    joined = lines(*(f"{id},{name},{teams[team]},{badges[id]}" for id, name, team, _ in sorted(people) if id in badges))
    return Case(working_files=r"clean.csv", 
        args=("core", "ops", "none"),
        # no newline at the end: the last line counts all the same
        files={
            "hr/employees.csv": "\n".join(["id,name,team,salary", *rows]),
            "hr/badges.csv": lines("id,badge", *(f"{id},{badge}" for id, badge in badges.items())),
        },
        stdout=lines(
            *(f"{team}: {counts[team]}" for team in sorted(counts)),
            f"without badge: {' '.join(without)}",
            f"salaries: min {salaries[0]} median {(salaries[29] + salaries[30]) / 2:.1f} max {salaries[-1]} "
            f"sum {sum(salaries)}",
            f"initials: {' '.join(twice)}",
            f"core={sizes['core']}",
            f"ops={sizes['ops']}",
            "none=0",
        ),
        stderr=lines(
            "employees:7: bad id 'E77'",
            "employees:11: bad salary '0'",
            "employees:16: too many fields",
            "employees:22: bad id 'X203'",
        ),
        exit_code=4,
        artifacts={"joined.csv": joined},
    )


@program("bash/text_tools.sh")
def text_tools() -> Case:
    poem = "Leaves of autumn\nstart\nfall in grey\nAutumn rain\nend\nno more\n"
    return Case(
        args=("-v", "-w", "21", "-n", "Ann Example", "-nZoë", "größe", "rest two"),
        files={"poem.txt": poem},
        stdout=lines(
            "     Ann Example",
            "         Zoë",
            "verbose, 2 names, rest: größe rest two",
            "lengths 5 7 GRÖßE eßörg",
            "Uryyb, Jbeyq",
            "0:Leaves of autumn",
            "3:Autumn rain",
            "1,234,567,890",
            "Autumn rain",
            "fall in grey",
            "00042|ab    |  3.14|a\\ b\\$c|tab\there",
            " 00 01 ff fe",
            "3c3",
            "< fall in grey",
            "---",
            "> fall in gray",
            "one three:four",
            "2023-11-14T22:13:20Z",
            "1a 1b 2a 2b 3a 3b café end",
        ),
    )


@program("bash/text_tools.sh", "usage")
def text_tools_usage() -> Case:
    return Case(args=("-v", "-w"), stdout="", stderr="-w needs a value\n", exit_code=64)
