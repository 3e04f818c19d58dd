"""llm-sandbox: a session for each run, and its pool.

Tuned: no set-up of an environment in each container (``skip_environment_setup``), an init process, without which
stopping a container takes ten seconds, one client for all sessions. Its pool gives a container to the next user
as the last one left it (``pool, reused``), unless a container's uses are limited to one (``pool, single use``).
"""

import importlib.metadata
import time

from serve import Contestant, check, serve

LANGUAGES = {"python": "python", "python-data": "python", "node": "javascript"}
HARDENED = {
    "init": True,
    "network_mode": "none",
    "cap_drop": ["ALL"],
    "mem_limit": "512m",
    "nano_cpus": 10**9,
    "pids_limit": 65,
    "security_opt": ["no-new-privileges"],
    "log_config": {"Type": "none"},
}


class Session(Contestant):
    def __init__(self, setting):
        import docker

        self._images = setting["peer_images"]
        self._client = docker.from_env()

    def about(self):
        return {name: importlib.metadata.version(name) for name in ("llm-sandbox", "docker")}

    def options(self, program):
        return {
            "client": self._client,
            "lang": LANGUAGES[program["environment"]],
            "image": self._images[program["environment"]],
            "runtime_configs": dict(HARDENED),
            "skip_environment_setup": True,
        }

    def run(self, program):
        from llm_sandbox import SandboxSession

        began = time.monotonic()
        with SandboxSession(**self.options(program)) as session:
            result = session.run(program["code"])
        seconds = time.monotonic() - began
        assert result.exit_code == 0, result
        check(program, result.stdout)
        return seconds


class Pooled(Session):
    def __init__(self, setting, uses):
        super().__init__(setting)
        self._uses = uses
        self._pool = None

    def prepare(self, program, at_once):
        from llm_sandbox.pool import PoolConfig, create_pool_manager

        self.close()
        size = max(2, at_once)
        config = PoolConfig(min_pool_size=size, max_pool_size=2 * size, max_container_uses=self._uses)
        self._pool = create_pool_manager(config=config, **self.options(program))

    def settle(self):
        deadline = time.monotonic() + 60
        while self._pool.get_stats()["state_counts"]["idle"] < self._pool.config.min_pool_size:
            assert time.monotonic() < deadline, self._pool.get_stats()
            time.sleep(0.02)

    def run(self, program):
        from llm_sandbox.pool import PooledSandboxSession

        began = time.monotonic()
        with PooledSandboxSession(pool_manager=self._pool, lang=LANGUAGES[program["environment"]]) as session:
            result = session.run(program["code"])
        seconds = time.monotonic() - began
        assert result.exit_code == 0, result
        check(program, result.stdout)
        return seconds

    def close(self):
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def make(setting):
    return {
        "session": Session(setting),
        "pool, single use": Pooled(setting, 1),
        "pool, reused": Pooled(setting, None),
    }


if __name__ == "__main__":
    serve(make)
