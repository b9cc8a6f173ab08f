"""What benchmarks run beside the thing that they measure: peers that nobody publishes ready to run, and loops around it."""
