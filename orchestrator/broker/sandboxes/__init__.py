"""Tool servers in sandboxes: images of kind ``tool-server``, run by crun without an engine."""

from orchestrator.broker.sandboxes.launching import SandboxLauncher

__all__ = ["SandboxLauncher"]
