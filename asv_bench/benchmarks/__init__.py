"""Benchmarks of pyodl for asv; docs/benchmarks.md says how to run them."""
