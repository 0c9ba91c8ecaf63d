"""Settings of Sphinx: `sphinx-build -W -c docs . build/docs`, from the root of the clone.

The source directory is the root, so that the README and the guides are pages where they lie and
their links hold on the site as in the clone.
"""

import re
import textwrap
from pathlib import Path

import adv_jax
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
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "adv_jax"

# What autodoc shows for jax.typing.ArrayLike, which is no class.
_ARRAY_LIKE = re.compile(r"~?[\w.]+\.Array \| ~?numpy\.ndarray \| .+? \| complex")
_FIELD = re.compile(r"^([a-z_]\w*(?:, \w+)*): ", re.MULTILINE)
_ALIGNED = re.compile(r"\S+ {2,}\S")
_CITED = re.compile(r"(?<![\w)])\[([a-z]+(?:19|20)\d\d[a-z]*)(?=[\],])")
_ANCHOR = re.compile(r'<a id="(\w+)"></a>')
_WORK = re.compile(r"papers/(\w+)/README")
_ALL_NUMBERS = """
```{{toctree}}
:maxdepth: 1

All numbers, trainings and figures </docs/works/{work}>
```
"""
_CAPTION = 'class="caption" role="heading"'


def restructured(docstring: str) -> str:
    r"""A docstring as reStructuredText, in which it looks as it does in the source.

    Stars, bars and trailing underscores mean themselves, `x` is code, a key of REFERENCES.md in
    brackets is a link to its entry, and a line for each field of a class stays one. What is
    indented, or in columns, is shown as it is.

    >>> docstring = "The `x`: f32[B, *D].\n\nlow: bound_ of |x|.\nhigh: the other.\n\n  a   table"
    >>> print(restructured(docstring + "\n\nReturns:\n  first: x\n  ** 2."))
    The ``x``: f32[B, \*D].
    <BLANKLINE>
    * **low**: bound\_ of \|x\|.
    * **high**: the other.
    <BLANKLINE>
    ::
    <BLANKLINE>
          a   table
    <BLANKLINE>
    :returns: first: x
        \*\* 2.
    """
    summary, *blocks = docstring.strip("\n").split("\n\n")
    return "\n\n".join([_inline(summary), *map(_block, blocks)]) + "\n"


def _block(block: str) -> str:
    """A paragraph, a list of fields, a section or what is shown as it is.

    Napoleon, which reads the other sections, would take a return value's first words for its type.
    """
    lines = block.split("\n")
    outer = [line for line in lines if not line.startswith(" ")]
    if block.startswith(">>>"):
        return block
    if outer == ["Returns:"]:
        value = textwrap.dedent("\n".join(lines[1:]))
        return ":returns: " + textwrap.indent(_inline(value), "    ").lstrip()
    if not outer or all(map(_ALIGNED.match, outer)):
        return "::\n\n" + "\n".join(f"    {line}" for line in lines)
    if all(map(_FIELD.match, outer)):
        return _FIELD.sub(r"* **\1**: ", _inline(block))
    return _inline(block)


def _inline(text: str) -> str:
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"`{part}`" if part.startswith("`") else _linked(_escaped(part)) for part in parts
    )


def _escaped(text: str) -> str:
    """A star that stands alone, as in a list or a product, needs no escape."""
    return re.sub(r"\\|\||\*(?!\s)|(?<=\S)\*|(?<=\w)_(?!\w)", r"\\\g<0>", text)


def _linked(text: str) -> str:
    """The keys of works as links, which Sphinx reports if REFERENCES.md has no such entry.

    >>> _linked("Sources: [madry2018], sec. 2.1; [maronas2016, 5.3]; f32[b2018].")
    'Sources: [:ref:`madry2018`], sec. 2.1; [:ref:`maronas2016`, 5.3]; f32[b2018].'
    """
    return _CITED.sub(r"[:ref:`\1`", text)


def setup(app):
    """Docstrings are rewritten before Napoleon reads their sections."""

    def write(app):
        """Writes the pages with charts and figures of results, which no commit holds."""
        site.write(Path(app.srcdir) / "docs" / "works")

    def extend(app, name, source):
        """Links a work's page to that of all its numbers, which only the site has."""
        if work := _WORK.fullmatch(name):
            source[0] += _ALL_NUMBERS.format(work=work[1])

    def anchor(app, doctree):
        """Tells Sphinx and MyST of the anchors in REFERENCES.md, which are HTML."""
        if (name := app.env.docname) == "docs/REFERENCES":
            slugs = app.env.metadata[name].setdefault("myst_slugs", {})
            for key in _ANCHOR.findall(Path(app.env.doc2path(name)).read_text("utf-8")):
                app.env.domains.standard_domain.note_hyperlink_target(key, name, key, key)
                slugs[key] = (0, key, key)

    def rewrite(app, what, name, obj, options, lines):
        lines[:] = restructured("\n".join(lines)).split("\n")

    def shorten(app, what, name, obj, options, signature, returned):
        """Without what Flax adds to each module, and without the addresses of functions."""
        if signature:
            signature = _ARRAY_LIKE.sub("~jax.typing.ArrayLike", signature)
            signature = re.sub(r", parent: .*", ")", signature)
            signature = re.sub(r"<function .+?>(?=[,)])", "...", signature)
        return signature, returned

    def skip(app, what, name, obj, skip, options):
        """Fields of named tuples have docstrings that say nothing."""
        return str(getattr(obj, "__doc__", "")).startswith("Alias for field number") or None

    def accessible(app, name, template, context, doctree):
        """Adds what a screen reader and a keyboard need: levels of captions, focus to scroll."""
        tree = context.get("furo_navigation_tree", "")
        context["furo_navigation_tree"] = tree.replace(_CAPTION, f'{_CAPTION} aria-level="2"')
        context["body"] = context.get("body", "").replace("<pre>", '<pre tabindex="0">')

    def redirect(app, exception):
        """Writes the index.html at which a browser begins; the pages lie as in the clone."""
        if exception is None and app.builder.name == "html":
            page = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
            (Path(app.outdir) / "index.html").write_text(page)

    app.connect("builder-inited", write)
    app.connect("build-finished", redirect)
    app.connect("source-read", extend)
    app.connect("html-page-context", accessible, priority=900)
    app.connect("doctree-read", anchor)
    app.connect("autodoc-process-docstring", rewrite, priority=400)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip)
