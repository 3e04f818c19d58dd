"""The slow, thorough tests that `make test` leaves to `make test-all`.

A module that is listed with names loses those tests only; a name is a test's function, or that with the parameters'
id. Parametrizations over drivers and runtimes (``EACH_WAY``) keep the first one. Which tests that concerns is marked
``thorough`` when they are collected; a test by name runs in any case: ``.venv/bin/python -m pytest PATH -k NAME``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

import pytest
from _pytest.mark.structures import ParameterSet

from tests.harness import WAYS


class Listed(NamedTuple):
    """A collected test: its module (a path below ``tests/``), its name with parameters, whether `make test` runs it."""

    module: str
    name: str
    is_usual: bool


ALL_TESTS = pytest.StashKey[list[Listed]]()  # of a run that collects all, whichever of them it chooses; in order
EACH_WAY = [pytest.param(way, marks=() if way == WAYS[0] else pytest.mark.thorough, id=way) for way in WAYS]


def ways(*names: str) -> list[ParameterSet]:
    """Those ways of ``EACH_WAY``, for a test that needs no others."""
    return [way for way in EACH_WAY if way.id in names]


WHOLE = (
    "chaos/faults/test_clock.py",
    "chaos/faults/test_containers.py",
    "chaos/faults/test_disks.py",
    "chaos/faults/test_engine.py",
    "chaos/faults/test_failover.py",
    "chaos/faults/test_faults.py",
    "chaos/faults/test_hosts.py",
    "chaos/test_mixture.py",
    "chaos/faults/test_unrepeatable.py",
    "chaos/test_soak.py",
    "e2e/agents/test_adapters.py",
    "e2e/agents/test_clients.py",
    "e2e/agents/test_conformance.py",
    "e2e/agents/test_fuzzers.py",
    "e2e/agents/test_planted_secrets.py",
    "e2e/agents/test_workflows.py",
    "e2e/faults/test_anomaly.py",
    "e2e/faults/test_engine_proxy.py",
    "e2e/faults/test_full_redis.py",
    "e2e/faults/test_malformed.py",
    "e2e/faults/test_quotas.py",
    "e2e/faults/test_redis_writer.py",
    "e2e/faults/test_restarts.py",
    "e2e/faults/test_full_or_broken_hosts.py",
    "e2e/faults/test_two_apis.py",
    "e2e/load/test_bench.py",
    "e2e/load/test_cli_bench.py",
    "e2e/load/test_fairness.py",
    "e2e/operation/test_compose.py",
    "e2e/operation/test_disaster.py",
    "e2e/operation/test_rq_tools.py",
    "e2e/operation/test_switches.py",
    "e2e/operation/test_unprivileged.py",
    "e2e/operation/test_up_tools.py",
    "e2e/upgrades/test_migrating.py",
    "e2e/upgrades/test_roll.py",
    "e2e/programs/test_shown.py",
    "e2e/programs/test_variables.py",
    "e2e/tools/test_fault_tree.py",
    "e2e/sandbox/test_posture.py",
    "integration/orchestrator/api/routes/test_many_tenants.py",
    "integration/orchestrator/backup/test_buckets.py",
    "integration/orchestrator/broker/sandboxes/test_servers.py",
    "integration/orchestrator/identity/test_canaille.py",
    "integration/orchestrator/identity/test_issuers.py",
    "integration/sandbox_image/test_locked_packages.py",
    "integration/worker/drivers/test_oci.py",
)
PARTS: dict[str, tuple[str, ...]] = {
    "hostile/controls/test_outside.py": (
        "test_weakened_field_is_observed[RestartPolicy]",
        "test_weakened_field_is_observed[StdinOnce]",
    ),
    "integration/orchestrator/policy/test_policy.py": (
        "test_hostile_sources_neither_delay_others_nor_cost_api_memory",
        "test_one_tenants_slow_batches_leave_threads_for_the_others",
    ),
    "integration/orchestrator/identity/users/test_session_bounds.py": (
        "test_log_in_beyond_the_most_sessions_ends_the_oldest",
    ),
    "integration/orchestrator/broker/test_declarations.py": (
        "test_command_is_refused_without_the_setting_for_development",
        "test_unreachable_server_is_down_until_reachable",
    ),
    "integration/orchestrator/cli/commands/test_login_at_issuer.py": (
        "test_refused_device_code",
        "test_user_logs_in_by_device_code[options1]",
        "test_issuer_that_ended_the_grant_ends_the_log_in",
    ),
    "integration/orchestrator/api/door/test_headers.py": ("test_missing_headers_time_out",),
    "e2e/programs/test_python_fidelity.py": ("test_a_warm_interpreter_is_like_a_new_one[python-data]",),
    "integration/orchestrator/broker/http/test_broker_fetches.py": (
        "test_hosts_that_do_not_answer_do_not_close_the_server_for_others",
    ),
    "integration/orchestrator/audit/test_rest.py": ("test_submissions_are_entries_by_setting",),
    "e2e/agents/test_caller_tools.py": ("test_client_that_never_answers_is_timed_out",),
    "integration/orchestrator/broker/test_broker.py": ("test_misbehaving_server_costs_only_its_call[over_pipe]",),
    "integration/orchestrator/backup/test_commands.py": ("test_damage_and_wrong_options_exit_with_one_line",),
    "integration/orchestrator/api/test_rest_conventions.py": (
        "test_the_rate_limit_is_per_principal_and_shared_by_all_api_processes",
    ),
    "e2e/agents/test_read_output.py": ("test_pieces_put_together_equal_the_whole[1500]",),
    "e2e/programs/test_programs.py": (
        "test_program_runs_as_expected[python-data/plots.py-hardened]",
        "test_program_runs_as_expected[python-data/plots.py]",
    ),
    "e2e/programs/test_stdin.py": ("test_retry_gets_the_whole_input_again",),
    "integration/orchestrator/backup/test_kills.py": (
        "test_killed_backup_is_never_listed[each]",
        "test_killed_restore_is_marked_and_can_be_repeated[each]",
    ),
    "integration/orchestrator/cli/test_refusals.py": ("test_api_without_redis_is_a_platform_fault",),
    "integration/orchestrator/api/door/test_batches.py": (
        "test_a_batch_of_a_hundred_at_a_maximum[contents]",
        "test_tools_of_a_batch_are_checked_within_the_steps_of_one_check",
    ),
    "integration/orchestrator/broker/sandboxes/test_images.py": (
        "test_image_of_node_modules_has_its_server_and_no_agent",
    ),
    "integration/orchestrator/broker/test_mailbox.py": (
        "test_broker_whose_heartbeats_fail_abandons_its_calls_and_recovers",
        "test_broker_with_unusable_declarations_keeps_its_lease",
    ),
    "integration/orchestrator/api/test_followers.py": (
        "test_stream_of_a_revoked_key_ends",
        "test_stream_and_long_poll_of_a_demoted_user_end",
        "test_long_poll_of_a_revoked_key_ends",
    ),
    "integration/orchestrator/api/test_rest_wire.py": (
        "test_missing_body_does_not_delay_refusal",
        "test_idle_connection_is_closed_after_the_announced_time",
    ),
    "integration/orchestrator/mcp/test_attacks.py": (
        "test_open_tasks_of_a_tenant_are_bounded",
        "test_unread_streams_of_a_tenant_are_bounded[2025-11-25]",
        "test_calls_that_wait_for_a_place_keep_no_output[get_execution]",
        "test_sessions_and_cancellations_keep_nothing",
    ),
    "integration/orchestrator/store/test_security_log.py": ("test_the_logs_are_bounded_in_bytes",),
    "e2e/tools/test_waiting.py": (
        "test_a_program_with_tools_is_stopped_at_its_wall_time[tools.test.wait(seconds=200)-6.0]",
        "test_no_call_is_made_twice_whenever_the_worker_dies",
        "test_execution_of_a_killed_worker_repeats_only_idempotent_calls",
        "test_a_running_program_makes_its_calls_whenever_the_api_dies",
        "test_a_program_keeps_its_results_beside_a_server_that_fails_in_every_way",
    ),
    "integration/sandbox_image/test_images.py": ("test_image_build_is_reproducible",),
    "integration/worker/host/test_lock_channel.py": (
        "test_locks_that_the_worker_has_carry_no_secret[/proc/self/ns/time-range]",
    ),
    "integration/worker/drivers/test_killing.py": (
        "test_a_kill_of_the_first_process_alone_takes_long",
        "test_engine_time_out_on_a_starved_process_is_no_outage[docker-runc]",
    ),
    "integration/orchestrator/store/test_races.py": ("test_deletion_races_leave_no_partial_record",),
    "chaos/test_invariants.py": (
        "test_worker_stopped_for_longer_than_its_lease",
        "test_worker_that_does_not_end_fails_with_its_stacks",
    ),
    "chaos/faults/test_tool_calls.py": (
        "test_api_killed_at_any_step_of_a_direct_call_repeats_none",
        "test_tool_server_killed_at_any_step_gets_no_call_twice[each-sandbox]",
        "test_tool_that_may_be_called_twice_is_where_its_broker_dies",
    ),
    "chaos/test_model.py": (
        "test_every_order_of_steps_keeps_every_promise",
        "test_model_finds_broken_promise_without_the_fence",
    ),
    "integration/orchestrator/identity/users/test_logins.py": (
        "test_unknown_and_known_users_take_the_same_time",
        "test_no_more_than_two_hashes_at_a_time_and_others_wait_or_are_refused",
    ),
    "integration/orchestrator/broker/test_kills.py": (
        "test_second_broker_takes_over",
        "test_stopped_broker_that_returns_after_its_lease_settles_nothing",
        "test_calls_survive_a_restart_of_redis",
    ),
    "integration/orchestrator/broker/test_hostile_servers.py": (
        "test_five_hundred_files_of_one_tenant_leave_the_broker_at_work",
    ),
    "e2e/faults/test_caller_calls.py": ("test_api_killed_at_every_step_of_a_call_loses_none_and_repeats_none",),
    "e2e/faults/test_recovery.py": (
        "test_worker_resumes_after_engine_outage",
        "test_flood_of_executions_runs_in_order",
        "test_a_second_sigterm_hands_back_at_once",
        "test_a_restart_ends_a_drain",
        "test_a_drain_is_bounded",
        "test_worker_cut_off_from_redis_ends_its_executions",
        "test_worker_stopped_for_longer_than_its_lease",
        "test_redis_away_while_a_program_runs",
    ),
    "e2e/load/test_pool.py": (
        "test_pool_replaces_container_that_died_while_waiting",
        "test_container_made_ahead_yields_cpu_to_programs",
        "test_pool_replaces_container_past_its_age",
        "test_containers_of_another_image_are_replaced",
        "test_idle_containers_stay_within_the_memory_budget",
        "test_limits_of_waiting_container_are_changed_where_possible",
        "test_hardened_tier_is_kept_warm_after_its_first_use",
        "test_tenant_above_its_share_leaves_last_container_to_others",
    ),
    "e2e/deployment/test_compose_versions.py": ("test_second_version_starts_runs_and_ends_everything",),
    "e2e/operation/test_documents.py": (
        "test_the_commands_of_a_document_work[quickstart.md]",
        "test_the_commands_of_a_document_work[adding-an-environment.md]",
        "test_commands_for_administrators_work",
        "test_commands_of_operations_work",
    ),
    "e2e/operation/test_up.py": (
        "test_supervisor_restarts_each_process[api]",
        "test_supervisor_restarts_each_process[redis]",
        "test_up_restarts_only_dead_processes",
        "test_up_does_not_wait_for_a_long_queue",
        "test_engine_started_by_mayfly_leaves_nothing",
        "test_down_leaves_no_process_and_up_restores_all_data",
        "test_up_without_engine_uses_and_names_a_runtime",
        "test_command_that_needs_an_engine_is_refused_without_engine",
        "test_command_without_engine_gets_a_temporary_one_with_every_runtime",
    ),
    "e2e/upgrades/test_releases.py": ("test_processes_of_the_last_release_work_with_those_of_this_version",),
    "e2e/operation/test_sdk.py": ("test_wheel_has_the_sdk_without_dependencies",),
    "e2e/programs/test_conformance.py": (
        "test_only_known_conformance_tests_fail[python-hardened-hardened]",
        "test_only_known_conformance_tests_fail[python-files-standard]",
        "test_only_known_conformance_tests_fail[python-processes-standard]",
        "test_only_known_conformance_tests_fail[python-library-standard]",
        "test_only_known_conformance_tests_fail[python-system-standard]",
        "test_only_known_conformance_tests_fail[pandas-files-standard]",
        "test_only_known_conformance_tests_fail[numpy-files-hardened]",
        "test_only_known_conformance_tests_fail[numpy-files-standard]",
        "test_only_known_conformance_tests_fail[pandas-files-hardened]",
    ),
    "e2e/programs/test_reasons.py": (
        "test_a_lost_worker_is_not_the_end_where_another_attempt_is_left",
        "test_environment_without_image_ends_as_environment_unavailable",
        "test_broken_runtime_ends_as_runtime_unavailable",
        "test_killed_workers_execution_ends_as_worker_lost",
        "test_specification_changed_in_redis_ends_as_internal",
    ),
    "e2e/sandbox/test_watch.py": (
        "test_flood_of_denials_hides_no_other_denial",
        "test_weaker_container_is_refused_and_reported",
        "test_the_kernel_log_serves_where_audit_does_not",
        "test_denial_is_marked_inferred_without_audit_and_kernel_log",
    ),
    "e2e/sandbox/test_tiers.py": (
        "test_tier_is_served_only_by_workers_with_its_runtime",
        "test_runc_by_the_name_of_runsc_is_refused",
        "test_forged_frame_gains_no_privilege",
    ),
    "hostile/test_seccomp.py": ("test_cached_filter_equals_a_freshly_compiled_filter",),
    "integration/orchestrator/api/test_rest_executions.py": ("test_cancelling_while_the_container_starts",),
    "integration/orchestrator/api/test_schema.py": ("test_schemathesis_finds_no_server_error",),
    "integration/orchestrator/api/door/test_traffic.py": (
        "test_slow_readers_of_output_take_no_memory_and_are_cut_off",
        "test_slow_readers_of_a_stream_take_no_memory",
        "test_slow_body_is_refused",
        "test_stalled_bodies_take_no_memory_and_few_places",
    ),
    "integration/orchestrator/janitor/test_alarms.py": ("test_single_process_detects_a_burst",),
    "unit/tests/test_selection.py": ("test_listed_tests_exist_and_every_kind_has_a_sample",),
    "unit/tests/test_fuzz.py": ("test_short_fuzz_run_finds_nothing", "test_a_run_finds_the_planted_fault"),
    "unit/orchestrator/policy/test_inspector.py": (
        "test_hostile_sources_cost_little_in_the_helper_and_nothing_in_the_api",
        "test_slow_source_without_cpu_timer_is_ended_by_wall_time",
    ),
    "unit/orchestrator/mcp/outputs/test_outlines.py": (
        "test_too_many_elements_have_no_outline_and_cost_less_than_to_count_them",
    ),
    "unit/deploy/test_locks.py": ("test_newer_releases_do_not_change_the_lock[requirements-dev.lock]",),
    "unit/worker/attempt/tools/test_caller_calls.py": ("test_checks_of_an_attempt_take_a_bounded_cpu_time",),
    "unit/worker/attempt/test_session.py": ("test_a_starved_agent_is_not_the_engines_fault[hardened]",),
    "unit/orchestrator/test_anomaly.py": ("test_a_day_of_steady_traffic_raises_no_alarm[1]",),
    "unit/sandbox_image/test_live_output.py": (
        "test_a_million_prints_cost_at_most_a_third_more",
        "test_plain_interpreter_loses_buffered_output[in a new interpreter]",
        "test_plain_interpreter_loses_buffered_output[forked ahead]",
    ),
}
# Folders whose tests start processes that are not measured for coverage: measuring costs a fifth of the CPU time, and
# other folders run the same lines.
UNMEASURED = (
    "hostile/", "chaos/", "e2e/agents/", "e2e/load/", "e2e/programs/", "e2e/sandbox/", "e2e/tools/", "e2e/upgrades/",
)  # fmt: skip
# In this order modules are handed to the lanes. The longest is first, and beside it runs what needs no images, which
# its lane builds; the many short modules are last, so that all lanes end at about the same time.
ORDER = ("hostile/test_hostile.py", "unit/", "chaos/", "e2e/", "hostile/", "integration/")


def rank(module: str) -> int:
    """Where the module (a path below ``tests/``) comes in that order."""
    return next((at for at, start in enumerate(ORDER) if module.startswith(start)), len(ORDER))


def position(module: str) -> tuple[int, int]:
    """Where the module comes: by its rank, and among unit tests by a number of its name, which mixes the modules that
    wait with those that compute.
    """
    return rank(module), crc32(module.encode()) if module.startswith("unit/") else 0


def is_thorough(module: str, test: str) -> bool:
    """Whether the test of that module (a path below ``tests/``) is left out by the lists above."""
    return module in WHOLE or bool({test, test.partition("[")[0]} & set(PARTS.get(module, ())))


def unmeasured(module: str, variables: Iterable[str]) -> list[str]:
    """The variables that have processes measured for coverage, and are taken from tests of that module."""
    return [name for name in variables if name.startswith("COVERAGE_") and module.startswith(UNMEASURED)]


def stale(tests: Iterable[tuple[str, str]]) -> set[str]:
    """The entries above without a test among ``tests``, which are all tests."""
    modules, names = set(), set()
    for module, test in tests:
        modules.add(module)
        names |= {(module, test), (module, test.partition("[")[0])}
    listed = {(module, name) for module, parts in PARTS.items() for name in parts}
    return (set(WHOLE) - modules) | {f"{module}::{name}" for module, name in listed - names}
