"""Generators: pipelines, send and throw, recursion with yield from, context managers, n queens."""

import contextlib
import itertools


def primes():
    """An unbounded sieve."""
    composites = {}
    for number in itertools.count(2):
        factors = composites.pop(number, None)
        if factors is None:
            yield number
            composites[number * number] = [number]
        else:
            for factor in factors:
                composites.setdefault(number + factor, []).append(factor)


def averager():
    total, count = 0, 0
    average = None
    while True:
        try:
            value = yield average
        except ZeroDivisionError:
            total = count = 0
            average = "reset"
            continue
        if value is None:
            return count
        total, count = total + value, count + 1
        average = total / count


def averages(collected):
    while True:
        collected.append((yield from averager()))


def queens(size, columns=()):
    if len(columns) == size:
        yield columns
        return
    row = len(columns)
    for column in range(size):
        if all(column != c and abs(column - c) != row - r for r, c in enumerate(columns)):
            yield from queens(size, (*columns, column))


@contextlib.contextmanager
def traced(name, trace):
    trace.append(f"+{name}")
    try:
        yield name.upper()
    except KeyError as error:
        trace.append(f"!{error}")
    finally:
        trace.append(f"-{name}")


def main():
    twins = ((a, b) for a, b in itertools.pairwise(primes()) if b - a == 2)
    print("twins", list(itertools.islice(twins, 30, 33)))
    print("sum", sum(itertools.takewhile(lambda prime: prime < 100_000, primes())))
    collected = []
    running = averages(collected)
    next(running)
    print("sent", [running.send(value) for value in (10, 20, 60)], running.throw(ZeroDivisionError), running.send(7))
    running.send(None)
    print("collected", collected)
    solutions = list(queens(8))
    print("queens", len(solutions), solutions[0], solutions[-1])
    trace = []
    with traced("a", trace) as upper, traced("b", trace):
        raise KeyError(upper)
    print("trace", trace)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    print({key: list(group) for key, group in itertools.groupby(sorted(words, key=len), key=len)})


main()
