"""scipy and sympy: fitting, optimisation, integration, an ODE, statistics; symbolic algebra and calculus."""

import numpy as np
import sympy
from scipy import integrate, interpolate, linalg, optimize, sparse, stats


def numeric():
    x = np.linspace(0, 10, 200)
    y = 2.5 * np.exp(-0.7 * x) + 1.5
    (a, k, c), _ = optimize.curve_fit(lambda x, a, k, c: a * np.exp(-k * x) + c, x, y, p0=(1, 1, 1))
    print(f"fit {a:.4f} {k:.4f} {c:.4f}")
    plan = optimize.linprog([-3, -5], A_ub=[[1, 0], [0, 2], [3, 2]], b_ub=[4, 12, 18])
    print("plan", plan.x.round(6).tolist(), round(-plan.fun, 6))
    print("root", f"{optimize.brentq(lambda x: x**3 - x - 2, 1, 2):.9f}")
    area, _ = integrate.quad(lambda x: np.exp(-(x**2)), -np.inf, np.inf)
    print("area", f"{area**2:.9f}")
    fall = integrate.solve_ivp(lambda t, s: [s[1], -s[0]], (0, np.pi), [1, 0], rtol=1e-9, atol=1e-9)
    print("swing", f"{fall.y[0, -1]:.5f}")
    print("determinant", round(linalg.det(linalg.hilbert(4)) * 6048000, 6))
    chain = sparse.diags([1, -2, 1], [-1, 0, 1], shape=(500, 500), format="csr")
    print("sparse", chain.nnz, int((chain @ np.ones(500)).sum()))
    print("spline", f"{float(interpolate.CubicSpline([0, 1, 2, 3], [0, 1, 8, 27])(1.5)):.4f}")
    print("test", f"{stats.ttest_ind([1, 2, 3, 4], [3, 4, 5, 6]).pvalue:.4f}", f"{stats.norm.ppf(0.975):.6f}")


def symbolic():
    x, y, n = sympy.symbols("x y n")
    print("solve", sympy.solve(x**2 - 5 * x + 6, x), sympy.solve([x + y - 3, x - y - 1], [x, y]))
    print("derive", sympy.diff(x**3 * sympy.sin(x), x))
    print("integral", sympy.integrate(1 / (1 + x**2), (x, 0, 1)))
    print("factor", sympy.factor(x**4 - 1), "expand", sympy.expand((x + y) ** 3))
    print("series", sympy.series(sympy.exp(x), x, 0, 5))
    print("sum", sympy.factor(sympy.summation(n**2, (n, 1, x))))
    print("limit", sympy.limit((1 + 1 / x) ** x, x, sympy.oo), "prime", sympy.factorint(2**61 + 1))
    print("matrix", sorted(sympy.Matrix([[2, 1], [1, 2]]).eigenvals().items()))


numeric()
symbolic()
