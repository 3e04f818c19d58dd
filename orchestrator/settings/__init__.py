"""The one reader of environment variables. Every setting is ``MAYFLY_<NAME>``; ``mayfly doctor`` prints each one.

Each process has a module with its settings; a process reads them all, so that one environment can serve all processes.
``docs/configuration.md`` is generated from this package by :mod:`orchestrator.configuration_page`.
"""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from orchestrator.settings.api import ApiSettings
from orchestrator.settings.broker import BrokerSettings
from orchestrator.settings.secrets import create_secret_file
from orchestrator.settings.shared import PACKAGE_ROOT, PREFIX
from orchestrator.settings.worker import WorkerSettings

__all__ = ["PACKAGE_ROOT", "PREFIX", "Settings", "create_secret_file", "inherited_environment"]


class Settings(BrokerSettings, WorkerSettings, ApiSettings):
    """Every setting, with its default and meaning."""

    metrics_host: str = Field("127.0.0.1", description="Address of the listeners for metrics.")
    metrics_port: int = Field(9101, ge=0, le=65535, description="Port of the worker's metrics; 0 picks a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line logged.")

    def source(self, field: str) -> str:
        """The source of a field's value: ``environment`` or ``default``."""
        return "environment" if field in self.model_fields_set else "default"


def inherited_environment(**changes: str) -> dict[str, str]:
    """The environment of a child process: this process's, with some variables changed."""
    return {**os.environ, **changes}
