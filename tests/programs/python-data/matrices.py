"""Matrix maths: exact integer products, systems, decompositions, statistics and a heat equation in numpy."""

import sys

import numpy as np


def integer_matrix(rows, columns, salt):
    row, column = np.indices((rows, columns))
    return (row * 31 + column * 17 + row * column + salt) % 23 - 11


def heat(size, steps):
    """Explicit scheme; hot on the left edge."""
    field = np.zeros((size, size))
    field[:, 0] = 100
    for _ in range(steps):
        inner = field[1:-1, 1:-1]
        around = field[:-2, 1:-1] + field[2:, 1:-1] + field[1:-1, :-2] + field[1:-1, 2:]
        field[1:-1, 1:-1] = inner + 0.2 * (around - 4 * inner)
    return field


def main():
    size = int(sys.argv[1])
    a, b = integer_matrix(size, size, 3), integer_matrix(size, size, 8)
    product = a @ b
    print("product", product.sum(), np.trace(product), product[1, 2], product.dtype)
    print("power", np.linalg.matrix_power(np.array([[1, 1], [1, 0]], dtype=object), 90)[0, 1])

    system = a + np.eye(size) * 50
    wanted = np.arange(size, dtype=float)
    solution = np.linalg.solve(system, system @ wanted)
    print("solved", np.allclose(solution, wanted))
    symmetric = a + a.T
    values, vectors = np.linalg.eigh(symmetric)
    print("eigen", np.allclose(vectors @ np.diag(values) @ vectors.T, symmetric), round(values.sum()) == 2 * np.trace(a))
    u, s, vh = np.linalg.svd(a.astype(float), full_matrices=False)
    print("svd", np.allclose((u * s) @ vh, a), np.linalg.matrix_rank(a) == (s > 1e-8 * s[0]).sum())
    q, r = np.linalg.qr(system)
    print("qr", np.allclose(q.T @ q, np.eye(size)), np.allclose(np.tril(r, -1), 0))

    spectrum = np.abs(np.fft.rfft(np.sin(2 * np.pi * 9 * np.arange(256) / 256) + 0.5))
    print("fft", spectrum[1:].argmax(), round(spectrum[0]))
    field = heat(20, 400)
    print("heat", f"{field[10, 1]:.4f} {field[10, 10]:.6f}")
    rng = np.random.default_rng(7)
    sample = rng.normal(5, 2, 200_000)
    print("random", abs(sample.mean() - 5) < 0.02, abs(sample.std() - 2) < 0.02)
    np.savez("/output/matrices.npz", product=product, field=field)


main()
