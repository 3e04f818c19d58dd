"""Programs for the environment ``node``, with what they print reckoned in Python."""

from __future__ import annotations

from typing import Any

import gzip
import hashlib
import hmac
import json
import math
import random
import re
import unicodedata
from base64 import urlsafe_b64encode
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from tests.programs.cases import Case, lines, program, source_of
from tests.programs.python_cases import primes_below


@program("node/async_files.js")
def async_files() -> Case:
    rng = random.Random(31)
    notes: dict[str, tuple[str, list[str], str]] = {}
    titles = [f"Note {n} – ü" for n in range(40)]
    for n, title in enumerate(titles):
        links = rng.sample([*titles, "Nowhere", "Lost"], 3)
        text = f"intro\n# {title}\n" + " and ".join(f"[[{link}]]" for link in links)
        notes[f"{'ab'[n % 2]}/{n % 5}/n{n:02}.md" if n % 3 else f"n{n:02}.md"] = (title, links, text)
    ordered = sorted(notes, key=lambda path: path.split("/"))
    index = [
        {"name": path, "title": notes[path][0], "links": notes[path][1], "size": len(notes[path][2].encode())}
        for path in ordered
    ]
    broken = sorted({link for _, links, _ in notes.values() for link in links} - set(titles))
    assert broken == ["Lost", "Nowhere"]

    def check(data: bytes) -> None:
        assert json.loads(data) == index

    def check_output(data: bytes) -> None:
        assert data.decode().replace("EACCES", "EROFS") == lines(  # gVisor looks at the mode before the mount
            f"40 notes, {sum(len(text.encode()) for _, _, text in notes.values())} bytes",
            "broken: Lost, Nowhere",
            "ok ok ok ok ok ok EROFS ENOENT",
            r'8 "[\n {\n  \""',
        )

    return Case(
        files={f"notes/{path}": text for path, (_, _, text) in notes.items()},
        stdout=check_output,
        artifacts={"index.json": check, **{f"notes/{path.split('/')[-1]}": notes[path][2] for path in ordered[:5]}},
    )


@program("node/streams.js")
def streams() -> Case:
    rng = random.Random(32)
    rows = [(rng.choice(["Zürich", "東京", "Łódź", "Rome", "😀"]), rng.randrange(10_000)) for _ in range(20_000)]
    sums = Counter[str]()
    for city, amount in rows:
        sums[city] += amount

    def check(data: bytes) -> None:
        unpacked = gzip.decompress(data).decode().splitlines()
        assert unpacked == [f'{{"city":"{city}","amount":"{amount}"}}' for city, amount in rows]

    order = sorted(sums, key=lambda city: f"{city},{sums[city]}".encode("utf-16-be"))
    blocks = b"".join(bytes([n % 256]) * 1024 for n in range(500))
    return Case(
        files={"amounts.csv": "\n".join(f"{city},{amount}" for city, amount in rows)},
        stdout=lines(
            *(f"{city} {sums[city]}" for city in order),
            f"slow 512000 true {hashlib.sha256(blocks).hexdigest()}",
            "error: bad line: b",
        ),
        artifacts={"rows.jsonl.gz": check},
    )


@program("node/workers.js")
def workers() -> Case:
    return Case(
        stdout=lines(
            f"primes {len(primes_below(40_000))}",
            "threads 4 0000",
            f"counter 4000 {10_003**2}",
            "failed RangeError told to fail",
        )
    )


@program("node/events.js")
def events() -> Case:
    return Case(
        stdout=lines(
            "true true true 2",
            "first",
            "sold 3 pen",
            "once",
            "first",
            "sold 7 pen",
            "short of 1 pen",
            "thrown no hat",
            "handled no cup",
            "first",
            "sold 2 ink",
            "empty ink",
            "ticks 55",
            "microtask promise sync tick timeout sync timeout",
            "exit 4",
        ),
        exit_code=4,
    )


