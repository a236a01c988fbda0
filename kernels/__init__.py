"""Triton kernels (none yet): one file per operation, with its reference implementation and benchmark."""
