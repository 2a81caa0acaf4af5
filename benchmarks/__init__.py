"""Benchmarks: each prints tables and writes its section of RESULTS.md."""
