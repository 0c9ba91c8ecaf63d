"""Writes the pages that show measured numbers: `python -m papers.pages`."""

from papers.pages.generated import main

if __name__ == "__main__":
    main()
