"""Own users, who sign in with a password of this installation: its first admin, and break-glass accounts."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from orchestrator.identity import Principal
from orchestrator.identity.authorization import scopes_of
from orchestrator.models import Name
from orchestrator.models.frozen import Frozen
from orchestrator.models.issuers import Role
from orchestrator.models.tenants.records import DEFAULT_TENANT

LONGEST_PASSWORD = 1024  # characters of a request's field; `passwords` has the bounds of passwords
MUST_CHANGE = "Whether the user must replace the password, which an administrator set, before the first log-in."
Password = Field(max_length=LONGEST_PASSWORD, description="15 to 256 bytes of UTF-8; common passwords are refused.")


class NewUser(Frozen):
    """The request for a new user."""

    name: Name
    tenant: Name = DEFAULT_TENANT
    roles: tuple[Role, ...] = Field(min_length=1, max_length=4)
    password: str = Password
    must_change_password: bool = Field(False, description=MUST_CHANGE)


class UserChange(Frozen):
    """Changes of a user; omitted fields do not change. A new password, and disabling the user, end all sessions."""

    roles: tuple[Role, ...] | None = Field(None, min_length=1, max_length=4)
    disabled: bool | None = None
    password: str | None = Field(None, max_length=LONGEST_PASSWORD, description="A new password, as for a new user.")
    must_change_password: bool | None = Field(None, description=MUST_CHANGE)


class User(Frozen):
    """An own user."""

    id: str
    name: Name
    tenant: Name
    roles: tuple[Role, ...]
    disabled: bool = False
    must_change_password: bool = Field(False, description=MUST_CHANGE)
    created_at: datetime
    created_by: str | None = Field(None, description="The principal that made the user.")


class Session(Frozen):
    """A session that has not ended. The id is not a credential."""

    id: str
    created_at: datetime
    refreshed_at: datetime
    ends_at: datetime = Field(description="The end of the session without another refresh.")
    address: str = Field(description="The address that the user logged in from.")


class UserRecord(User):
    """A user as stored. Sessions of another ``generation`` have ended."""

    generation: int = 0

    def shown(self) -> User:
        """The user without internal fields."""
        return User(**self.model_dump(exclude={"generation"}))

    def principal(self) -> Principal:
        """The user as the caller of a request."""
        roles = frozenset[str](self.roles)
        return Principal(id=f"user:{self.id}", tenant=self.tenant, roles=roles, scopes=scopes_of(roles))
