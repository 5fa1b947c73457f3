"""Configuration of the site: ``python -m sphinx -W -n docs docs/_build/html``."""

import sys
from pathlib import Path

from sphinx.ext import autosummary

import rbst
from rbst.estimators import ESTIMATORS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

from local_mathjax import provide_mathjax  # noqa: E402

project = "rbst"
author = "The rbst developers"
copyright = "The rbst developers"
version = release = rbst.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
    "equation_links",
    "plain_docstrings",
    "playground",
    "public_names",
    "side_by_side",
    "unbroken_math",
]
exclude_patterns = ["_build", "_ext"]
default_role = "literal"
nitpicky = True
nitpick_ignore = [("py:class", "collections.abc.Callable")]  # another project's page

# Docstrings state shapes in words, which says more than an annotation can.
autodoc_typehints = "none"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "member-order": "bysource", "no-value": True}
autosummary_generate = False
autosummary.WELL_KNOWN_ABBREVIATIONS += ("Eq.", "Eqs.")  # these full stops end no summary
napoleon_google_docstring = False
napoleon_attr_annotations = False
napoleon_use_rtype = False
add_module_names = False

myst_enable_extensions = ["amsmath", "dollarmath", "substitution"]
myst_heading_anchors = 3


def table_of_estimators() -> str:
    """The rows of the package's own table, as Markdown."""
    lines = ["| name | estimate | bias | evaluates | source |", "|---|---|---|---|---|"]
    for entry in ESTIMATORS:
        cells = (entry.equation, entry.bias, entry.evaluations, entry.source)
        lines.append(f"| `{entry.name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


myst_substitutions = {
    "names_of_estimators": ", ".join(f"`{entry.name}`" for entry in ESTIMATORS),
    "table_of_estimators": table_of_estimators(),
    "version": version,
}

sphinx_gallery_conf = {
    "examples_dirs": "../tutorials",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"/\d\d_\w+\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": (),
    "image_srcset": ["2x"],
    "remove_config_comments": True,
    "doc_module": ("rbst",),
    "reference_url": {"rbst": None},
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 3600,
    "write_computation_times": False,
}

html_theme = "furo"
html_title = "rbst"
html_static_path = ["_static", str(provide_mathjax(HERE / "_build" / "static").parent)]
html_favicon = "_static/favicon.svg"
html_css_files = ["rbst.css"]
html_copy_source = False
mathjax_path = "tex-svg-full.js"
mathjax3_config = {"svg": {"scale": 0.95}}
