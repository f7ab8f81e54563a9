"""Sphinx configuration."""

import re

import skmoe

project = "skmoe"
author = "The skmoe developers"
copyright = "2026, the skmoe developers"
release = version = skmoe.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # formulas without a network
    "myst_parser",  # for CHANGELOG.md alone
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
root_doc = "index"
nitpicky = False

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says types, shapes and units in words
# Class pages list the members by the template; numpydoc's own tables would
# point at pages that nobody generates.
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"demo\.py$",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skmoe",),
    "reference_url": {"skmoe": None},
    "within_subsection_order": "NumberOfCodeLinesSortKey",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "show_memory": False,
    "remove_config_comments": True,
    "plot_gallery": "True",
}

html_theme = "pydata_sphinx_theme"
html_title = f"skmoe {release}"
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False


def skip_routing(app, what, name, obj, skip, options):
    """Leave out what scikit-learn generates for metadata routing and output.

    These methods' docstrings refer to labels of scikit-learn's own pages.
    """
    generated = re.fullmatch(r"set_\w+_request|set_output|get_metadata_routing", name)
    return True if generated else skip


def quote_shapes(app, what, name, obj, options, lines):
    """Quote fitted attributes in shapes, such as "(n_features_in_,)".

    reStructuredText takes a word that ends in an underscore for a link.
    """
    lines[:] = [re.sub(r"\((\w+_)(?=[,)])", r"(``\1``", line) for line in lines]


def setup(app):
    app.connect("autodoc-skip-member", skip_routing)
    # Before numpydoc, which turns the sections into reStructuredText.
    app.connect("autodoc-process-docstring", quote_shapes, priority=100)
