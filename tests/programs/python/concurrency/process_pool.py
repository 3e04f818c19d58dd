"""Counts primes in a pool of processes; further processes share a counter, a queue and an event."""

import multiprocessing
import os
import queue


def count_primes(bounds):
    low, high = bounds
    found = 0
    for number in range(max(low, 2), high):
        divisor = 2
        while divisor * divisor <= number:
            if number % divisor == 0:
                break
            divisor += 1
        else:
            found += 1
    return found, os.getpid()


def collatz(number):
    steps = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        steps += 1
    return steps


def add(counter, results, go, times):
    go.wait()
    for _ in range(times):
        with counter.get_lock():
            counter.value += 1
    results.put((multiprocessing.current_process().name, times))


def fail(number):
    raise LookupError(f"no {number}")


def main():
    with multiprocessing.Pool(3) as pool:
        chunks = [(start, start + 1000) for start in range(0, 20000, 1000)]
        counted = pool.map(count_primes, chunks, chunksize=1)
        print("primes", sum(found for found, _ in counted), os.getpid() not in {pid for _, pid in counted})
        print("collatz", max(pool.imap_unordered(collatz, range(1, 3000), chunksize=100)))
        try:
            pool.apply(fail, (7,))
        except LookupError as error:
            print("raised", error)

    counter = multiprocessing.Value("i", 0)
    results = multiprocessing.Queue()
    go = multiprocessing.Event()
    workers = [
        multiprocessing.Process(target=add, args=(counter, results, go, times), name=f"adder-{times}")
        for times in (100, 200, 300)
    ]
    for worker in workers:
        worker.start()
    go.set()
    reports = sorted(results.get(timeout=20) for _ in workers)
    for worker in workers:
        worker.join()
    print("counter", counter.value, reports, [worker.exitcode for worker in workers])
    try:
        results.get_nowait()
    except queue.Empty:
        print("empty")


if __name__ == "__main__":
    main()
