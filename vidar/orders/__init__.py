"""Constructors of orders, one per file."""
