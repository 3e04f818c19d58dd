"""Reads an XML catalogue, queries and changes it, writes XML and HTML; parses HTML back."""

import html
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

NS = {"c": "urn:example:catalogue"}


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self.inside = tag == "td"
        if tag == "a":
            self.rows[-1].append(dict(attrs)["href"])

    def handle_data(self, data):
        if self.inside:
            self.rows[-1].append(data)

    def handle_endtag(self, tag):
        self.inside = False


def main():
    tree = ElementTree.parse("inputs/catalogue.xml")
    root = tree.getroot()
    books = root.findall("c:book", NS)
    print("books", len(books), sorted({book.get("lang") for book in books}))
    cheap = [book for book in books if float(book.findtext("c:price", namespaces=NS)) < 20]
    print("cheap", [book.get("id") for book in cheap])
    for book in books:
        price = book.find("c:price", NS)
        if book.get("lang") == "de":
            price.text = f"{float(price.text) * 0.9:.2f}"
        if book in cheap:
            root.remove(book)
    ElementTree.register_namespace("", NS["c"])
    tree.write("/output/catalogue.xml", encoding="utf-8", xml_declaration=True)

    rows = []
    for book in root.findall("c:book", NS):
        title = book.findtext("c:title", namespaces=NS)
        link = "https://shop.example/find?" + urlencode({"q": title, "lang": book.get("lang")})
        rows.append(f'<tr><td>{html.escape(title)}</td><a href="{html.escape(link)}">buy</a></tr>')
    page = "<table>" + "\n".join(rows) + "</table>"
    Path("/output/page.html").write_text(page, encoding="utf-8")
    cells = Cells()
    cells.feed(page)
    for title, link in cells.rows:
        print(title, parse_qs(urlsplit(link).query)["q"] == [title], sep=" | ")
    try:
        ElementTree.fromstring("<a><b></a>")
    except ElementTree.ParseError as error:
        print("broken:", error)


main()
