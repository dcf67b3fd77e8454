"""Hypothesis draws the same examples on every run: a failure is a failure for everybody."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")
