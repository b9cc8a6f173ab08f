"""The history: DuckDB's only writer, and how others read it."""
