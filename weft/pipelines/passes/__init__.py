"""Rewrites of a plan: one function `(plan, cluster) -> plan` a module."""
