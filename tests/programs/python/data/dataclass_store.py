"""A typed document store: dataclasses, enums and dates to JSON and back, with validation and a diff."""

from __future__ import annotations

import enum
import json
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from datetime import date, timedelta
from pathlib import Path


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, order=True)
class Step:
    title: str
    minutes: int = 5

    def __post_init__(self):
        if self.minutes <= 0:
            raise ValueError(f"{self.title}: minutes must be positive")


@dataclass
class Task:
    id: int
    due: date
    level: Level = Level.LOW
    steps: list[Step] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)

    @property
    def minutes(self):
        return sum(step.minutes for step in self.steps)


def encode(value):
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def decode(kind, data):
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = data.keys() - {f.name for f in fields(kind)}
        if unknown:
            raise ValueError(f"unknown: {sorted(unknown)}")
        return kind(**{name: decode(hints[name], value) for name, value in data.items()})
    if typing.get_origin(kind) is list:
        return [decode(typing.get_args(kind)[0], item) for item in data]
    if kind is date:
        return date.fromisoformat(data)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(data)
    return data


def main():
    start = date(2024, 2, 27)
    tasks = [
        Task(n, start + timedelta(days=n), Level.HIGH if n % 3 == 0 else Level.LOW,
             [Step(f"step {m}", m + n) for m in range(1, n % 4 + 1)], {"n": n})
        for n in range(1, 31)
    ]
    path = Path("/output/tasks.json")
    path.write_text(json.dumps([asdict(task) for task in tasks], default=encode))
    again = [decode(Task, item) for item in json.loads(path.read_text())]
    print("equal", again == tasks, "shared", again[0] is tasks[0])
    print("minutes", sum(task.minutes for task in again if task.level is Level.HIGH))
    print("days", [task.due.isoformat() for task in again[1:4]], max(again[10].steps))
    print(replace(again[4], level=Level.HIGH))
    for bad in ({"title": "x", "minutes": 0}, {"title": "x", "colour": "red"}):
        try:
            decode(Step, bad)
        except ValueError as error:
            print("refused", error)


main()
