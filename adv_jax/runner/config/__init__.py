"""The fields of a config, and the functions that its names stand for."""
