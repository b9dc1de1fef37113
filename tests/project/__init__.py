"""Tests of the repository: layers, scripts, packaging."""
