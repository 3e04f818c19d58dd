# ruff: noqa: T201 - a program that prints

"""Makes data for the workflows of this folder, and declares the tool servers that read it.

    .venv/bin/python deploy/examples/agents/sample_data.py [STATE DIRECTORY [URL OF A PROMETHEUS]]

Below the state directory (.mayfly if it is left out), ``workflows`` gets logs, a git repository, a graph of people, a
workbook and samples for a Prometheus, and ``tool-servers`` six declarations. Everything is the same each time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

DAY = datetime(2026, 11, 2, tzinfo=UTC)
SERVICES = [f"{kind}-{number}" for kind in ("api", "cart", "mail", "search") for number in range(1, 7)]
SLOW = {"cart-4": 21, "search-2": 9, "api-5": 14}  # and the hour in which it is
PEOPLE = {"Ada": "Europe/London", "Grace": "America/New_York", "Yukihiro": "Asia/Tokyo"}
FOLDERS = ("billing", "docs", "search", "web")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct")


def seconds_of(service: str, minute: int) -> float:
    """How long requests of a service take in that minute of the day."""
    usual = 0.02 + (hash_of(service) + minute * 7919) % 97 / 1000
    return usual + 2.5 if SLOW.get(service) == minute // 60 else usual


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return sum(ord(character) * (place + 1) for place, character in enumerate(text))


def write_logs(directory: Path) -> None:
    """A log of each service: a line a minute."""
    directory.mkdir(parents=True)
    for service in SERVICES:
        lines = []
        for minute in range(24 * 60):
            seconds = seconds_of(service, minute)
            level = "ERROR pool exhausted, 40 waiting" if seconds > 1 and minute % 10 == 0 else "INFO served"
            lines.append(f"{(DAY + timedelta(minutes=minute)).isoformat()} {service} {level} in {seconds:.3f} s\n")
        (directory / f"{service}.log").write_text("".join(lines))


def write_samples(path: Path) -> None:
    """The same figures in the format that ``promtool tsdb create-blocks-from openmetrics`` reads."""
    lines = ["# TYPE request_seconds gauge\n"]
    for service in SERVICES:
        for minute in range(24 * 60):
            at = int((DAY + timedelta(minutes=minute)).timestamp())
            lines.append(f'request_seconds{{service="{service}"}} {seconds_of(service, minute):.3f} {at}\n')
    path.write_text("".join([*lines, "# EOF\n"]))


def write_repository(directory: Path) -> None:
    """A git repository with 60 commits of three people."""
    directory.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(directory)], check=True)
    for number in range(60):
        name = list(PEOPLE)[(number * 5 + number // 7) % 3]
        at = (DAY + timedelta(hours=number)).isoformat()
        folder = FOLDERS[(number * 7 + hash_of(name)) % len(FOLDERS)]
        (directory / folder).mkdir(exist_ok=True)
        (directory / folder / f"part{number % 5}.txt").write_text(f"change {number}\n" * 40)
        git = ("env", f"GIT_COMMITTER_DATE={at}", "git", "-C", str(directory))
        subprocess.run([*git, "add", "."], check=True)
        who = ("-c", f"user.name={name}", "-c", f"user.email={name.lower()}@example.org")
        subprocess.run([*git, *who, "commit", "--quiet", "--date", at, "-m", f"{folder}: change {number}"], check=True)


def write_people(directory: Path) -> None:
    """A graph for the memory server. The server runs as a user of its own, which must be able to write it."""
    directory.mkdir(parents=True)
    lines = [
        {"type": "entity", "name": name, "entityType": "person", "observations": [f"timezone: {zone}"]}
        for name, zone in PEOPLE.items()
    ]
    graph = directory / "memory.jsonl"
    graph.write_text("\n".join(map(json.dumps, lines)))
    directory.chmod(0o777)
    graph.chmod(0o666)


def table() -> Iterator[list[str | float]]:
    """Sales by region and month."""
    yield ["month", "region", "sold", "returned"]
    for place, month in enumerate(MONTHS):
        for number, region in enumerate(("North", "South", "West")):
            sold = 900 + 110 * place * (number + 1) - 37 * (place * number % 4)
            yield [month, region, sold, round(sold * (0.02 + 0.01 * number))]


def write_workbook(path: Path) -> None:
    """A workbook of one sheet, as small as the format allows."""
    path.parent.mkdir(parents=True)
    rows = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in table())
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    relation = (
        '<Relationships xmlns="{}/relationships"><Relationship Id="r1" Type="{}/{}" Target="{}"/></Relationships>'
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/sheet1.xml" ContentType="{kind}.worksheet+xml"/></Types>',
        "_rels/.rels": relation.format(package, office, "officeDocument", "xl/workbook.xml"),
        "xl/_rels/workbook.xml.rels": relation.format(package, office, "worksheet", "sheet1.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}">'
        '<sheets><sheet name="Sales" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name), text)


def cell(value: str | float) -> str:
    """The cell of a row."""
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
    return f"<c><v>{value}</v></c>"


def declarations(data: Path, prometheus: str) -> dict[str, str]:
    """The content of the declarations by their servers' names. What a server may see of this host stands here."""
    sandbox = 'environment = "{}"\nconnect_seconds = 60\n'
    return {
        "excel": sandbox.format("excel") + f'[files]\n"{data}/sales" = "/data"\n',
        "filesystem": sandbox.format("filesystem") + f'[files]\n"{data}/logs" = "/data"\n',
        "git": sandbox.format("git") + f'[files]\n"{data}/repository" = "/data"\n',
        "memory": sandbox.format("memory") + f'[files]\n"{data}/people" = "/data:rw"\n',
        "prometheus": sandbox.format("prometheus") + f'network = "host"\n[env]\nPROMETHEUS_URL = "{prometheus}"\n',
        "time": sandbox.format("time"),
    }


def main() -> None:
    """Write the data if it is not there yet, and the declarations."""
    state, prometheus = (*sys.argv[1:], *(".mayfly", "http://127.0.0.1:9090")[len(sys.argv) - 1 :])
    data, place = Path(state).absolute() / "workflows", Path(state) / "tool-servers"
    if not (data / "sales").exists():
        write_logs(data / "logs")
        write_samples(data / "samples.txt")
        write_repository(data / "repository")
        write_people(data / "people")
        write_workbook(data / "sales" / "sales.xlsx")
    place.mkdir(parents=True, exist_ok=True)
    for name, text in declarations(data, prometheus).items():
        (place / f"{name}.toml").write_text(text)
    print(f"data in {data}, declarations in {place.absolute()}")


if __name__ == "__main__":
    main()
