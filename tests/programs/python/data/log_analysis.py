"""Analyses an access log by regular expressions: status codes, slow paths, busiest hours, suspicious clients."""

import gzip
import re
from collections import Counter, defaultdict

LINE = re.compile(
    r"""
    (?P<client>\d{1,3}(?:\.\d{1,3}){3})\ -\ (?P<user>\S+)\ \[(?P<day>[^:\]]+):(?P<hour>\d\d):[^\]]+\]\ #
    "(?P<method>[A-Z]+)\ (?P<path>[^?"\s]*)(?:\?(?P<query>[^"\s]*))?\ HTTP/1\.[01]"\ #
    (?P<status>\d{3})\ (?P<size>\d+|-)\ (?P<millis>\d+)ms$
    """,
    re.VERBOSE,
)
IDENTIFIER = re.compile(r"/(?:\d+|[0-9a-f]{8})(?=/|$)")


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def main():
    status, hours, refused = Counter(), Counter(), Counter()
    times, queries = defaultdict(list), Counter()
    size = broken = 0
    with gzip.open("inputs/logs/access.log.gz", "rt", encoding="utf-8", errors="replace") as log:
        for line in log:
            match = LINE.match(line.rstrip("\n"))
            if not match:
                broken += 1
                continue
            status[match["status"][0] + "xx"] += 1
            hours[match["hour"]] += 1
            size += 0 if match["size"] == "-" else int(match["size"])
            times[match["method"], IDENTIFIER.sub("/{id}", match["path"])].append(int(match["millis"]))
            queries.update(re.findall(r"(?:^|&)(\w+)=", match["query"] or ""))
            if match["status"] in ("401", "403"):
                refused[match["client"]] += 1
    print(dict(sorted(status.items())), f"{size} bytes, {broken} broken")
    print("busiest", [hour for hour, _ in sorted(hours.items(), key=lambda item: (-item[1], item[0]))[:3]])
    for (method, path), millis in sorted(times.items(), key=lambda item: (-percentile(item[1], 95), item[0])):
        print(f"{method:5}{path:24}{len(millis):6}{percentile(millis, 50):6}{percentile(millis, 95):6}")
    print("queries", sorted(queries.items()))
    print("refused", sorted(client for client, count in refused.items() if count >= 40))


main()
