"""concurrent.futures: a Mandelbrot set by processes, word counts by threads, exceptions, timeouts, cancellation."""

import concurrent.futures as futures
import threading
from collections import Counter
from pathlib import Path

WIDTH, HEIGHT, LIMIT = 72, 28, 60


def mandelbrot_row(row):
    cells = []
    for column in range(WIDTH):
        point = complex(-2.2 + 3.2 * column / WIDTH, -1.2 + 2.4 * row / HEIGHT)
        z, steps = 0j, 0
        while abs(z) <= 2 and steps < LIMIT:
            z = z * z + point
            steps += 1
        cells.append(" .:-=+*#%@"[steps * 9 // LIMIT])
    return "".join(cells)


def word_count(path):
    return Counter(path.read_text().lower().split())


def inverse(number):
    return 1 / number


def main():
    with futures.ProcessPoolExecutor(max_workers=2) as pool:
        picture = list(pool.map(mandelbrot_row, range(HEIGHT), chunksize=7))
        failing = pool.submit(inverse, 0)
        print("failed:", repr(failing.exception(timeout=20)))
    print("symmetric", picture[1 : HEIGHT // 2] == picture[: HEIGHT // 2 : -1])
    Path("/output/mandelbrot.txt").write_text("\n".join(picture) + "\n")

    with futures.ThreadPoolExecutor(max_workers=4, thread_name_prefix="words") as pool:
        jobs = {pool.submit(word_count, path): path.name for path in Path("inputs/texts").iterdir()}
        total = Counter()
        for job in futures.as_completed(jobs, timeout=20):
            total += job.result()
    print("files", len(jobs), "words", total.total(), sorted(total.items(), key=lambda item: (-item[1], item[0]))[:4])

    release = threading.Event()
    with futures.ThreadPoolExecutor(max_workers=1) as pool:
        blocked = pool.submit(release.wait, 20)
        waiting = pool.submit(inverse, 4)
        try:
            waiting.result(timeout=0.05)
        except futures.TimeoutError:
            print("timeout", waiting.cancel(), waiting.cancelled())
        release.set()
        print("released", blocked.result())


if __name__ == "__main__":
    main()
