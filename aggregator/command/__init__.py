"""The `sangam` command, one file per group of verbs; the only place that reads the clock and prints.

Kernels and gRPC take seconds to import, which is too long for `--help`: commands import them when run.
"""
