"""Processes that work on one block of shared memory, and a manager's dictionary: a parallel game of life."""

import multiprocessing
from multiprocessing import shared_memory

WIDTH, HEIGHT, GENERATIONS = 64, 48, 40


def seed(cells):
    state = 12345
    for position in range(WIDTH * HEIGHT):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        cells[position] = state >> 30 == 0


def step(source, target, rows):
    for row in rows:
        for column in range(WIDTH):
            around = sum(
                source[(row + down) % HEIGHT * WIDTH + (column + right) % WIDTH]
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
                if down or right
            )
            alive = source[row * WIDTH + column]
            target[row * WIDTH + column] = around == 3 or (alive and around == 2)


def worker(name, part, parts, barrier, done):
    block = shared_memory.SharedMemory(name)
    size = WIDTH * HEIGHT
    views = [block.buf[:size], block.buf[size : 2 * size]]
    rows = range(part * HEIGHT // parts, (part + 1) * HEIGHT // parts)
    for generation in range(GENERATIONS):
        step(views[generation % 2], views[1 - generation % 2], rows)
        barrier.wait(timeout=20)
    done[part] = len(rows) * GENERATIONS
    for view in views:
        view.release()
    block.close()


def main():
    block = shared_memory.SharedMemory(create=True, size=2 * WIDTH * HEIGHT)
    try:
        seed(block.buf)
        print("born", sum(block.buf[: WIDTH * HEIGHT]))
        with multiprocessing.Manager() as manager:
            done, barrier = manager.dict(), multiprocessing.Barrier(2)
            workers = [
                multiprocessing.Process(target=worker, args=(block.name, part, 2, barrier, done)) for part in range(2)
            ]
            for process in workers:
                process.start()
            for process in workers:
                process.join()
            print("rows", dict(sorted(done.items())), [process.exitcode for process in workers])
        print("alive", sum(block.buf[: WIDTH * HEIGHT]))
    finally:
        block.close()
        block.unlink()


if __name__ == "__main__":
    main()