@program("node/crypto_vault.js")
def crypto_vault() -> Case:
    letter = "Liebe Zoë,\n".encode() + random.Random(33).randbytes(5000).hex().encode()
    password, salt = b"correct horse \xc3\xa9", b"pepper"
    mac = urlsafe_b64encode(hmac.digest(password, letter, "sha256")).decode().rstrip("=")

    def check(data: bytes) -> None:
        assert len(data) == len(letter) + 28
        assert data[:12] == hashlib.md5(letter).digest()[:12]
        assert len(set(data[28:])) == 256  # the letter has 30 different bytes

    return Case(
        args=(password.decode(), salt.decode()),
        files={"letter.txt": letter},
        stdout=lines(
            *(f"{name} {hashlib.new(name, letter).hexdigest()[:32]}" for name in ("sha1", "sha256", "sha512")),
            f"blake2b512 {hashlib.blake2b(letter).hexdigest()[:32]}",
            f"hmac {mac}",
            f"scrypt {hashlib.scrypt(password, salt=salt, n=4096, r=8, p=1, dklen=32).hex()}",
            f"pbkdf2 {hashlib.pbkdf2_hmac('sha512', password, salt, 1000, 16).hex()}",
            "opened true 28",
            "tampered true",
            "signature 64 true",
            "forged false",
            "random 50",
        ),
        artifacts={"letter.box": check},
    )


@program("node/json_transform.js")
def json_transform() -> Case:
    rng = random.Random(34)
    answers: list[dict[str, Any]] = []
    for n in range(300):
        at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=rng.randrange(200), milliseconds=n * 1001)
        answers.append(
            {
                "person": {"name": f'P{n}, "Zoë"', "country": rng.choice(["DE", "FR", "JP"])},
                "scores": {"food": rng.randrange(11), "room": rng.randrange(11)},
                "at": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z",
                "tags": rng.sample(["a", "b\nc", "d"], rng.randrange(3)),
                "remark": None,
            }
        )
    scores: dict[str, list[int]] = defaultdict(list)
    for answer in answers:
        scores[answer["person"]["country"]].append(sum(answer["scores"].values()))
    columns = ["at", "person.country", "person.name", "remark", "scores.food", "scores.room", "tags.0", "tags.1"]

    def cell(text: str) -> str:
        quoted = text.replace('"', '""')
        return f'"{quoted}"' if quoted != text or "," in text or "\n" in text else text

    table = [columns]
    for answer in answers:
        person, score, tags = answer["person"], answer["scores"], [*answer["tags"], "", ""]
        table.append(
            [
                str(answer["at"]),
                person["country"],
                person["name"],
                "",
                str(score["food"]),
                str(score["room"]),
                *tags[:2],
            ]
        )
    months = sorted({int(str(answer["at"])[5:7]) for answer in answers})
    return Case(
        files={"survey.json": json.dumps({"answers": answers})},
        stdout=lines(
            f"columns {' '.join(columns)}",
            *(
                f"{country} {len(sums)} "
                f"{Decimal(sum(sums) / len(sums)).quantize(Decimal('0.001'), ROUND_HALF_UP)} {max(sums)}"
                for country, sums in sorted(scores.items())
            ),
            f"months [{','.join(map(str, months))}]",
            "updated 100 true false",
            '{"big":"12345678901234567890","text":"é\u2028😀"}',
        ),
        artifacts={"answers.csv": lines(*(",".join(map(cell, row)) for row in table))},
    )


@program("node/shapes.js")
def shapes() -> Case:
    source = source_of("node/shapes.js").read_text().splitlines()
    thrown = source.index("throw new ShapeError('uncaught on purpose', 'none');") + 1
    return Case(
        stdout=lines(
            "<Square#2> 9 true true",
            "<Rectangle#1> 13.5 true true",
            "<Polygon#3> 27 false false",
            "count 3 true",
            "ShapeError abstract Shape true",
            "ShapeError not positive Rectangle true",
            "ShapeError no area Blob true",
            "proxy 3 2 3",
        ),
        stderr=re.compile(
            rf"\A/work/main\.js:{thrown}\nthrow new ShapeError.*\nShapeError: uncaught on purpose\n"
            rf"    at Object\.<anonymous> \(/work/main\.js:{thrown}:7\)\n.*shape: 'none'",
            re.DOTALL,
        ),
        exit_code=1,
    )


