"""Joins orders, customers and products in pandas; pivots, ranks, cuts into bands, and writes JSON and CSV."""

import json

import pandas as pd


def read():
    customers = pd.read_json("inputs/customers.json")
    orders = pd.read_csv("inputs/orders.csv")
    products = pd.read_csv("inputs/products.tsv", sep="\t", index_col="sku")
    return customers, orders, products


def main():
    customers, orders, products = read()
    joined = orders.merge(customers, left_on="customer", right_on="id", how="left", indicator=True)
    orphans = joined[joined["_merge"] == "left_only"]
    print("orphans", len(orphans), sorted(orphans["customer"].unique().tolist()))
    full = joined[joined["_merge"] == "both"].join(products, on="sku", how="inner")
    full["total"] = full["quantity"] * full["cents"]

    pivot = full.pivot_table(index="country", columns="category", values="total", aggfunc="sum", fill_value=0)
    pivot["all"] = pivot.sum(axis=1)
    print("pivot", *pivot.columns)
    for country, row in pivot.astype(int).iterrows():
        print(country, *row)

    spent = full.groupby("customer")["total"].sum()
    ranked = spent.rank(method="dense", ascending=False).astype(int)
    print("top", [(int(c), int(spent[c])) for c in ranked.sort_values(kind="stable").index[:3]])
    bands = pd.cut(spent, [0, 60_000, 100_000, float("inf")], labels=["low", "middle", "high"], right=False)
    print("bands", {str(band): int(count) for band, count in bands.value_counts(sort=False).items()})

    long = pivot.drop(columns="all").reset_index().melt(id_vars="country", value_name="cents")
    print("long", long.shape, int(long["cents"].sum()))
    multi = full.set_index(["country", "category"]).sort_index()["total"]
    print("slice", int(multi.loc[("FR", slice(None))].sum()))
    named = customers["name"].str.extract(r"^(?P<first>\w+) (?P<last>\w+)$")
    print("names", named["last"].str.upper().value_counts().sort_index().to_dict())
    result = {country: row.astype(int).to_dict() for country, row in pivot.iterrows()}
    with open("/output/pivot.json", "w") as file:
        json.dump(result, file)
    full.sort_values(["order"]).loc[:, ["order", "total"]].to_csv("/output/totals.csv", index=False)


main()
