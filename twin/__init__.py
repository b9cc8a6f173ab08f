"""A digital twin of a datacenter behind the ports of exporters and actuators."""