@program("node/generators.js")
def generators() -> Case:
    keys, key = [], 7
    for _ in range(200):
        keys.append(key)
        key = (key * 137 + 11) % 1009
    keys.sort()
    a, b = 0, 1
    for _ in range(149):
        a, b = b, a + b
    return Case(
        stdout=lines(
            " ".join(str(n**20) for n in (3, 10, 17, 24)),
            a,
            "dbca dcab dcba",
            f"200 true {' '.join(map(str, keys[:5]))}",
            "10 7 0 5",
            "closed with 5",
            '{"value":"end","done":true} true',
            '[{"value":1,"done":false},{"value":"short","done":true},{"done":true}]',
            f"pages 11 {sum(range(1050))}",
        )
    )


@program("node/stdin_words.js")
def stdin_words() -> Case:
    rng = random.Random(35)
    vocabulary = ["naïve", "cafe\u0301", "don't", "Ærø", "σίγμα", "日本語", "Straße", "plain", "Plane", "plum", "x1y"]
    text = [
        " ".join(rng.choice(vocabulary) + rng.choice([",", "!", "", " –"]) for _ in range(rng.randrange(12)))
        for _ in range(700)
    ]

    def words(line: str) -> list[str]:
        marked = "".join(
            c if c == "'" or unicodedata.category(c)[0] in "LM" else " " for c in unicodedata.normalize("NFC", line)
        )
        return [word.upper() for word in marked.split()]

    counts = Counter(word for line in text for word in words(line))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    initials = Counter(word[0] for word in counts)
    busiest = min(initials, key=lambda initial: (-initials[initial], initial))
    lengths = [len(line) for line in text]
    return Case(
        args=("--upper",),
        env={"TOP": "4"},
        stdin="\r\n".join(text) + "\r\n",
        stdout=lines(
            f"lines 700, characters {sum(lengths)}, words {counts.total()}",
            f"longest is line {lengths.index(max(lengths)) + 1}",
            *(f"{counts[word]:6} {word}" for word in ranked[:4]),
            f"initial {busiest} {initials[busiest]}",
            "." * 300_000,
        ),
        stderr="700 lines read\n",
        exit_code=700 % 256,
    )


@program("node/robots")
def robots() -> Case:
    place, heading, moves, bumps = 2 + 3j, 1j, 0, 0
    names = {1j: "N", 1: "E", -1j: "S", -1: "W"}
    trail = ["2,3 N"]
    for step in ("FFF", "R", "F" * 10, "LL", "FFFF", "R", "FF"):
        for verb in step:
            if verb != "F":
                heading *= 1j if verb == "L" else -1j
            elif 0 <= (place + heading).real < 8 and 0 <= (place + heading).imag < 8:
                place += heading
                moves += 1
            else:
                bumps += 1
        trail.append(f"{place.real:.0f},{place.imag:.0f} {names[heading]}")
    modules = "lib/commands/index.js lib/commands/turn.js lib/headings.js lib/world.js main.js settings.json"
    return Case(
        stdout=lines(*trail, f"size 8 moves {moves} bumps {bumps}", "same module true true", modules),
        stderr="unknown command J\n",
        exit_code=2,
    )


@program("node/children.js")
def children() -> Case:
    return Case(
        stdout=lines(
            "execFile 42 é",
            f"spawn {sum(len(f'LINE {n}') + 1 for n in range(2000))} LINE 1999 ended 5",
            f"fork {math.factorial(20)} true true",
            "quit 9 ",
            'killed [null,"SIGTERM"]',
            "missing ENOENT",
        )
    )


@program("node/modules.js")
def modules() -> Case:
    return Case(
        files={"lib.mjs": "export default 'default';\nexport const sum = (a, b) => a + b;\n"},
        stdout=lines(
            "1",
            "later true",
            "default 3",
            "2 [] [] true",
            "[ [], 2 ]",
            "ONE TWO\nfour2",
            "Wed Jul 03 2024 05:46:40 GMT-0400 (Eastern Daylight Time)",
            "05:46:40 EDT",
        ),
    )


@program("node/modules.js", "package")
def modules_of_a_package() -> Case:
    """The same as files, with a package.json that says what they are."""
    case = modules()
    return replace(case, files={**case.files, "package.json": '{"type": "module"}'}, path="main.js")
