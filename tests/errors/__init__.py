"""Tests of what an exception may show."""
