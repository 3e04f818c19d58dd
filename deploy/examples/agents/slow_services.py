# ruff: noqa: T201 - a program that prints

"""Fetch much, return little: 24 series of a day and three logs, some 35,000 samples; ten lines are printed.

mayfly run --timeout 60 deploy/examples/agents/slow_services.py --tool 'prometheus.*' --tool filesystem.read_text_file
"""

import asyncio

from mayfly import ToolError, tools

DAY = {"start": "2026-11-02T00:00:00Z", "end": "2026-11-02T23:59:00Z", "step": "60s"}


async def slowest_minute(service):
    """The worst of a service's minutes: seconds, time of the sample, service."""
    found = await tools.aio.prometheus.execute_range_query(query=f'request_seconds{{service="{service}"}}', **DAY)
    samples = [(float(value), at) for series in found["result"] for at, value in series["values"]]
    return *max(samples), service, len(samples)


async def all_services(names):
    """The slowest minute of each service; eight queries run at once."""
    return await asyncio.gather(*map(slowest_minute, names))


listed = tools.prometheus.execute_query(query="count by (service) (request_seconds)", time=DAY["end"])
services = sorted(series["metric"]["service"] for series in listed["result"])
worst = sorted(asyncio.run(all_services(services)), reverse=True)

print(f"{len(services)} services, {sum(count for *_, count in worst)} samples; the three slowest:")
for seconds, _, service, _ in worst[:3]:
    try:
        log = tools.filesystem.read_text_file(path=f"/data/{service}.log")["content"]
    except ToolError as error:
        print(f"{service}: {seconds:.1f} s; its log cannot be read: {error.code}")
        continue
    errors = [line for line in log.splitlines() if " ERROR " in line]
    print(f"{service}: {seconds:.1f} s; {len(errors)} errors, the first and the last:")
    print(f"  {errors[0]}\n  {errors[-1]}")
