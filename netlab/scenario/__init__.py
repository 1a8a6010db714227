"""Scenarios: lessons with manifests and checks, run and reported."""
