"""Tables, charts and the generated pages; `python -m papers.pages` writes these."""
