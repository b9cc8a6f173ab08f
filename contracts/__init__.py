"""What passes between the parts: types, frame schemas with units, topics, ports. No I/O, no logic."""
