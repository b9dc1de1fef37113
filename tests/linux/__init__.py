"""Tests of the system calls that Python lacks."""
