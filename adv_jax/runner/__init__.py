"""Turns a config into files: everything with effects."""
