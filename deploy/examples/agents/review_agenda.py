# ruff: noqa: T201 - a program that prints

"""Several tools in one program: who has changed what (git), where they live (memory), when that is (time).

mayfly run --timeout 60 deploy/examples/agents/review_agenda.py --tool 'git.*' --tool 'memory.*' --tool 'time.*'
"""

import asyncio
import re
from collections import Counter, defaultdict

from mayfly import ToolError, tools

REVIEW, UTC = "review of 2026-11-05", "15:00"


async def show(commits):
    """The texts of commits, eight at once."""
    return await asyncio.gather(*(tools.aio.git.git_show(repo_path="/data", revision=commit) for commit in commits))


log = tools.git.git_log(repo_path="/data", max_count=36)
changed = defaultdict(Counter)
for text in asyncio.run(show(re.findall(r"Commit: ([0-9a-f]{40})", log))):
    author = re.search(r"^Author: (.+) <", text, re.MULTILINE)[1]
    changed[author].update(re.findall(r"^\+\+\+ b/([^/]+)/", text, re.MULTILINE))

people = tools.memory.open_nodes(names=sorted(changed))["entities"]
zones = {
    person["name"]: seen.removeprefix("timezone: ")
    for person in people
    for seen in person["observations"]
    if seen.startswith("timezone: ")
}
print(f"{REVIEW}, {UTC} UTC")
for author in sorted(changed):
    try:
        there = tools.time.convert_time(source_timezone="Etc/UTC", time=UTC, target_timezone=zones.get(author, "?"))
        local = there["target"]["datetime"][11:16]
    except ToolError as error:
        local = f"unknown ({error.code})"
    areas = ", ".join(f"{area} {count}" for area, count in changed[author].most_common(3))
    print(f"  {author}, {local} there: {areas}")

review = {"name": REVIEW, "entityType": "meeting", "observations": [f"at {UTC} UTC"]}
if tools.memory.create_entities(entities=[review])["entities"]:
    invited = [{"from": author, "to": REVIEW, "relationType": "is invited to"} for author in sorted(changed)]
    tools.memory.create_relations(relations=invited)
print(f"{len(tools.memory.read_graph()['relations'])} invitations are remembered")
