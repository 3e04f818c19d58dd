"""Cheapest ways over a weighted grid from standard input, by Dijkstra with a heap; draws one way."""

import heapq
import sys


def neighbours(row, column, height, width):
    for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        if 0 <= row + down < height and 0 <= column + right < width:
            yield row + down, column + right


def cheapest(grid, start):
    height, width = len(grid), len(grid[0])
    cost, previous = {start: 0}, {}
    heap = [(0, start)]
    while heap:
        so_far, place = heapq.heappop(heap)
        if so_far > cost[place]:
            continue
        for near in neighbours(*place, height, width):
            step = grid[near[0]][near[1]]
            if step is None:
                continue
            if so_far + step < cost.get(near, float("inf")):
                cost[near] = so_far + step
                previous[near] = place
                heapq.heappush(heap, (cost[near], near))
    return cost, previous


def main():
    grid = [[None if c == "#" else int(c) for c in line.strip()] for line in sys.stdin if line.strip()]
    height, width = len(grid), len(grid[0])
    cost, previous = cheapest(grid, (0, 0))
    print("reached", len(cost), "of", sum(cell is not None for row in grid for cell in row))
    print("farthest", max(cost.values()), "all", sum(cost.values()))
    place = (height - 1, width - 1)
    if place not in cost:
        sys.exit("no way to the corner")
    way = [place]
    while place in previous:
        place = previous[place]
        way.append(place)
    print("corner", cost[height - 1, width - 1])
    on_way = set(way)
    for row in range(height):
        cells = ("*" if (row, c) in on_way else "#" if grid[row][c] is None else "." for c in range(width))
        print("".join(cells))


main()
