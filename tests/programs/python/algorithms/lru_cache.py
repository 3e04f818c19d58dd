"""An LRU cache of its own beside functools': hits, evictions, expiry by a fake clock, memoised edit distance."""

import functools
import sys
from collections import OrderedDict


class LRU:
    def __init__(self, capacity, lifetime, clock):
        self.entries, self.capacity, self.lifetime, self.clock = OrderedDict(), capacity, lifetime, clock
        self.hits = self.misses = self.evicted = self.expired = 0

    def __call__(self, function):
        @functools.wraps(function)
        def wrapper(key):
            if key in self.entries:
                value, born = self.entries[key]
                if self.clock() - born <= self.lifetime:
                    self.hits += 1
                    self.entries.move_to_end(key)
                    return value
                self.expired += 1
                del self.entries[key]
            self.misses += 1
            value = function(key)
            self.entries[key] = value, self.clock()
            if len(self.entries) > self.capacity:
                self.entries.popitem(last=False)
                self.evicted += 1
            return value

        return wrapper


@functools.cache
def distance(left, right):
    """Levenshtein's."""
    if not left or not right:
        return len(left) or len(right)
    if left[0] == right[0]:
        return distance(left[1:], right[1:])
    return 1 + min(distance(left[1:], right), distance(left, right[1:]), distance(left[1:], right[1:]))


def main():
    now = 0
    cache = LRU(capacity=20, lifetime=150, clock=lambda: now)

    @cache
    def square(number):
        """Squares."""
        return number * number

    total = 0
    for token in sys.stdin.read().split():
        now += 1
        total += square(int(token))
    print("total", total, square.__name__, square.__doc__)
    print("hits", cache.hits, "misses", cache.misses, "evicted", cache.evicted, "expired", cache.expired)
    print("order", list(cache.entries))
    print("distances", [distance(*pair.split(":")) for pair in sys.argv[1:]])
    info = distance.cache_info()
    print(info.hits > 0, info.currsize == info.misses)


main()
