"""Inputs of fuzz targets: decoded from any bytes, and inputs to begin with."""
