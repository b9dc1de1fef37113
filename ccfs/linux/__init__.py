"""System calls that Python doesn't have, and descriptors handled with care."""
