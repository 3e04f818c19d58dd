"""Monte Carlo in numpy over several processes: independent streams, results joined in the parent."""

import multiprocessing
import os

import numpy as np
import pandas as pd

DRAWS = 200_000


def pi(seed):
    rng = np.random.default_rng(seed)
    points = rng.random((DRAWS, 2))
    inside = (points**2).sum(axis=1) <= 1
    return os.getpid(), int(inside.sum())


def legacy(_):
    """The global generator must not repeat its numbers in each child, once it is seeded there."""
    np.random.seed()
    return np.random.random()


def walk(arguments):
    seed, steps = arguments
    rng = np.random.default_rng(seed)
    path = rng.choice([-1, 1], size=steps).cumsum()
    return {"seed": seed, "end": int(path[-1]), "highest": int(path.max())}


def multiply(seed):
    """BLAS in a child process."""
    matrix = np.random.default_rng(seed).integers(0, 10, (120, 120)).astype(float)
    return float(np.trace(matrix @ matrix.T) - (matrix**2).sum())


def main():
    with multiprocessing.Pool(3) as pool:
        counted = pool.map(pi, range(6), chunksize=2)
        estimate = 4 * sum(inside for _, inside in counted) / (6 * DRAWS)
        print("pi", abs(estimate - np.pi) < 0.01, len({inside for _, inside in counted}))
        print("again", pi(3)[1] == counted[3][1])
        print("legacy", len(set(pool.map(legacy, range(6), chunksize=1))))
        walks = pd.DataFrame(pool.map(walk, [(seed, 1000) for seed in range(100)]))
        print("blas", pool.map(multiply, range(3)))
    print("walks", walks.shape, bool((walks["end"] % 2 == 0).all()), bool((walks["highest"] >= walks["end"]).all()))
    walks.to_csv("/output/walks.csv", index=False)


if __name__ == "__main__":
    main()
