"""Benchmarks, each beside its peer: `python -m bench.NAME [--quick] --report F`; `python -m bench` runs them all."""
