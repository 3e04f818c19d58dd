"""Fixtures: one stack for most tests, stacks of their own for those that break something."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.builders.tier import Tier
from tests.engine import Engine
from tests.harness import ENVIRONMENTS, IMAGES, LONG_LEASE_SECONDS, ROOT, Process, Stack, Way
from tests.lanes import locked, machine
from tests.preflight import runtimes_of_engine
from tests.selection import ALL_TESTS, EACH_WAY, Listed, is_thorough, position, unmeasured

TESTS = Path(__file__).parent

# On a busy machine an example may take longer than Hypothesis allows by default; what it does in CI is kept.
hypothesis.settings.register_profile(
    "busy", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

# Started in the background, the tests may ignore interrupts, which their children would inherit.
for ignored in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what `make test` leaves out, before a run's markers are chosen from; and have the longest modules first."""
    ours = [item for item in items if below_tests(item.path) is not None]
    for item in ours:
        if is_thorough(module_of(item), item.name):
            item.add_marker(pytest.mark.thorough)
    if len(ours) == len(items):
        items.sort(key=lambda item: position(module_of(item)))
    if [config.invocation_params.dir / words for words in config.args] == [TESTS]:
        config.stash[ALL_TESTS] = [
            Listed(module_of(item), item.name, not any(map(item.get_closest_marker, ("complete", "thorough"))))
            for item in items
        ]


def module_of(item: pytest.Item | pytest.Module) -> str:
    """Its path below ``tests/``."""
    return below_tests(item.path) or ""


@cache
def below_tests(path: Path) -> str | None:
    """A module's path below ``tests/``; paths are compared once for each module, not for each of its tests."""
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Search for no garbage meanwhile, which would take a sixth of the time: what a collection makes stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """While a test runs, it has the machine alone or shares it; see ``lanes.py``."""
    with machine(lanes_of(item.config), alone=item.get_closest_marker("alone") is not None):
        return (yield)


@cache
def lanes_of(config: pytest.Config) -> Path:
    """The directory of locks that all lanes of a run share."""
    assert config.cache is not None
    return config.cache.mkdir("lanes")


@pytest.fixture(scope="module", autouse=True)
def measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Processes of this module's tests are measured for coverage where the run is, or never (``UNMEASURED``)."""
    with pytest.MonkeyPatch.context() as patch:
        for name in unmeasured(module_of(request.node), os.environ):
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def engine_runtimes() -> frozenset[str]:
    """Names of the runtimes the engine has; none where no engine answers."""
    return runtimes_of_engine() or frozenset()


@pytest.fixture(scope="session")
def engine(engine_runtimes: frozenset[str]) -> None:
    """There is a container engine; without one these tests fail."""
    if not engine_runtimes:
        pytest.fail("There is no container engine; `make test` starts one.")


@pytest.fixture(scope="session")
def need_runtime(engine_runtimes: frozenset[str]) -> Callable[..., None]:
    """Fails a test for a runtime that the engine, or with driver ``oci`` this host, lacks."""

    def need(runtime: str, driver: str = "docker") -> None:
        if (shutil.which(runtime) is None) if driver == "oci" else (runtime not in engine_runtimes):
            _missing(f"there is no runtime {runtime} for driver {driver}")

    return need


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """Fails a test for what this machine lacks."""
    return _missing


def _missing(what: str) -> None:
    pytest.fail(f"{what}; `deploy/setup.sh --dev` installs what the tests need")


@pytest.fixture(scope="session")
def images() -> Path:
    """The sandbox images, built once and reused as long as their inputs stay the same."""
    command = [sys.executable, "-m", "sandbox_image.build", *ENVIRONMENTS, "--output", str(IMAGES)]
    IMAGES.mkdir(parents=True, exist_ok=True)
    with locked(IMAGES / "tests.lock"):
        subprocess.run(command, cwd=ROOT, check=True, timeout=1200)
    return IMAGES


@pytest.fixture(scope="session")
def image_of(images: Path) -> Callable[[str], None]:
    """Builds the image of one of the tests' own environments."""

    def build(name: str) -> None:
        declared = str(ROOT / "tests" / "environments")
        command = [sys.executable, "-m", "sandbox_image.build", name, "--environments", declared]
        with locked(images / "tests.lock"):
            subprocess.run([*command, "--output", str(images)], cwd=ROOT, check=True, timeout=1200)

    return build


@pytest.fixture(scope="session")
def stack(engine: None, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack most tests share."""
    made = Stack(tmp_path_factory.mktemp("stack"), mcp_filtered=["filtered"], lease_seconds=LONG_LEASE_SECONDS)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="session")
def stack_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Stack]]:
    """The stack that all tests of a lane share for a way to make containers, started for the first of them."""
    made: dict[Way, Stack] = {}

    def stack_of(way: Way) -> Stack:
        if way.name in ("docker-runc", "docker-runsc"):
            return request.getfixturevalue("stack")  # type: ignore[no-any-return]
        if way not in made:
            request.getfixturevalue("images")
            directory = tmp_path_factory.mktemp(f"stack-{way.name}")
            stack = Stack(directory, lease_seconds=LONG_LEASE_SECONDS, **way.settings)
            ends.callback(stack.stop)
            made[way] = stack.start()
        return made[way]

    with ExitStack() as ends:
        yield stack_of


@pytest.fixture(scope="session", params=EACH_WAY)
def tier(request: pytest.FixtureRequest, need_runtime: Callable[..., None], stack_of: Callable[[Way], Stack]) -> Tier:
    """Every driver and runtime there is; one that is missing fails."""
    way = Way(request.param)
    need_runtime(way.runtime, way.driver)
    return Tier(stack_of(way), way)


@pytest.fixture
def own_stack(request: pytest.FixtureRequest, images: Path, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes stacks for tests that kill or starve things; settings are keyword arguments.

    Their pools hold one container, whatever is asked of them.
    """
    numbers = count()

    def make(**settings: Any) -> Stack:
        if settings.get("driver", "docker") == "docker":
            request.getfixturevalue("engine")
        directory = tmp_path / f"stack-{next(numbers)}"
        directory.mkdir()
        stack = Stack(directory, **{"pool_size": 0, "pool_sizes": {"python": 1}, "pool_max": 0, **settings})
        ends.callback(stack.stop)
        return stack

    with ExitStack() as ends:  # which ends each, also if another has not ended well
        yield make


@pytest.fixture
def own_engine(engine: None, tmp_path: Path) -> Iterator[tuple[str, Callable[..., Process]]]:
    """A container engine of the test's own: its URL, and what starts it (again)."""
    made = Engine(tmp_path / "engine.log")
    yield made.url, made.start
    made.close()


@pytest.fixture
def only_python(tmp_path: Path) -> list[str]:
    """Environment directories with one environment, for engines into which every image must be loaded."""
    directory = tmp_path / "environments"
    directory.mkdir()
    shutil.copy(ROOT / "sandbox_image" / "environments" / "python.toml", directory)
    return [str(directory)]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """On failure, show the end of the logs of the stacks the test used; the failure is reported also without them."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if callable(getattr(value, "logs", None)):
                try:
                    logs = value.logs()
                except (AssertionError, OSError, subprocess.SubprocessError) as error:
                    logs = f"no logs: {error}"
                report.sections.append(("stack", logs))
