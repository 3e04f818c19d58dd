"""The use cases of feature switches: operators list them, and turn a feature off and on."""

from __future__ import annotations

from datetime import UTC, datetime

from anyio import to_thread

from orchestrator.audit import Writer
from orchestrator.environments import Environments
from orchestrator.errors import NotFound
from orchestrator.identity import Principal
from orchestrator.models import ISOLATIONS
from orchestrator.models.fleet import ENVIRONMENT, ISOLATION, PLAIN, Switch, SwitchChange
from orchestrator.store.platform.switches import Switches


class SwitchCases:
    """Reads and changes the switches of an installation. Thread-safe."""

    def __init__(self, switches: Switches, environments: Environments, audit: Writer) -> None:
        self._switches, self._audit = switches, audit
        tiers, names = sorted(ISOLATIONS), sorted(declared.name for declared in environments.values())
        self._features = (
            *PLAIN,
            *(f"{ISOLATION}{tier}" for tier in tiers),
            *(f"{ENVIRONMENT}{name}" for name in names),
        )

    def all(self) -> list[Switch]:
        """Every switch of this installation."""
        off = self._switches.off()
        return [off.get(feature) or Switch(feature=feature) for feature in self._features]

    async def check(self, feature: str) -> None:
        """Raise :class:`FeatureOff` if the feature was off a second ago, and :class:`StoreUnavailable`."""
        if self._switches.is_stale:
            await to_thread.run_sync(self._switches.off)
        self._switches.check(feature)

    def put(self, principal: Principal, feature: str, change: SwitchChange) -> Switch:
        """Switch a feature on or off; workers follow with their next heartbeat. Raises :class:`NotFound`."""
        if feature not in self._features:
            raise NotFound(f"There is no feature {feature[:80]!r}; there are: {', '.join(self._features)}.")
        off = {} if change.enabled else {"changed_at": datetime.now(UTC), "changed_by": principal.id}
        reason = None if change.enabled else change.reason
        switch = Switch(feature=feature, enabled=change.enabled, reason=reason, **off)
        action = "switch.on" if change.enabled else "switch.off"
        self._switches.put(switch, self._audit.entry(principal, action, f"feature/{feature}"))
        return switch
