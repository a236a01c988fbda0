"""Filters, guidance and accelerators around decode."""
