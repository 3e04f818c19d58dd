"""Deep recursion: beyond the default limit, a caught RecursionError, a deep tree, mutual recursion, permutations."""

import sys


def depth(number):
    return 0 if number == 0 else 1 + depth(number - 1)


def runaway():
    return runaway()


def is_even(number):
    return True if number == 0 else is_odd(number - 1)


def is_odd(number):
    return False if number == 0 else is_even(number - 1)


def ackermann(m, n):
    if m == 0:
        return n + 1
    if n == 0:
        return ackermann(m - 1, 1)
    return ackermann(m - 1, ackermann(m, n - 1))


def hanoi(disks, source="A", target="C", spare="B"):
    if disks == 0:
        return 0
    moves = hanoi(disks - 1, source, spare, target)
    return moves + 1 + hanoi(disks - 1, spare, target, source)


def permutations(items):
    if not items:
        yield ()
    for position, first in enumerate(items):
        for rest in permutations(items[:position] + items[position + 1 :]):
            yield first, *rest


class Node:
    def __init__(self, key, left=None, right=None):
        self.key, self.left, self.right = key, left, right


def total(node):
    return 0 if node is None else node.key + total(node.left) + total(node.right)


def main():
    try:
        runaway()
    except RecursionError as error:
        print("caught", error)
    sys.setrecursionlimit(60_000)
    print("depth", depth(50_000))
    print("parity", is_even(30_000), is_odd(30_000))
    print("ackermann", ackermann(2, 300), ackermann(3, 5))
    print("hanoi", hanoi(14))
    print("permutations", sum(1 for _ in permutations(tuple(range(7)))), list(permutations("abc"))[3])
    tree = None
    for key in range(20_000):
        tree = Node(key, tree) if key % 2 else Node(key, None, tree)
    print("tree", total(tree))
    while tree:  # taken apart from the top: no deep chain of destructors
        tree = tree.left or tree.right


main()
