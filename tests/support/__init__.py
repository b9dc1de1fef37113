"""What tests, reliability and bench share."""
