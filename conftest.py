"""Command-line options and fixtures: one-line delegations."""
