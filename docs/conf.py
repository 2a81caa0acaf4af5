"""How the documentation is built: ``sphinx-build -W --keep-going docs docs/_build``."""

import ast
import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
project = "hemaest"
author = "the hemaest developers"
copyright = author  # noqa: A001
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "README.md"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "hemaest"
html_static_path = ["_static"]
html_css_files = ["hemaest.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "inherited-members": False, "show-inheritance": False}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/plot_",
    "within_subsection_order": "FileNameSortKey",
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "abort_on_example_error": True,
    "reset_modules": ("matplotlib",),
}

# every subpackage with public names, by task, as in the user guide; what does not exist is left out
SUBPACKAGES = {
    "images": "The image type, the input check, and reading files",
    "cellmap": "Read and write cell maps",
    "groups": "Group-aware splits and groups from file names",
    "datasets": "Synthetic cells with known truth; loaders of folders and public sets",
    "preprocessing": "Size, crop, mask and local contrast",
    "stain": "Stain normalization and augmentation",
    "segmentation": "Nucleus and cytoplasm; the leukocytes of a field",
    "features": "Shape, chromatin and color as named columns",
    "deep": "Networks as scikit-learn estimators",
    "pretrained": "The models that ship with the package",
    "balance": "Classes of unequal size",
    "recipes": "Complete pipelines by name",
    "evaluation": "Audit, split, compare, calibrate",
    "clinical": "Cell taxonomy; answers about smears and patients",
    "clinical.agreement": "Agreement between two methods",
    "inspection": "Figures of cells, errors and heat maps",
    "report": "One self-contained HTML file",
    "persistence": "Save and load",
    "scale": "Streams, clusters and whole slides",
    "web": "The review page and its HTTP API",
    "base": "Base classes for steps of your own",
}


def public_names(module):
    """Return what a module lists as public, without importing it."""
    folder = ROOT.joinpath("hemaest", *module.split("."))
    file = folder / "__init__.pyi" if folder.is_dir() else folder.with_suffix(".py")
    if not file.is_file():
        return []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            # a package inside has a section of its own
            return [name for name in names if not (folder / name).is_dir()]
    return []


def write_api():
    """Write the page of the API from the lists of public names."""
    lines = [
        "API reference",
        "=============",
        "",
        "All public names, by subpackage.",
        "",
    ]
    for module, summary in SUBPACKAGES.items():
        names = public_names(module)
        if not names:
            continue
        title = f"hemaest.{module}"
        lines += [title, "-" * len(title), "", summary + ".", ""]
        lines += [f".. currentmodule:: hemaest.{module}", ""]
        lines += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in names] + [""]
    page, text = DOCS / "api.rst", "\n".join(lines)
    if not page.is_file() or page.read_text() != text:
        page.write_text(text)


def skip_routing(app, what, name, item, skip, options):
    """Leave out the methods that scikit-learn adds for routing: its own pages explain them."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    """Make what is generated before Sphinx looks for it."""
    sys.path.insert(0, str(ROOT))
    # examples run in this process and in others that joblib starts
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    write_api()
    app.connect("autodoc-skip-member", skip_routing)
