"""Ünïcödé überall: имена, 変数, αρχεία, אותיות, 😀."""

import os
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

π = 3.14159
größe = len("größe")


@dataclass
class Übersicht:
    名前: str
    Größe: int

    def zeile(self):
        return f"{self.名前} → {self.Größe}"


def прочитать(путь):
    return путь.read_text(encoding="utf-8").splitlines()


def main():
    print("code:", round(π * größe, 3), Übersicht("東京", 13_960_000).zeile())
    print("file:", Path(__file__).relative_to("/work"))
    print("args:", *sys.argv[1:], sep=" | ")
    print("env:", os.environ["GRUSS"], len(os.environ["EMOJI"]))
    print("stdin:", sys.stdin.read().strip()[::-1])
    for path in sorted(Path("inputs/données").iterdir()):
        for line in прочитать(path):
            name = unicodedata.name(line[0])
            print("input:", path.name, line.upper(), name, sep=" · ")
    out = Path("/output/résumé")
    out.mkdir()
    for name in ("план.txt", "数据 — 1.csv", "e\u0301.txt", "👩‍🚀.md"):
        (out / name).write_text(f"«{name}»\n", encoding="utf-8")
    print("sorted:", sorted(["Zebra", "äpfel", "Ölberg", "apfel"], key=lambda w: unicodedata.normalize("NFD", w)))
    print("bidi: שלום \u202bעולם\u202c", file=sys.stderr)
    raise SystemExit("Schlußwort: конец 終わり")


if __name__ == "__main__":
    main()
