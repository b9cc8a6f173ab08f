"""The roof: command line, settings, processes, jobs. The one place that wires, sleeps and catches."""
