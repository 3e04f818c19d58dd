"""Titles in Chinese, Japanese and Korean, in every kind of font and theme: nothing warns, and each glyph is drawn."""

import io
import warnings

import matplotlib
import matplotlib.pyplot as plt
import seaborn

warnings.simplefilter("error")
TITLES = ("销售额与利润（万元）", "売上の推移、カタカナ「ー」", "매출 추이와 이익", "Ümsatz 100 €")


def drawn(text, **font):
    """The pixels of a title."""
    figure = plt.figure(figsize=(3, 1), dpi=50)
    figure.suptitle(text, **font)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw")
    plt.close(figure)
    return buffer.getvalue()


def check(theme):
    for font in ({}, {"family": "serif", "weight": "bold"}, {"family": "monospace", "style": "italic"}):
        for title in TITLES:
            drawn(title, **font)
            # What a font lacks is drawn as the same box for each.
            assert len({drawn(glyph, **font) for glyph in title[:3]}) == 3, (theme, font, title)
    print(theme)


check("default")
seaborn.set_theme()
check("seaborn")
plt.rcdefaults()
matplotlib.use("agg")
plt.style.use("ggplot")
check("ggplot")
figure, axes = plt.subplots()
seaborn.barplot(x=["苹果", "りんご", "사과"], y=[3, 1, 2], ax=axes)
axes.set_title(TITLES[0])
for kind in ("png", "pdf", "svg", "ps"):
    figure.savefig(f"/output/titles.{kind}")
