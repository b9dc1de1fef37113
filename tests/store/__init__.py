"""Tests of the store: no mount, no clock."""
