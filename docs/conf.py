"""Settings of the documentation; ``make docs`` builds it, without a network."""

import os
import re
import sys
from html import escape
from pathlib import Path

import matplotlib as mpl
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from numpydoc.docscrape_sphinx import SphinxDocString
from sphinx.util import logging

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
mpl.use("agg")
DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import _api  # noqa: E402
import _outputs  # noqa: E402

import sklearn_molge  # noqa: E402

logger = logging.getLogger(__name__)
PUBLIC = _api.all_names()

project = "sklearn_molge"
author = "the sklearn_molge developers"
copyright = "the sklearn_molge developers, BSD-3-Clause"
version = release = sklearn_molge.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]

# Links into other projects need a network: only on request.
if os.environ.get("SKLEARN_MOLGE_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

autodoc_typehints = "none"
# Defaults as they are written: QuadrupletLoss, 32 * 2**20.
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.output) > div.highlight > pre"

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "reference_url": {"sklearn_molge": None},
    "doc_module": ("sklearn_molge",),
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "capture_repr": (),
    "write_computation_times": False,
    "reset_modules": ("matplotlib", "seaborn", "_strict.warnings_are_errors"),
    "reset_modules_order": "both",
    "abort_on_example_error": True,
    "min_reported_time": 1,
    "matplotlib_animations": False,
}

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "sklearn_molge"
html_static_path = ["_static"]
html_css_files = ["molge.css"]
html_show_sourcelink = False
html_sidebars = {
    "index": [],
    "getting_started": [],
    "glossary": [],
    "faq": [],
    "paper": [],
    "benchmarks": [],
    "architecture": [],
    "contributing": [],
    "changes": [],
}
html_theme_options = {
    "logo": {"text": "sklearn_molge"},
    "navbar_align": "left",
    "header_links_before_dropdown": 5,
    "show_toc_level": 2,
    "show_prev_next": False,
    "navigation_depth": 2,
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def math_to_mathml(self, node):
    """Write a formula as MathML, which browsers draw without a script or a network."""
    block = isinstance(node, nodes.math_block)
    # What docutils does not know: sizes of brackets, and \frac12 without braces.
    text = re.sub(r"\\[bB]igg?[lr]?(?![a-zA-Z])", "", node.astext())
    text = re.sub(r"\\([dt]?frac)(\d)(\w)", r"\\\1{\2}{\3}", text)
    try:
        formula = tex2mathml(text, as_block=block)
    except MathError as error:
        logger.warning("formula %r: %s", text, error, location=node)
        formula = f"<code>{escape(text)}</code>"
    self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def describe_attribute(self, name, description, fake_autosummary):
    """Keep the class docstring's own words for an attribute that is a property.

    numpydoc would take the property's docstring, which may be scikit-learn's.
    """
    return process_param(self, name, description, False)


process_param = SphinxDocString._process_param
SphinxDocString._process_param = describe_attribute


def use_data_docstring(app, what, name, obj, options, lines):
    """Give a constant the string below its assignment as docstring."""
    if what != "data" or not name.startswith("sklearn_molge."):
        return
    package, constant = name.removeprefix("sklearn_molge.").rsplit(".", 1)
    if text := _api.data_docstring(package, constant):
        lines[:] = text.split("\n")


def tidy_types(app, what, name, obj, options, lines):
    """Join types that are broken over lines; keep ``n_features_in_`` from being a link.

    The first stand in raw docstrings, where a backslash at the end of a line stays.
    """
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    lines[:] = text.split("\n")
    for i, line in enumerate(lines):
        if match := re.match(r"[\w*, ]+ : ", line):
            rest = re.sub(r"(?<![`\w])(\w+)_(?=[,) ]|$)", r"\1\\_", line[match.end() :])
            lines[i] = match[0] + rest


def link_public_name(app, env, node, contnode):
    """Link a bare name of another package, as docstrings write it in See Also."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    matches = [name for name in PUBLIC if name.endswith(f".{target}")]
    if len(matches) != 1:
        return None
    return env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", matches[0], node, contnode
    )


def show_outputs(app, docname, source):
    """Run the code of a page and show below each block what it prints and draws."""
    if app.env.doc2path(docname).suffix == ".md":
        source[0] = _outputs.with_outputs(source[0], docname, DOCS)


def setup(app):
    """Write the API pages before Sphinx looks for its sources."""
    _api.write(DOCS / "api")
    app.add_html_math_renderer("mathml", (math_to_mathml, None), (math_to_mathml, None))
    app.connect("autodoc-process-docstring", use_data_docstring, priority=100)
    app.connect("autodoc-process-docstring", tidy_types, priority=110)
    app.connect("source-read", show_outputs)
    app.connect("missing-reference", link_public_name)
