"""A plot from a table: a sheet of a workbook, read by a tool, becomes an image that is the result.

mayfly run --timeout 60 --cell --env python-data deploy/examples/agents/sales_plot.py --tool 'excel.*' --out plots
"""

import matplotlib.pyplot as plt
import pandas as pd

from mayfly import tools

head, *rows = tools.excel.read_range(path="/data/sales.xlsx", sheet="Sales")["values"]
sales = pd.DataFrame(rows, columns=head)
sales["kept"] = sales["sold"] - sales["returned"]
by_month = sales.pivot_table(index="month", columns="region", values="kept", sort=False)

figure, axes = plt.subplots(figsize=(7, 4))
by_month.plot(ax=axes, marker="o")
axes.set(title="Sold and kept", xlabel="", ylabel="pieces")
by_month.sum().to_dict()
