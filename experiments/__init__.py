"""Experiments: a package for each question, and `harness`, which they share; see README.md."""
