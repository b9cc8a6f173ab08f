"""Forecasters, learnt plant models, calibration: pure functions of a Batch."""
