"""What `make test` leaves to `make test-all`, because it is slow for being thorough.

A module that is listed with names loses those tests only; a name is a test's function, or that with the parameters'
id. Parametrizations over drivers and runtimes (``EACH_WAY``) keep the first one. Which tests that concerns is marked
``thorough`` when they are collected; a test by name runs in any case: ``.venv/bin/python -m pytest PATH -k NAME``.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.harness import WAYS

EACH_WAY = [pytest.param(way, marks=() if way == WAYS[0] else pytest.mark.thorough, id=way) for way in WAYS]

WHOLE = (
    "chaos/test_clock.py",
    "chaos/test_containers.py",
    "chaos/test_disks.py",
    "chaos/test_engine.py",
    "chaos/test_failover.py",
    "chaos/test_faults.py",
    "chaos/test_hosts.py",
    "chaos/test_mixture.py",
    "chaos/test_once.py",
    "chaos/test_soak.py",
    "e2e/faults/test_anomaly.py",
    "e2e/faults/test_full_redis.py",
    "e2e/faults/test_malformed.py",
    "e2e/faults/test_redis_writer.py",
    "e2e/faults/test_restarts.py",
    "e2e/faults/test_trouble.py",
    "e2e/faults/test_two_apis.py",
    "e2e/load/test_bench.py",
    "e2e/load/test_cli_bench.py",
    "e2e/load/test_fairness.py",
    "e2e/operation/test_compose.py",
    "e2e/operation/test_rq_tools.py",
    "e2e/operation/test_unprivileged.py",
    "e2e/programs/test_variables.py",
    "e2e/sandbox/test_posture.py",
    "integration/worker/drivers/test_oci.py",
)
PARTS: dict[str, tuple[str, ...]] = {
    "chaos/test_invariants.py": ("test_a_worker_that_was_stopped_for_longer_than_its_lease",),
    "chaos/test_model.py": (
        "test_every_order_of_steps_keeps_every_promise[1-6-3-order0]",
        "test_every_order_of_steps_keeps_every_promise[2-5-2-order1]",
    ),
    "e2e/faults/test_recovery.py": (
        "test_engine_away_and_back",
        "test_three_hundred_at_once",
        "test_a_second_sigterm_hands_back_at_once",
        "test_a_worker_cut_off_from_redis_ends_what_it_runs",
        "test_a_worker_that_was_stopped_for_longer_than_its_lease",
        "test_redis_away_while_a_program_runs",
    ),
    "e2e/load/test_pool.py": (
        "test_a_container_that_is_made_ahead_leaves_the_processor_to_programs",
        "test_a_container_that_waited_too_long_is_replaced",
        "test_containers_of_another_image_are_replaced",
        "test_idle_containers_stay_within_the_memory_budget",
        "test_limits_are_set_on_a_waiting_container_where_that_can_be_done",
        "test_the_hardened_tier_is_kept_warm_once_it_is_asked_for",
        "test_who_takes_more_than_a_share_leaves_the_last_one_to_other_tenants",
    ),
    "e2e/operation/test_documents.py": ("test_the_commands_of_a_document_work[quickstart.md]",),
    "e2e/operation/test_up.py": (
        "test_up_does_not_wait_behind_its_queue[280-False]",
        "test_an_engine_of_our_own_leaves_nothing",
        "test_down_leaves_nothing_and_up_finds_everything_again",
        "test_without_an_engine_up_uses_a_runtime_and_says_so",
        "test_without_an_engine_no_command_is_run_that_needs_one",
    ),
    "e2e/operation/test_sdk.py": ("test_the_wheel_has_the_sdk_and_needs_nothing_for_it",),
    "e2e/programs/test_conformance.py": (
        "test_what_fails_is_what_is_known_to[python-files-standard]",
        "test_what_fails_is_what_is_known_to[python-processes-standard]",
        "test_what_fails_is_what_is_known_to[python-library-standard]",
        "test_what_fails_is_what_is_known_to[numpy-core-standard]",
        "test_what_fails_is_what_is_known_to[numpy-files-hardened]",
        "test_what_fails_is_what_is_known_to[numpy-files-standard]",
        "test_what_fails_is_what_is_known_to[pandas-core-standard]",
        "test_what_fails_is_what_is_known_to[pandas-files-hardened]",
    ),
    "e2e/programs/test_reasons.py": (
        "test_a_lost_worker_is_not_the_end_where_another_attempt_is_left",
        "test_environment_unavailable",
        "test_runtime_unavailable",
        "test_worker_lost",
    ),
    "e2e/sandbox/test_watch.py": (
        "test_a_weaker_container_is_refused_and_told",
        "test_the_kernel_log_serves_where_audit_does_not",
        "test_without_either_it_is_inferred_and_said_so",
    ),
    "e2e/sandbox/test_tiers.py": ("test_a_tier_is_given_by_those_who_have_it",),
    "hostile/test_seccomp.py": ("test_a_filter_that_was_compiled_for_an_earlier_container_is_the_same_wall",),
    "integration/orchestrator/api/test_rest_executions.py": ("test_cancelling_while_the_container_starts",),
    "integration/orchestrator/api/test_schema.py": ("test_schemathesis_finds_no_server_error",),
    "integration/orchestrator/api/door/test_traffic.py": (
        "test_a_body_that_drips_is_refused_and_one_that_hurries_is_not",
        "test_bodies_that_stop_take_no_memory_and_few_places[executions]",
    ),
    "integration/orchestrator/janitor/test_alarms.py": ("test_one_process_sees_a_burst_arrive",),
    "unit/sandbox_image/test_image_build.py": ("test_a_build_repeated_gives_the_same_image",),
    "unit/tests/test_selection.py": ("test_what_is_listed_exists_and_every_kind_of_test_has_a_sample",),
    "unit/tests/test_fuzz.py": ("test_a_short_run_finds_nothing",),
    "unit/orchestrator/test_anomaly.py": ("test_a_day_of_steady_traffic_raises_no_alarm[2]",),
    "unit/sandbox_image/test_live_output.py": ("test_a_million_prints_cost_at_most_a_third_more",),
}
# In this order modules are handed to the lanes. The longest is first, and beside it runs what needs no images, which
# its lane builds; the many short modules are last, so that all lanes end at about the same time.
ORDER = ("hostile/test_hostile.py", "unit/", "chaos/", "e2e/", "hostile/", "integration/")


def rank(module: str) -> int:
    """Where the module (a path below ``tests/``) comes in that order."""
    return next((at for at, start in enumerate(ORDER) if module.startswith(start)), len(ORDER))


def is_thorough(module: str, test: str) -> bool:
    """Whether the test of that module (a path below ``tests/``) is left out by the lists above."""
    return module in WHOLE or bool({test, test.partition("[")[0]} & set(PARTS.get(module, ())))


def stale(tests: Iterable[tuple[str, str]]) -> set[str]:
    """What is listed above and is not among those tests, which are all there are."""
    modules, names = set(), set()
    for module, test in tests:
        modules.add(module)
        names |= {(module, test), (module, test.partition("[")[0])}
    listed = {(module, name) for module, parts in PARTS.items() for name in parts}
    return (set(WHOLE) - modules) | {f"{module}::{name}" for module, name in listed - names}
