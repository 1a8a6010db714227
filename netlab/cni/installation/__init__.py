"""Installing the plugins, and a network, where a runtime looks."""
