"""Namespaces, links, addresses, routes and sysctls; knows nothing of pods."""
