"""Run tests of numpy and pandas in this very interpreter, the forked one. Arguments: those of pytest."""

import importlib.machinery
import json
import os
import sys
import tarfile

LIB = "/work/lib"


class Beside:
    """Finds in the suite what the installed packages lack: their tests."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        parent = name.rpartition(".")[0].replace(".", "/")
        return importlib.machinery.PathFinder.find_spec(name, [os.path.join(LIB, parent)])


class Results:
    """How many tests passed, and which were skipped or failed, with the reason."""

    def __init__(self):
        self.found = {"passed": 0, "skipped": {}, "failed": {}}

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.found["failed"][report.nodeid] = str(report.longrepr)[-2000:]
        elif report.skipped and not hasattr(report, "wasxfail"):
            self.found["skipped"][report.nodeid] = str(report.longrepr)[-200:]
        elif report.when == "call":
            self.found["passed"] += 1  # an expected failure, too

    def pytest_collectreport(self, report):
        if report.failed:
            self.found["failed"][report.nodeid] = str(report.longrepr)[-2000:]


with tarfile.open("/inputs/suite.tar.gz") as suite:
    suite.extractall(LIB)
sys.meta_path.append(Beside)
os.chdir(LIB)
import pytest  # noqa: E402 - it comes with the suite

results = Results()
options = ["--import-mode=importlib", "-p", "no:cacheprovider", "-q", "--tb=short", "--rootdir", LIB, "-c", "/dev/null"]
pytest.main([*options, *sys.argv[1:]], plugins=[results])
with open("/output/results.json", "w") as file:
    json.dump(results.found, file)
