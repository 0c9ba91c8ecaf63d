"""Settings of Sphinx: `sphinx-build -W -c docs . build/docs`, from the root of the clone.

The source directory is the root, so that the README and the guides are pages where they lie and
their links hold on the site as in the clone.
"""

import functools
import re
from pathlib import Path

from jax.typing import ArrayLike

import adv_jax
from adv_jax import types
from docs.docstrings import completed, restructured
from papers.pages import site

project = "adv_jax"
author = "The adv_jax authors"
copyright = author
release = version = adv_jax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_design",
]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "adv_jax/attacks/README.md",
    "benchmarks/README.md",
    "benchmarks/RESULTS.md",
    "launch/README.md",
    "launch/GPU.md",
    "launch/TPU.md",
    "docs/**.md",
    "docs/api/generated/*.rst",
    "papers/README.md",
    "papers/**/README.md",
]
exclude_patterns = ["**/.*", ".venv", "venv", "build", "dist", "runs", "results"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
myst_heading_anchors = 3

html_theme = "furo"
templates_path = ["docs/_templates"]  # from the root, of autosummary alone
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "adv_jax"
html_theme_options = {"top_of_page_buttons": []}  # no link to a page's source
html_copy_source = False
html_use_index = html_domain_indices = False  # the search finds names

_ANCHOR = re.compile(r'<a id="(\w+)"></a>')
_WORK = re.compile(r"papers/(\w+)/README")
_ALL_NUMBERS = """
```{{toctree}}
:maxdepth: 1

All numbers, trainings and figures </docs/works/{work}>
```
"""
_CELL = re.compile(r"<td>.*?</td>", re.DOTALL)
_LONG = re.compile(r"[\w/.]{20,}(?![^<>]*>)")  # a path or name, in no tag
# A list of definitions without a term, by Sphinx's writer of HTML.
_PARAMETERS = re.compile(r'<dl>\n(<dd><em class="sig-param">.*?)</dl>', re.DOTALL)
_CAPTION = 'class="caption" role="heading"'


def setup(app):
    """Docstrings are rewritten before Napoleon reads their sections."""
    app.connect("builder-inited", _write)
    app.connect("build-finished", _redirect)
    app.connect("source-read", _extend)
    app.connect("missing-reference", _resolve)
    app.connect("html-page-context", _accessible, priority=900)
    app.connect("doctree-read", _anchor)
    app.connect("autodoc-process-docstring", _rewrite, priority=400)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _skip)


@functools.cache
def _written():
    """Returns {type: alias} of types that autodoc would write out, the longest first."""
    from sphinx.util.typing import stringify_annotation

    names = ["Objective", "Aux", "Apply", "Bounds", "Mask"]
    aliases = {getattr(types, name): f"~adv_jax.types.{name}" for name in names}
    aliases = {ArrayLike: "~jax.typing.ArrayLike", **aliases}
    return {stringify_annotation(alias, "smart"): name for alias, name in aliases.items()}


def _write(app):
    """Writes the pages with charts and figures of results, which no commit holds."""
    site.write(Path(app.srcdir) / "docs" / "works")


def _extend(app, name, source):
    """Links a work's page to that of all its numbers, which only the site has."""
    if work := _WORK.fullmatch(name):
        source[0] += _ALL_NUMBERS.format(work=work[1])


def _anchor(app, doctree):
    """Tells Sphinx and MyST of the anchors in REFERENCES.md, which are HTML."""
    if (name := app.env.docname) == "docs/REFERENCES":
        slugs = app.env.metadata[name].setdefault("myst_slugs", {})
        for key in _ANCHOR.findall(Path(app.env.doc2path(name)).read_text("utf-8")):
            app.env.domains.standard_domain.note_hyperlink_target(key, name, key, key)
            slugs[key] = (0, key, key)


def _resolve(app, env, node, text):
    """Links a name of adv_jax that lacks its beginning, such as `norms.canonical`."""
    target = node.get("reftarget", "")
    if node.get("reftype") != "obj" or target.startswith("adv_jax."):
        return None
    domain, name = env.domains["py"], node["refdoc"]
    return domain.resolve_xref(env, name, app.builder, "obj", f"adv_jax.{target}", node, text)


def _rewrite(app, what, name, obj, options, lines):
    module = getattr(obj, "__module__", None) or ""
    lines[:] = restructured(completed("\n".join(lines), module)).split("\n")


def _shorten(app, what, name, obj, options, signature, returned):
    """Without what Flax adds to each module, and without the addresses of functions."""
    if signature:
        for type_, name in _written().items():
            signature = signature.replace(type_, name)
        signature = re.sub(r", parent: .*", ")", signature)
        signature = re.sub(r"<function .+?>(?=[,)])", "...", signature)
    return signature, returned


def _skip(app, what, name, obj, skip, options):
    """Fields of named tuples have docstrings that say nothing."""
    return str(getattr(obj, "__doc__", "")).startswith("Alias for field number") or None


def _accessible(app, name, template, context, doctree):
    """Adds levels of captions, focus for what scrolls, and places to break names in tables."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace(_CAPTION, f'{_CAPTION} aria-level="2"')
    body = context.get("body", "").replace("<pre>", '<pre tabindex="0">')
    body = _CELL.sub(lambda cell: _LONG.sub(_breakable, cell[0]), body)
    context["body"] = _PARAMETERS.sub(_listed, body)


def _breakable(word):
    return re.sub(r"[/_.](?=\w)", r"\g<0><wbr>", word[0])


def _listed(parameters):
    items = parameters[1].replace("<dd>", "<li>").replace("</dd>", "</li>")
    return f'<ul class="signature">{items}</ul>'


def _redirect(app, exception):
    """Writes the index.html at which a browser begins; the pages lie as in the clone."""
    if exception is None and app.builder.name == "html":
        page = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        (Path(app.outdir) / "index.html").write_text(page)
