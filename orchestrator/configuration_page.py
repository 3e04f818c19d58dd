"""The page ``docs/configuration.md``, generated from the settings."""

from __future__ import annotations

from pydantic import BaseModel

from orchestrator.settings import PREFIX, Settings


def reference() -> str:
    """Every setting as Markdown; ``python -m orchestrator.configuration_page`` prints it."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if name == "slots":
            shown = "number of cores"
        elif name == "environments_dirs":
            shown = "the environments that come with Mayfly"
        elif isinstance(default, BaseModel):
            shown = "`{}`"
        elif default is None:
            shown = f"under `{PREFIX}STATE_DIR`"
        else:
            shown = f"`{default}`" if default != "" else "empty"
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    head = [
        "# Configuration",
        "",
        "Every setting is an environment variable of the API, the workers and the command line alike. `mayfly doctor`",
        "prints each with its value and where that comes from. This page is made from `orchestrator/settings`.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - the purpose of this program
