"""Threads: a bounded buffer on a condition, a barrier, a lock around a counter, thread-local state, a timer."""

import queue
import threading
from collections import deque


class BoundedBuffer:
    def __init__(self, size):
        self.items, self.size, self.most = deque(), size, 0
        self.changed = threading.Condition()

    def put(self, item):
        with self.changed:
            self.changed.wait_for(lambda: len(self.items) < self.size)
            self.items.append(item)
            self.most = max(self.most, len(self.items))
            self.changed.notify_all()

    def get(self):
        with self.changed:
            self.changed.wait_for(lambda: self.items)
            item = self.items.popleft()
            self.changed.notify_all()
            return item


def transfer(accounts, lock, moves):
    for source, target, amount in moves:
        with lock:
            if accounts[source] >= amount:
                accounts[source] -= amount
                accounts[target] += amount


def main():
    buffer, total, lock = BoundedBuffer(5), queue.SimpleQueue(), threading.Lock()

    def produce(start):
        for number in range(start, 1000, 4):
            buffer.put(number)

    def consume():
        total.put(sum(buffer.get() ** 2 for _ in range(250)))

    threads = [threading.Thread(target=produce, args=(start,)) for start in range(4)]
    threads += [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("squares", sum(total.get() for _ in range(4)), buffer.most <= 5)

    accounts = dict.fromkeys("abcd", 1000)
    moves = [("abcd"[n % 4], "abcd"[(n * 7 + 1) % 4], n % 90) for n in range(2000)]
    movers = [threading.Thread(target=transfer, args=(accounts, lock, moves[part::5])) for part in range(5)]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()
    print("money", sum(accounts.values()), min(accounts.values()) >= 0)

    local, barrier, order = threading.local(), threading.Barrier(3), []

    def meet(name):
        local.name = name
        order.append("before")
        barrier.wait(timeout=20)
        order.append("after")
        total.put(local.name)

    for name in "xyz":
        threading.Thread(target=meet, args=(name,)).start()
    print("met", "".join(sorted(total.get(timeout=20) for _ in range(3))), order[:3], hasattr(local, "name"))
    rung = threading.Event()
    threading.Timer(0.01, rung.set).start()
    print("timer", rung.wait(20))


main()
