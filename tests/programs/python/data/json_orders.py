"""Reads a large JSON document of nested orders and reports revenue; all money is in cents."""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path


def load(path):
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    if document["format"] != "orders/2":
        raise ValueError(f"unknown format {document['format']!r}")
    return document["orders"]


def order_total(order):
    subtotal = sum(line["quantity"] * line["unit_cents"] for line in order["lines"])
    discount = order.get("discount_percent") or 0
    return subtotal - subtotal * discount // 100


def main():
    orders = load("inputs/data/orders.json")
    by_customer = defaultdict(int)
    units = Counter()
    by_month = defaultdict(int)
    cancelled = 0
    for order in orders:
        if order["status"] == "cancelled":
            cancelled += 1
            continue
        total = order_total(order)
        by_customer[order["customer"]["email"]] += total
        by_month[order["placed"][:7]] += total
        for line in order["lines"]:
            units[line["sku"]] += line["quantity"]
    print(f"orders {len(orders)}, cancelled {cancelled}, customers {len(by_customer)}")
    for email, cents in sorted(by_customer.items(), key=lambda item: (-item[1], item[0]))[:5]:
        print(f"{email:<24}{cents / 100:>14,.2f}")
    for sku, count in sorted(units.items(), key=lambda item: (-item[1], item[0]))[:3]:
        print(f"{sku} x{count}")
    with Path("/output/months.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["month", "cents"])
        writer.writerows(sorted(by_month.items()))


if __name__ == "__main__":
    main()
