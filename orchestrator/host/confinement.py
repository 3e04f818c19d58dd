"""Checks the hardening that a service's own process should have got from its container.

An engine, an orchestrator or an edited file can drop an option without a word (``docker stack deploy`` ignores
``no-new-privileges``), so each service looks at itself.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

CAPABILITIES = ("CapBnd", "CapEff", "CapPrm")
log = structlog.get_logger()


def lacking(status: str, root_flags: int) -> tuple[str, ...]:
    """The missing parts by the text of ``/proc/self/status`` and the flags of ``/`` (``statvfs``)."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    kept = [f"{name} {fields[name].lstrip('0')}" for name in CAPABILITIES if int(fields[name], 16)]
    parts = {
        "no-new-privileges": fields.get("NoNewPrivs") == "1",
        f"an empty set of capabilities ({', '.join(kept)})": not kept,
        "a user other than root": "0" not in fields["Uid"].split(),
        "a read-only root file system": bool(root_flags & os.ST_RDONLY),
    }
    return tuple(part for part, is_there in parts.items() if not is_there)


def check_confinement(service: str, expected: bool) -> tuple[str, ...]:
    """Log and return the missing parts of this process; none where no hardening is expected."""
    if not expected:
        return ()
    missing = lacking(Path("/proc/self/status").read_text(encoding="ascii"), os.statvfs("/").f_flag)
    if missing:
        log.error("confinement.lacking", service=service, lacking=missing)
    else:
        log.info("confinement.complete", service=service)
    return missing
