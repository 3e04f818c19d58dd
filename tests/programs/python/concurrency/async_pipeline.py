"""An asyncio pipeline: a producer, several workers behind a bounded queue, a collector, timeouts, cancellation."""

import asyncio
import hashlib

ITEMS = 300
WORKERS = 4


class Stage:
    def __init__(self, size):
        self.queue = asyncio.Queue(maxsize=size)
        self.deepest = 0

    async def put(self, item):
        await self.queue.put(item)
        self.deepest = max(self.deepest, self.queue.qsize())


async def produce(stage):
    for number in range(ITEMS):
        await stage.put(number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    for _ in range(WORKERS):
        await stage.put(None)


async def work(stage, results, gate):
    while (number := await stage.queue.get()) is not None:
        async with gate:
            digest = await asyncio.to_thread(hashlib.sha256, str(number).encode())
            results[number] = digest.hexdigest()


async def hang(cancelled):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.append("hang")
        raise


async def main():
    stage, results, gate = Stage(size=8), {}, asyncio.Semaphore(2)
    async with asyncio.TaskGroup() as group:
        group.create_task(produce(stage))
        for _ in range(WORKERS):
            group.create_task(work(stage, results, gate))
    joined = "".join(results[number] for number in range(ITEMS))
    print(len(results), stage.deepest <= 8, hashlib.sha256(joined.encode()).hexdigest())

    cancelled = []
    try:
        async with asyncio.timeout(0.05):
            await hang(cancelled)
    except TimeoutError:
        print("timed out", cancelled)
    outcomes = await asyncio.gather(asyncio.sleep(0, "slept"), asyncio.wait_for(hang(cancelled), 0.01),
                                    return_exceptions=True)
    print([type(outcome).__name__ if isinstance(outcome, BaseException) else outcome for outcome in outcomes])

    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", "print(input()[::-1])", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(b"pipeline\n")
    print(out.decode().strip(), process.returncode)


asyncio.run(main())
