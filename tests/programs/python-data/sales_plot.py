"""Groups sales by region and month, prints the totals, and plots them."""

import matplotlib.pyplot as plt
import pandas as pd


def load(path):
    sales = pd.read_csv(path, parse_dates=["date"], dtype={"region": "category"})
    sales["revenue"] = sales["quantity"] * sales["price_cents"]
    return sales.dropna(subset=["region"])


def report(sales):
    grouped = sales.groupby("region", observed=True).agg(
        revenue=("revenue", "sum"), orders=("quantity", "size"), largest=("revenue", "max")
    )
    return grouped.sort_values("revenue", ascending=False)


def plot(sales, path):
    monthly = sales.pivot_table(
        index=sales["date"].dt.month, columns="region", values="revenue", aggfunc="sum", observed=True
    )
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=100)
    (monthly / 100).plot(ax=axes, marker="o")
    axes.set(title="Revenue — 2024, by région", xlabel="month", ylabel="€")
    axes.grid(alpha=0.3)
    figure.savefig(path)
    plt.close(figure)
    return monthly


def main():
    sales = load("inputs/sales.csv")
    for region, row in report(sales).iterrows():
        print(f"{region:<8}{row.revenue:>12}{row.orders:>6}{row.largest:>9}")
    monthly = plot(sales, "/output/revenue.png")
    best = monthly.sum(axis=1).idxmax()
    print("best month", best, int(monthly.sum(axis=1)[best]))
    monthly.astype(int).to_csv("/output/monthly.csv")


main()
