"""An inventory in SQLite: a file in /work, constraints, rollback, window functions, backup into /output."""

import os
import random
import sqlite3

SCHEMA = """
CREATE TABLE product (sku TEXT PRIMARY KEY, name TEXT NOT NULL, price INTEGER CHECK (price > 0));
CREATE TABLE movement (
    id INTEGER PRIMARY KEY, sku TEXT NOT NULL REFERENCES product, day TEXT NOT NULL, quantity INTEGER NOT NULL
);
CREATE INDEX movement_sku ON movement (sku, day);
CREATE VIEW stock AS SELECT sku, sum(quantity) AS quantity FROM movement GROUP BY sku;
"""


def fill(db, rng):
    products = [(f"P{n:03}", f"product {n}", rng.randrange(100, 9000)) for n in range(40)]
    db.executemany("INSERT INTO product VALUES (?, ?, ?)", products)
    movements = [
        (f"P{rng.randrange(40):03}", f"2025-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}", rng.randrange(-3, 9))
        for _ in range(5000)
    ]
    db.executemany("INSERT INTO movement (sku, day, quantity) VALUES (?, ?, ?)", movements)


def refused(db, statement):
    try:
        with db:
            db.execute("INSERT INTO product VALUES ('Q1', 'rolled back', 1)")
            db.execute(statement)
    except sqlite3.IntegrityError as error:
        print("refused:", error)


def main():
    db = sqlite3.connect("/work/inventory.db")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA foreign_keys=ON")
    db.executescript(SCHEMA)
    with db:
        fill(db, random.Random(11))
    refused(db, "INSERT INTO movement (sku, day, quantity) VALUES ('NONE', '2025-01-01', 1)")
    refused(db, "INSERT INTO product VALUES ('P001', 'again', 5)")
    refused(db, "INSERT INTO product VALUES ('P999', 'free', 0)")
    print("products", *db.execute("SELECT count(*), max(sku) FROM product").fetchone())
    query = """
        SELECT sku, quantity * price, rank() OVER (ORDER BY quantity * price DESC)
        FROM stock JOIN product USING (sku) ORDER BY 3, 1 LIMIT 4
    """
    for row in db.execute(query):
        print(*row)
    db.create_function("quarter", 1, lambda day: (int(day[5:7]) + 2) // 3)
    print(db.execute("SELECT quarter(day), sum(quantity) FROM movement GROUP BY 1 ORDER BY 1").fetchall())
    with sqlite3.connect("/output/backup.db") as copy:
        db.backup(copy)
    print(db.execute("PRAGMA integrity_check").fetchone()[0], os.path.getsize("/output/backup.db") > 100_000)


main()
