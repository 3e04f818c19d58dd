# ruff: noqa: T201 - a program that prints

"""Reads a table, prints a summary and leaves a plot.

mayfly run plot.py --env python-data --file data.csv --out results/
"""

import matplotlib.pyplot as plt
import pandas as pd

sightings = pd.read_csv("data.csv", parse_dates=["day"])
summary = sightings.groupby("species")["seen"].agg(["sum", "mean", "max"]).round(1)
print(f"{len(sightings)} observations over {sightings['day'].nunique()} days")
print(summary.to_string())

figure, axes = plt.subplots(figsize=(7, 4))
for species, seen in sightings.groupby("species"):
    axes.plot(seen["day"], seen["seen"], marker="o", label=species)
axes.set(title="Mayflies over the water", xlabel="day", ylabel="seen")
axes.legend()
figure.autofmt_xdate()
figure.savefig("plot.png", dpi=100)
