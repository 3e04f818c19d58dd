"""The tool servers of a broker: connections, catalogues, and failures."""
