"""Sorts a tree of files by kind into /output: pathlib, shutil, tempfile, glob, stat, logging to a file."""

import fnmatch
import logging
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

KINDS = {"images": ["*.png", "*.jp*g"], "texts": ["*.txt", "*.md"], "data": ["*.csv", "*.json", "data-*"]}
OUTPUT = Path("/output")
log = logging.getLogger("organiser")


def kind_of(name):
    for kind, patterns in KINDS.items():
        if any(fnmatch.fnmatch(name.lower(), pattern) for pattern in patterns):
            return kind
    return "other"


def free_name(target):
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{target.stem.rpartition('~')[0] or target.stem}~{number}{target.suffix}")
    return target


def organise(source):
    counts = Counter()
    for directory, subdirectories, names in os.walk(source):
        subdirectories.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if path.stat().st_size == 0:
                log.warning("empty: %s", path.relative_to(source))
                continue
            target = free_name(OUTPUT / kind_of(name) / name)
            target.parent.mkdir(exist_ok=True)
            shutil.move(path, target)
            counts[target.parent.name] += 1
            log.info("%s -> %s", path.relative_to(source), target.relative_to(OUTPUT))
    return counts


def main():
    logging.basicConfig(
        filename=OUTPUT / "organiser.log", level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    with tempfile.TemporaryDirectory(dir="/work") as scratch:
        tree = Path(scratch, "tree")
        shutil.copytree("/inputs/mess", tree)
        counts = organise(tree)
        left = sorted(path.name for path in tree.rglob("*") if path.is_file())
    print(dict(sorted(counts.items())), "left", left, "scratch", os.path.exists(scratch))
    biggest = max((path for path in OUTPUT.rglob("*.*") if path.suffix != ".log"), key=lambda p: (p.stat().st_size, p))
    print("biggest", biggest.relative_to(OUTPUT), biggest.stat().st_size)
    usage = shutil.disk_usage("/output")
    print("disk", usage.total, usage.used > 0)
    with tempfile.NamedTemporaryFile() as file:
        print("temporary in", os.path.dirname(file.name))


main()
