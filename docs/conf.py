"""
The documentation site (``make docs``).

Every page is Markdown that a code forge shows as well. Two steps adapt it to the site:

* The tables of ``index.md`` become the navigation: a heading is a caption, the links in its rows are the pages.
* Links that leave this folder lead to a page of the site. ``security.md`` is filled with ``SECURITY.md``, and an
  example DAG is a section of ``examples.rst``. Other files of the repository are named without a link.

Only the ``.rst`` pages need Sphinx: the reference, made from docstrings, and the example DAGs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

from airflow_provider_mictlanx import __version__
from airflow_provider_mictlanx.client import MictlanXError

DOCS = Path(__file__).parent
ROOT = DOCS.parent
os.environ["AIRFLOW_HOME"] = str(ROOT / "build" / "airflow")  # Airflow writes its configuration when it is imported
__import__("airflow")  # before autodoc does: within it, pydantic refuses some of Airflow's models

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")

project = "airflow-provider-mictlanx"
author = "the authors of airflow-provider-mictlanx"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
highlight_language = "text"
myst_heading_anchors = 4
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
nitpicky = True
autodoc_inherit_docstrings = False  # those of fsspec and Airflow are not for this site
DOCUMENTED = r"client\.(async_client|errors|models|protocol|uri)|hooks\.mictlanx|operators|sensors"
nitpick_ignore_regex = [("py:.*", rf"(?!airflow_provider_mictlanx\.({DOCUMENTED})\.).*")]  # other packages, internals

ROOT_PAGES = {file.stem.lower(): file for file in ROOT.glob("*.md")}
"""Files that fill the pages of the same names, as far as there are such pages."""


def site_link(match: re.Match[str], folder: Path) -> str:
    """Return a link of a page in a folder of the repository as the site needs it."""
    text, link = match.groups()
    path, _, anchor = link.partition("#")
    if not path or "://" in link or link.startswith("mailto:"):
        return match[0]
    target = (folder / path).resolve()
    if target.parent == ROOT / "example_dags":
        return f"[{text}](#{target.stem})"
    if target.parent == ROOT and (DOCS / target.name.lower()).exists():
        target = DOCS / target.name.lower()
    if not target.is_relative_to(DOCS):
        return text
    return f"[{text}]({target.relative_to(DOCS)}{'#' * bool(anchor)}{anchor})"


def navigation(index: str) -> str:
    """Return one hidden table of contents for every heading of the start page whose table begins with links."""
    contents = []
    for section in index.split("\n## ")[1:]:
        caption, _, body = section.partition("\n")
        pages = re.findall(r"^\| \[([^\]]*)\]\(([\w/-]+)\.(?:md|rst)\)", body, re.MULTILINE)
        if pages:
            entries = [f"{title} <{page}>" for title, page in pages]
            contents.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```"]))
    return "\n\n".join(contents)


def prepare_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Adapt the text of a Markdown page to the site."""
    if page in ROOT_PAGES:
        app.env.note_dependency(str(ROOT_PAGES[page]))
        text, folder = ROOT_PAGES[page].read_text(encoding="utf-8"), ROOT
    elif app.env.doc2path(page).suffix == ".md":
        text, folder = source[0], DOCS
    else:
        return
    source[0] = LINK.sub(lambda match: site_link(match, folder), text)
    if page == app.config.root_doc:
        source[0] += "\n" + navigation(source[0]) + "\n"


def hide_inherited_signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str, returns: str
) -> tuple[str, None] | None:
    """Leave out the signature of an error that is that of its base class."""
    inherited = isinstance(thing, type) and issubclass(thing, MictlanXError) and "__init__" not in vars(thing)
    return ("", None) if inherited else None


def setup(app: Sphinx) -> None:
    """Register the steps above."""
    app.connect("source-read", prepare_page)
    app.connect("autodoc-process-signature", hide_inherited_signature)
