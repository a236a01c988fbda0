"""Logit filters and guidance."""
