"""Numbers, statistics and verdicts: what a printed number is, and whether ours is the same."""
