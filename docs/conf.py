"""Configuration of the site: ``python -m sphinx -W -n docs docs/_build/html``."""

import os
import shutil
import sys
import zlib
from importlib.resources import files
from pathlib import Path

from sphinx.ext import autosummary

import rbst
from rbst.estimators import ESTIMATORS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# Pages of names that have gone would stay, outside every table of contents.
shutil.rmtree(HERE / "api" / "generated", ignore_errors=True)

project = "rbst"
author = "The rbst developers"
copyright = "The rbst developers"
version = release = rbst.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
    "sphinx_copybutton",
    "equation_links",
    "playground",
    "readable_signatures",
    "side_by_side",
    "unbroken",
]
exclude_patterns = ["_build", "_ext"]
templates_path = ["_templates"]
default_role = "literal"
nitpicky = True

autodoc_inherit_docstrings = False
autodoc_default_options = {"member-order": "bysource", "no-value": True}
autodoc_type_aliases = {"DTypeLike": "numpy.typing.DTypeLike"}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
autosummary.WELL_KNOWN_ABBREVIATIONS += ("Eq.", "Eqs.")  # these full stops end no summary
napoleon_google_docstring = False
napoleon_attr_annotations = False
napoleon_use_rtype = False
add_module_names = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Pages of other projects that signatures link to. The build asks no network for their inventories.
ELSEWHERE = {
    "python": (
        "https://docs.python.org/3/",
        {
            "library/collections.abc.html": [
                f"collections.abc.{name}"
                for name in ("Callable", "Iterable", "Mapping", "Sequence")
            ],
            "library/exceptions.html": ["ValueError"],
            "library/os.html": ["os.PathLike"],
            "library/typing.html": ["typing.Any", "typing.Literal"],
        },
    ),
    "matplotlib": (
        "https://matplotlib.org/stable/",
        {"api/_as_gen/matplotlib.axes.Axes.html": ["matplotlib.axes.Axes"]},
    ),
    "numpy": (
        "https://numpy.org/doc/stable/",
        {
            "reference/generated/numpy.ndarray.html": ["numpy.ndarray"],
            "reference/random/generator.html": ["numpy.random.Generator"],
            "reference/typing.html": ["numpy.typing.DTypeLike"],
        },
    ),
}


def inventory(project: str, pages: dict[str, list[str]]) -> str:
    """A file in which intersphinx finds these names and no others."""
    head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n# zlib\n"
    lines = [f"{name} py:class 1 {page}#$ -\n" for page, names in pages.items() for name in names]
    path = HERE / "_build" / "inventories" / f"{project}.inv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress("".join(lines).encode()))
    return str(path)


intersphinx_mapping = {
    project: (address, inventory(project, pages)) for project, (address, pages) in ELSEWHERE.items()
}

myst_enable_extensions = ["amsmath", "dollarmath", "substitution"]
myst_heading_anchors = 3


# A workflow of GitHub knows the address of the source; elsewhere there is none to give.
server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
source = f"{server}/{repository}" if server and repository else ""

myst_substitutions = {
    "source": f"The source: <{source}>." if source else "",
    "names_of_estimators": ", ".join(f"`{entry.name}`" for entry in ESTIMATORS),
    "version": version,
}

sphinx_gallery_conf = {
    "examples_dirs": "../tutorials",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"/\d\d_\w+\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": (),
    "image_scrapers": ("vector_figures",),
    "remove_config_comments": True,
    "doc_module": ("rbst",),
    "reference_url": {"rbst": None},
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 3600,
    "write_computation_times": False,
}

html_theme = "furo"
html_theme_options = (
    {
        "source_repository": source,
        "source_branch": "main",
        "source_directory": "docs/",
    }
    if source
    else {}
)
html_title = "rbst"
mathjax = files("mathjax") / "static/mathjax/es5/tex-svg-full.js"  # of django-static-mathjax
html_static_path = ["_static", str(mathjax)]
html_favicon = "_static/favicon.svg"
html_css_files = ["rbst.css"]
html_copy_source = False
mathjax_path = mathjax.name
mathjax3_config = {"svg": {"scale": 0.95}}
