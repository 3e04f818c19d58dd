"""epicbox: one container for each run, by its one call ``run``."""

import importlib.metadata
import logging
import time

from serve import Contestant, check, serve


class Epicbox(Contestant):
    def __init__(self, setting):
        import epicbox
        import structlog

        logging.disable(logging.CRITICAL)  # epicbox logs each step, which no one reads here
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self._epicbox = epicbox
        profiles = {
            name: {"docker_image": image, "user": "65534", "read_only": True, "network_disabled": True}
            for name, image in setting["peer_images"].items()
        }
        epicbox.configure(profiles=profiles)

    def about(self):
        return {name: importlib.metadata.version(name) for name in ("epicbox", "docker", "urllib3")}

    def run(self, program):
        limits = {"cputime": 10, "realtime": 30, "memory": 512, "processes": 65}
        quoted = " ".join("'" + part.replace("'", "'\\''") + "'" for part in program["command"])
        began = time.monotonic()
        result = self._epicbox.run(program["environment"], quoted, limits=limits)
        seconds = time.monotonic() - began
        assert result["exit_code"] == 0, result
        check(program, result["stdout"])
        return seconds


def make(setting):
    return {"run": Epicbox(setting)}


if __name__ == "__main__":
    serve(make)
