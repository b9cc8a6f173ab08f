"""The SQL text of the history: schema, views, the SRE's query book; loaded by name."""
