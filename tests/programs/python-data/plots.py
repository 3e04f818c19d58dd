"""Draws several figures of different kinds and formats with matplotlib."""

import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle

OUT = "/output/figures"


def grid():
    figure, axes = plt.subplots(2, 3, figsize=(9, 6), dpi=80, layout="constrained")
    x = np.linspace(0, 4 * np.pi, 400)
    axes[0, 0].plot(x, np.sin(x), label=r"$\sin x$")
    axes[0, 0].plot(x, np.exp(-x / 5) * np.cos(x), "--", label=r"$e^{-x/5}\cos x$")
    axes[0, 0].legend()
    axes[0, 1].bar(["α", "β", "γ"], [3, 7, 5], color=["tab:red", "tab:green", "tab:blue"])
    axes[0, 2].scatter(x, np.cos(x) ** 2, c=x, s=4)
    axes[1, 0].hist(np.random.default_rng(1).normal(size=5000), bins=40)
    mesh = axes[1, 1].imshow(np.outer(np.sin(x[::10]), np.cos(x[::10])), cmap="viridis")
    figure.colorbar(mesh, ax=axes[1, 1])
    axes[1, 2].pie([30, 45, 25], labels=["a", "b", "c"], autopct="%1.0f%%")
    return figure


def contour():
    x, y = np.meshgrid(np.linspace(-3, 3, 80), np.linspace(-3, 3, 80))
    figure, axes = plt.subplots(subplot_kw={"aspect": "equal"})
    axes.contour(x, y, np.exp(-(x**2) - y**2) * x)
    axes.add_patch(Circle((0, 0), 1, fill=False))
    axes.text(0, 0, "centre point")
    return figure


def surface():
    x, y = np.meshgrid(np.linspace(-2, 2, 20), np.linspace(-2, 2, 20))
    figure = plt.figure(figsize=(4, 4), dpi=100)
    figure.add_subplot(projection="3d").plot_surface(x, y, x**2 - y**2)
    return figure


def main():
    os.makedirs(OUT)
    print("backend", matplotlib.get_backend().lower())
    matplotlib.rcParams["svg.fonttype"] = "none"
    for make, names in ((grid, ["grid.png", "grid.pdf"]), (contour, ["contour.svg"]), (surface, ["surface.jpg"])):
        figure = make()
        for name in names:
            figure.savefig(f"{OUT}/{name}")
        print(make.__name__, len(figure.axes), [int(side) for side in figure.get_size_inches() * figure.dpi])
        plt.close(figure)
    print("open", plt.get_fignums())


main()
