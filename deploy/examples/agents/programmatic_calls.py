# ruff: noqa: T201 - a program that prints

"""Programmatic tool calling: a model writes one program in place of nine calls, and reads three lines, not a table.

The client offers two tools and runs what the model writes in Mayfly. Whenever the program calls a tool, it waits in its
sandbox while this process answers. The model here is a stub that has learned its two turns; put a real one in its
place, which gets the same messages.

    .venv/bin/python deploy/examples/agents/programmatic_calls.py
"""

from __future__ import annotations

import json
from typing import Any

from mayfly import Client, Execution

Message = dict[str, Any]
INSTRUCTIONS = "Answer with a program for run_code. In it, tools.caller has: orders(month), customer(id)."
QUESTION = "Which three customers bought most in the first half of the year?"
PROGRAM = """
from mayfly import tools

bought = {}
for month in range(1, 7):
    for order in tools.caller.orders(month=month):
        bought[order["customer"]] = bought.get(order["customer"], 0) + order["amount"]
for id in sorted(bought, key=bought.get)[:-4:-1]:
    print(tools.caller.customer(id=id)["name"], bought[id])
"""


class StubModel:
    """A model that has learned its lines: a program first, then what the program printed, in words."""

    def answer(self, messages: list[Message]) -> Message:
        """The next message, in the form that most interfaces of models have."""
        last = messages[-1]
        if last["role"] == "user":
            return {"role": "assistant", "tool": "run_code", "arguments": {"code": PROGRAM}}
        first = last["content"].splitlines()[0].rpartition(" ")[0]
        return {"role": "assistant", "content": f"{first} bought most.\n{last['content']}"}


class Shop:
    """The data that the tools read. None of it is in the sandbox."""

    def __init__(self) -> None:
        self.calls = 0
        self.sent_characters = 0

    def orders(self, month: int) -> list[dict[str, int]]:
        """The orders of a month."""
        return self._counted(
            [{"customer": n % 17, "amount": (n * 7919 + month * 104729) % 1000, "order": n} for n in range(200)]
        )

    def customer(self, id: int) -> dict[str, Any]:
        """A customer by id."""
        return self._counted({"id": id, "name": f"Customer {id}", "address": "x" * 200})

    def _counted(self, value: Any) -> Any:
        self.calls += 1
        self.sent_characters += len(json.dumps(value))
        return value


def run_code(client: Client, code: str, shop: Shop) -> Execution:
    """Run the model's program; its calls of tools are answered here."""
    return client.run(code, tools=[shop.orders, shop.customer], limits={"wall_seconds": 10}, timeout_seconds=120)


def main() -> None:
    """One question, asked and answered."""
    model, shop = StubModel(), Shop()
    messages: list[Message] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": QUESTION}]
    with Client() as client:
        while True:
            messages.append(model.answer(messages))
            if "tool" not in messages[-1]:
                break
            ended = run_code(client, messages[-1]["arguments"]["code"], shop)
            output = ended.stdout if ended.has_succeeded else f"{ended.reason}: {ended.stderr}"
            messages.append({"role": "tool", "content": output or ""})
    print(messages[-1]["content"].rstrip())
    read = sum(len(message["content"]) for message in messages if message["role"] == "tool")
    print(f"{shop.calls} calls returned {shop.sent_characters} characters; the model read {read} of them.")


if __name__ == "__main__":
    main()
