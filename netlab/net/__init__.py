"""Namespaces, links, addresses, routes and sysctls. Nothing here knows about pods."""
