"""What data programs import first: each package does one small thing of its own."""

import importlib
import io
import warnings

import networkx
import numpy as np
import statsmodels.api as sm
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MODULES = """
bs4 html5lib jinja2 joblib lxml.etree lxml.html matplotlib.animation matplotlib.backends.backend_pdf
matplotlib.backends.backend_svg mpl_toolkits.mplot3d networkx.algorithms.community networkx.drawing.nx_pylab
numpy.polynomial numpy.testing openpyxl.chart openpyxl.styles pandas.api.types pandas.io.formats.style pandas.plotting
pandas.tseries.holiday patsy PIL.ImageFilter PIL.JpegImagePlugin scipy.cluster.hierarchy scipy.fft scipy.integrate
scipy.interpolate scipy.io scipy.linalg scipy.ndimage scipy.optimize scipy.signal scipy.sparse.linalg scipy.spatial
scipy.special scipy.stats seaborn.objects sklearn.cluster sklearn.compose sklearn.decomposition sklearn.ensemble
sklearn.feature_extraction.text sklearn.gaussian_process sklearn.impute sklearn.inspection sklearn.manifold
sklearn.metrics sklearn.mixture sklearn.naive_bayes sklearn.neighbors sklearn.neural_network sklearn.svm sklearn.tree
statsmodels.formula.api statsmodels.graphics.api statsmodels.stats.multicomp statsmodels.tsa.api sympy.parsing
sympy.physics.units tabulate xlrd
""".split()

warnings.simplefilter("ignore", DeprecationWarning)
for name in MODULES:
    importlib.import_module(name)
print(len(MODULES), "modules")

iris = load_iris()
train, test, wanted, truth = train_test_split(iris.data, iris.target, random_state=1, stratify=iris.target)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train, wanted)
print("classified", model.score(test, truth) > 0.9)

x = np.arange(20.0)
fitted = sm.OLS(3 * x + 2, sm.add_constant(x)).fit()
print("line", *fitted.params.round(6))

graph = networkx.Graph([("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "e")])
print("path", *networkx.shortest_path(graph, "b", "e")[::2], networkx.density(graph))

picture = Image.new("RGB", (80, 30), "white")
ImageDraw.Draw(picture).text((5, 5), "中文", fill="black", font=ImageFont.truetype("DroidSansFallback.ttf", 16))
jpeg = io.BytesIO()
picture.save(jpeg, "JPEG")
print("picture", Image.open(jpeg).size, min(picture.convert("L").getdata()) < 50)
