"""The small worlds that ship with the package."""
