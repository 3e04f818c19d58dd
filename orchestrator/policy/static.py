"""The static policy of a submission: its mode, the files it reads, and the effect of its findings.

It reads the programs of Python environments: the entry point, and every input that an import could load. The policy is
advice, not a security boundary: ``docs/policy.md`` has programs that evade it, and the sandbox does not depend on it.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import NamedTuple

from orchestrator.environments import Environment, Environments
from orchestrator.errors import BlobsUnavailable, PolicyUnavailable, PolicyViolation
from orchestrator.models import Finding, PolicyMode, PolicyReport, Specification, StoredFile
from orchestrator.models.results import Content
from orchestrator.policy.inspector import MAX_SOURCE_BYTES, Inspector
from orchestrator.policy.rules import MESSAGES, OWN
from orchestrator.policy.syntax import MAX_FINDINGS, Inspection, uninspected
from orchestrator.settings import Settings

EVERY = "*"
SUFFIX = ".py"
# Byte code and native modules are not text, so they end up as not inspected.
LOADED_SUFFIXES = (SUFFIX, ".pyc", ".so")
# A syntax error does not refuse a program: it cannot run, and its author learns best from the interpreter.
HARMLESS = frozenset({"syntax_error"})
RANKS = {"not_inspected": 0, "syntax_error": 2}
READ_AS = f"{sys.version_info.major}.{sys.version_info.minor}"


class Source(NamedTuple):
    """One file to inspect, and the field of the submission it came in."""

    file: StoredFile
    field: str


class StaticPolicy:
    """Decides about submissions. Thread-safe. Raises ``ValueError`` if the settings name an unknown environment or
    rule.
    """

    def __init__(self, settings: Settings, environments: Environments) -> None:
        self._default: PolicyMode = settings.policy_mode
        self._environments = environments
        self._modes = named_modes(settings.policy_modes, environments)
        if unknown := set(settings.policy_ignored_rules) - (MESSAGES.keys() - OWN):
            raise ValueError(f"MAYFLY_POLICY_IGNORED_RULES: there is no such rule: {', '.join(sorted(unknown))}")
        self._inspector = Inspector(settings.policy_ignored_rules)

    def start(self) -> None:
        """Start a helper ahead of the first submission, unless every mode is ``off``."""
        if {self._default, *self._modes.values()} != {"off"}:
            self._inspector.start()

    def stop(self) -> None:
        """End the helper processes."""
        self._inspector.stop()

    def mode(self, tenant: str, environment: Environment) -> PolicyMode:
        """The mode for a tenant's programs in an environment; ``off`` for environments other than Python."""
        if not environment.file_name.endswith(SUFFIX):
            return "off"
        for key in (f"{tenant}/{environment.name}", tenant, f"{EVERY}/{environment.name}"):
            if key in self._modes:
                return self._modes[key]
        return self._default

    def check(
        self, specification: Specification, has_code: bool, open_blob: Callable[[str], Content | None]
    ) -> PolicyReport | None:
        """The findings in a submission, ``None`` in mode ``off``.

        ``has_code``: its first file is the field ``code``. ``open_blob`` opens a blob. In mode ``enforce``
        raises :class:`PolicyViolation` and :class:`PolicyUnavailable`.
        """
        environment = self._environments[specification.environment]
        mode = self.mode(specification.tenant, environment)
        if mode == "off":
            return None
        sources = list(_sources(specification, has_code))
        try:
            contents = (_content(source.file, open_blob) for source in sources)
            inspections = self._inspector.inspect(specification.tenant, contents)
        except PolicyUnavailable as error:
            if mode == "enforce":
                raise
            inspections = [uninspected(error.message.rstrip(".")) for _ in sources]
        if environment.version.split(".")[:2] != READ_AS.split("."):
            inspections = [_of_another_version(inspection, environment.version) for inspection in inspections]
        report, errors = _report(mode, sources, inspections)
        rules = {found.rule for inspection in inspections for found in inspection.findings}
        if mode == "enforce" and rules - HARMLESS:
            raise PolicyViolation(report, errors)
        return report


def named_modes(declared: Mapping[str, PolicyMode], environments: Environments) -> dict[str, PolicyMode]:
    """``MAYFLY_POLICY_MODES`` by tenants and the environments' own names.

    Raises ``ValueError`` for a key that could never apply.
    """
    modes = {}
    for key, mode in declared.items():
        tenant, slash, name = key.partition("/")
        environment = environments.resolve(name)
        if not tenant or (tenant == EVERY and not slash) or (slash and environment is None):
            raise ValueError(f"MAYFLY_POLICY_MODES: {key!r} is no tenant, tenant/environment or */environment")
        if environment is not None and mode != "off" and not environment.file_name.endswith(SUFFIX):
            raise ValueError(f"MAYFLY_POLICY_MODES: {key!r}: only Python programs can be inspected")
        modes[tenant if environment is None else f"{tenant}/{environment.name}"] = mode
    return modes


def _sources(specification: Specification, has_code: bool) -> Iterable[Source]:
    for position, file in enumerate(specification.files):
        if file.path == specification.entrypoint or file.path.endswith(LOADED_SUFFIXES):
            number = position - has_code
            yield Source(file, "code" if number < 0 else f"files.{number}.{'blob' if file.blob else 'content'}")


def _content(file: StoredFile, open_blob: Callable[[str], Content | None]) -> bytes:
    """A file's bytes, up to one more than the inspected size."""
    if file.content is None:
        try:
            if (blob := open_blob(file.blob or "")) is None:
                raise FileNotFoundError
            with closing(blob):
                return b"".join(blob.chunks(0, min(blob.size, MAX_SOURCE_BYTES + 1)))
        except OSError as error:
            raise BlobsUnavailable("An input's blob cannot be read; nothing was accepted.") from error
    if file.encoding == "base64":
        return base64.b64decode(file.content[: MAX_SOURCE_BYTES * 2])
    return file.content[: MAX_SOURCE_BYTES + 1].encode("utf-8", "surrogatepass")


def _of_another_version(inspection: Inspection, version: str) -> Inspection:
    """Findings for a source of another Python version, which may run although this Python cannot parse it."""
    if any(found.rule == "syntax_error" for found in inspection.findings):
        return uninspected(f"Python {READ_AS} cannot read it, and it is for Python {version}")
    return inspection


def _report(
    mode: PolicyMode, sources: list[Source], inspections: list[Inspection]
) -> tuple[PolicyReport, list[tuple[str, str]]]:
    """The report, and its findings as (field, message) pairs."""
    listed: list[tuple[str, Finding]] = []
    for source, inspection in zip(sources, inspections, strict=True):
        path = source.file.path
        listed += [(source.field, Finding(file=path, **found._asdict())) for found in inspection.findings]
    # Severe findings come first, so that many harmless findings cannot hide them.
    listed.sort(key=lambda pair: RANKS.get(pair[1].rule, 1))
    kept = listed[:MAX_FINDINGS]
    omitted = len(listed) - len(kept) + sum(inspection.omitted for inspection in inspections)
    report = PolicyReport(mode=mode, findings=tuple(finding for _, finding in kept), omitted=omitted)
    return report, [(field, _message(finding)) for field, finding in kept]


def _message(finding: Finding) -> str:
    place = "" if finding.line is None else f"line {finding.line}, column {finding.column}: "
    return f"{place}{finding.message} [{finding.rule}]"
