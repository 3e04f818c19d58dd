"""Tables that come as a workbook, as a web page and as text, and go out as each of them."""

import warnings

import bs4
import jinja2
import lxml.etree
import pandas as pd

warnings.simplefilter("error")

stock = pd.read_csv("/inputs/stock.csv")
with pd.ExcelWriter("/output/stock.xlsx") as book:
    stock.to_excel(book, sheet_name="all", index=False)
    stock.groupby("place", as_index=False)["pieces"].sum().to_excel(book, sheet_name="places", index=False)
sheets = pd.read_excel("/output/stock.xlsx", sheet_name=None)
print("sheets", *sheets, sheets["all"].equals(stock))
print(sheets["places"].to_markdown(index=False))

page = stock.to_html(index=False)
for flavor in ("lxml", "bs4"):
    [table] = pd.read_html(page, flavor=flavor)
    print(flavor, table.equals(stock))
print("xml", pd.read_xml(stock.to_xml(index=False)).equals(stock))

styled = stock.style.hide(axis="index").highlight_max(subset=["pieces"], color="gold").to_html()
best = bs4.BeautifulSoup(styled, "lxml").find("td", id=styled.split("#", 1)[1].split(" ", 1)[0])
print("best", best.text)
print(len(lxml.etree.HTML(styled).xpath("//tbody/tr")), "rows")
print(jinja2.Template("{% for one in names %}{{ one|upper }} {% endfor %}").render(names=sorted(set(stock.place))))
