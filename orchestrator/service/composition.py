"""All use cases of an installation, composed over one store, for the REST API and for agents."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.audit.log import AuditLog
from orchestrator.environments import load_environments
from orchestrator.host.confinement import check_confinement
from orchestrator.host.token_keys import TokenKeys
from orchestrator.identity.api_keys import ApiKeys
from orchestrator.identity.issuers import Issuers
from orchestrator.identity.issuers.declared import DeclaredIssuers
from orchestrator.identity.rate_limits import RateLimiter
from orchestrator.identity.tenants import Records
from orchestrator.identity.users.passwords import Passwords
from orchestrator.identity.users.records import Users
from orchestrator.identity.users.sessions import Sessions
from orchestrator.janitor.janitor import Janitor
from orchestrator.janitor.sealing import Sealer
from orchestrator.queries.results import Results
from orchestrator.queries.tool_search import ToolSearch
from orchestrator.queries.wakeups import Wakeups
from orchestrator.service import Service
from orchestrator.service.administration.issuers import IssuerCases
from orchestrator.service.administration.keys import KeyCases
from orchestrator.service.administration.quotas import QuotaCases
from orchestrator.service.administration.service_accounts import ServiceAccounts
from orchestrator.service.administration.switches import SwitchCases
from orchestrator.service.administration.tenants import TenantCases
from orchestrator.service.administration.usage import UsageReports
from orchestrator.service.agent_calls import AgentCalls
from orchestrator.service.operation import Operation
from orchestrator.service.security_reports import SecurityReports
from orchestrator.service.tool_calls import ToolCalls
from orchestrator.service.tool_results import ToolResults
from orchestrator.service.tool_servers import ToolServers
from orchestrator.service.transfers import Transfers
from orchestrator.service.users import Logins, UserCases
from orchestrator.settings import Settings
from orchestrator.store import open_store
from orchestrator.store.security import LogBounds


@dataclass(frozen=True)
class UseCases:
    """The use cases of one process, and the janitor that goes with them."""

    service: Service
    results: Results
    operation: Operation
    agent_calls: AgentCalls
    reports: SecurityReports
    tool_results: ToolResults
    tool_servers: ToolServers
    tool_calls: ToolCalls
    transfers: Transfers
    api_keys: ApiKeys
    keys: KeyCases
    tenants: TenantCases
    service_accounts: ServiceAccounts
    issuers: Issuers
    issuer_cases: IssuerCases
    rate_limiter: RateLimiter
    wakeups: Wakeups
    janitor: Janitor
    tools: ToolSearch
    usage: UsageReports
    quotas: QuotaCases
    switches: SwitchCases
    audit: AuditLog
    sealer: Sealer
    users: UserCases
    logins: Logins


def open_use_cases(settings: Settings) -> UseCases:
    """Compose the use cases, without any connection yet."""
    store = open_store(settings)
    environments = load_environments(settings.environments_dirs)
    results = Results(store, environments)
    api_keys = ApiKeys(store, settings.admin_key(), settings.secret())
    bounds = LogBounds(settings.audit_entries, settings.audit_days * 86400)
    audit = AuditLog(store, settings.secret(), bounds)
    records, issuers = Records(store), DeclaredIssuers(store, settings.secret(), settings.all_issuers())
    tenants = TenantCases(records, audit.writer)
    keys = KeyCases(api_keys, tenants, audit.writer)
    service = Service(store, environments, settings, results, audit.writer)
    users, passwords = Users(store, settings.secret()), Passwords()
    sessions = Sessions(store, TokenKeys(settings.token_keys_path), settings.secret())
    valid_sessions = sessions if settings.local_login else None
    return UseCases(
        service=service,
        results=results,
        operation=Operation(
            store, audit.writer, settings.state_dir, check_confinement("api", settings.expect_confinement)
        ),
        agent_calls=AgentCalls(store, service),
        reports=SecurityReports(store.security, audit),
        tool_results=ToolResults(store, settings),
        tool_servers=ToolServers(store.tools, settings.secret(), audit.writer),
        tool_calls=ToolCalls(store, settings),
        transfers=Transfers(store, settings),
        api_keys=api_keys,
        keys=keys,
        tenants=tenants,
        service_accounts=ServiceAccounts(records, keys, audit.writer),
        issuers=Issuers(issuers, valid_sessions),
        issuer_cases=IssuerCases(issuers, audit.writer),
        rate_limiter=RateLimiter(store, settings.rate_limit),
        wakeups=Wakeups(settings.effective_redis_url),
        janitor=Janitor(store, settings),
        tools=ToolSearch(store, settings),
        usage=UsageReports(store),
        quotas=QuotaCases(store, tenants, keys, audit.writer),
        switches=SwitchCases(store.switches, environments, audit.writer),
        audit=audit,
        sealer=Sealer(audit),
        users=UserCases(users, sessions, passwords, tenants, audit.writer),
        logins=Logins(users, valid_sessions, passwords, audit.writer),
    )
