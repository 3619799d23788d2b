"""Benchmarks, one module each: `run() -> dict` returns its figures; the first line of its text says what."""
