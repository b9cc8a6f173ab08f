"""Policies, guard and arbiter: pure functions of the View."""
