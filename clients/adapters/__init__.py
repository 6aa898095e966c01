"""Adapters of common frameworks and platforms, each imported only where its framework is installed."""
