"""Run modules of CPython's regression tests, two at a time. Arguments: their names.

A test that kills its interpreter, as a tripwire of the sandbox does, counts as failed, and a new interpreter continues
after it. ``/output/results.json`` gets how many passed and were skipped, and which failed, with the reason.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

LIB = "/work/lib"
SECONDS_OF_SILENCE = 40
# The suite's packages belong inside the standard library's, which is read-only here: what a package of the library
# does not have is looked for in the suite. Every interpreter that a test starts does so too.
SITE = f"""
import importlib.machinery, os, sys

class Beside:
    @staticmethod
    def find_spec(name, path=None, target=None):
        parent = name.rpartition(".")[0].replace(".", "/")
        return importlib.machinery.PathFinder.find_spec(name, [os.path.join({LIB!r}, parent)])

sys.meta_path.append(Beside)
"""


class Log(unittest.TestResult):
    """Writes a line when a test begins and when it ends, so that the parent knows where its interpreter died."""

    def __init__(self, path):
        super().__init__()
        self.file = open(path, "a", buffering=1)
        self.pid = os.getpid()

    def write(self, outcome, test, why=""):
        if os.getpid() == self.pid:  # and not a child that a test has forked
            self.file.write(json.dumps([outcome, test.id(), why[-2000:]]) + "\n")

    def startTest(self, test):
        super().startTest(test)
        self.write("begun", test)

    def stopTest(self, test):
        super().stopTest(test)
        self.write("ended", test)

    def addSuccess(self, test):
        self.write("passed", test)

    def addExpectedFailure(self, test, err):
        self.write("passed", test)

    def addSkip(self, test, reason):
        self.write("skipped", test, reason)

    def addUnexpectedSuccess(self, test):
        self.write("failed", test, "unexpected success")

    def addFailure(self, test, err):
        self.write("failed", test, self._exc_info_to_string(err, test))

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.write("failed", test, self._exc_info_to_string(err, test))


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.BaseTestSuite):
            yield from flat(test)
        else:
            yield test


def child(module, log, done):
    from test import support
    from test.support import os_helper, script_helper

    def run_what_is_left(suite):
        unittest.TestSuite(test for test in flat(suite) if test.id() not in done).run(Log(log))

    # Mark interpreters as dependent on their environment: an isolated one would not find the suite.
    vars(script_helper)["__cached_interp_requires_environment"] = True
    support.use_resources, support.verbose = [], False
    support._run_suite = run_what_is_left
    complete = ["complete", module, ""]
    with os_helper.temp_cwd(f"/work/{module}-{os.getpid()}"):
        try:
            tests = importlib.import_module(f"test.{module}")
            if hasattr(tests, "test_main"):  # as CPython's own runner does
                tests.test_main()
            else:
                support.run_unittest(unittest.defaultTestLoader.loadTestsFromModule(tests))
        except unittest.SkipTest as why:
            complete[2] = str(why)
    with open(log, "a") as file:
        file.write(json.dumps(complete) + "\n")


def run(module):
    """Each test's outcome by its id."""
    log, errors = f"/tmp/{module}.log", f"/tmp/{module}.err"
    open(log, "w").close()
    outcomes, began = {}, time.monotonic()
    while True:
        command = [sys.executable, __file__, "--child", module, log, *outcomes]
        with open(errors, "w") as err:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True
            )
        stopped = watch(process, log)
        with open(log) as file:
            lines = [json.loads(line) for line in file]
        running = None
        for outcome, id, why in lines:
            running = id if outcome == "begun" else None if outcome == "ended" else running
            if outcome in ("passed", "skipped", "failed") and outcomes.get(id, [""])[0] != "failed":
                outcomes[id] = [outcome, why]
        if lines and lines[-1][0] == "complete":
            if lines[-1][2]:
                outcomes["the module"] = ["skipped", lines[-1][2]]
            print(f"{module}: {len(outcomes)} tests in {time.monotonic() - began:.1f} s", flush=True)
            return outcomes
        how = stopped or f"the interpreter ended with {process.returncode}"
        if running is None or outcomes.get(running, ["", ""])[1] == how:
            with open(errors) as file:
                outcomes["the module"] = ["failed", f"{how}\n{file.read()[-1500:]}"]
            return outcomes
        outcomes[running] = ["failed", how]
        print(f"{running}: {how}", flush=True)


def watch(process, log):
    """Wait for its end; why it was stopped, if it was."""
    last, size = time.monotonic(), 0
    while process.poll() is None:
        time.sleep(0.05)
        if os.path.getsize(log) != size:
            last, size = time.monotonic(), os.path.getsize(log)
        if time.monotonic() - last > SECONDS_OF_SILENCE:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"not done after {SECONDS_OF_SILENCE} s"
    return None


def main(modules):
    with tarfile.open("/inputs/suite.tar.gz") as suite:
        suite.extractall(LIB)
    with open(f"{LIB}/sitecustomize.py", "w") as file:
        file.write(SITE)
    os.environ["PYTHONPATH"] = LIB
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(modules, pool.map(run, modules)))
    outcomes = {
        f"{module} {id.removeprefix(f'test.{module}.')}": outcome
        for module, tests in ended.items()
        for id, outcome in tests.items()
    }
    kinds = [kind for kind, _ in outcomes.values()]
    results = {
        "passed": kinds.count("passed"),
        "skipped": {id: why for id, (kind, why) in outcomes.items() if kind == "skipped"},
        "failed": {id: why for id, (kind, why) in outcomes.items() if kind == "failed"},
    }
    with open("/output/results.json", "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(sys.argv[2], sys.argv[3], set(sys.argv[4:]))
    else:
        main(sys.argv[1:])
