"""Tests of the file operations, called directly."""
