"""Tables, charts and the generated pages; `python -m docs.pages` writes these."""
