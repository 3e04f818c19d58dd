"""autogen's Docker executor: started for each run, and one that runs all of them in the same container.

Tuned: the image stops by SIGKILL, since the shell that the executor starts as the first process ignores the usual
signal and would be killed after ten seconds. It knows no option for a container without a network; it gets one
anyway, as all the others do, and is the faster for it.
"""

import asyncio
import functools
import importlib.metadata
import time

from serve import Contestant, check, serve

LANGUAGES = {"python": "python", "python-data": "python", "bash": "bash"}


class Executor(Contestant):
    def __init__(self, setting):
        self._images = setting["peer_images"]

    def about(self):
        return {name: importlib.metadata.version(name) for name in ("autogen-ext", "autogen-core", "docker")}

    def executor(self, program):
        from autogen_ext.code_executors.docker import DockerCommandLineCodeExecutor

        return DockerCommandLineCodeExecutor(image=self._images[program["environment"]], timeout=30)

    async def execute(self, executor, program):
        from autogen_core import CancellationToken
        from autogen_core.code_executor import CodeBlock

        block = CodeBlock(code=program["code"], language=LANGUAGES[program["environment"]])
        result = await executor.execute_code_blocks([block], CancellationToken())
        assert result.exit_code == 0, result
        check(program, result.output)

    def run(self, program):
        return asyncio.run(self._once(program))

    async def _once(self, program):
        began = time.monotonic()
        async with self.executor(program) as executor:
            await self.execute(executor, program)
        return time.monotonic() - began


class Reused(Executor):
    def __init__(self, setting):
        super().__init__(setting)
        self._executor = None
        self._loop = asyncio.new_event_loop()

    def prepare(self, program, at_once):
        self.close()
        self._executor = self.executor(program)
        self._loop.run_until_complete(self._executor.start())

    def run(self, program):
        began = time.monotonic()
        asyncio.run(self.execute(self._executor, program))
        return time.monotonic() - began

    def close(self):
        if self._executor is not None:
            self._loop.run_until_complete(self._executor.stop())
            self._executor = None


def make(setting):
    from docker.models.containers import ContainerCollection

    ContainerCollection.create = functools.partialmethod(ContainerCollection.create, network_mode="none")
    return {"executor": Executor(setting), "reused": Reused(setting)}


if __name__ == "__main__":
    serve(make)
