"""Triton kernels (not built yet): one file per op, beside it reference and benchmark."""
