"""Targets, trainings and budgets: what a work needs to run, and what its runs have measured."""
