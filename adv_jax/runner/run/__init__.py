"""Training and evaluation: from a checked config to its files."""
