"""Instances that serve requests: continuous batching, event-exact in closed form (numba)."""
