"""``python -m orchestrator.cli`` is the ``mayfly`` command."""

from orchestrator.cli import app

if __name__ == "__main__":
    app(prog_name="mayfly")
