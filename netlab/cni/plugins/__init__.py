"""What a runtime executes: the plugins, and the process that answers calls in their place."""
