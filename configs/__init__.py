"""Recipes: public functions that return a typed config. The table of systems is README.md beside this file."""
