"""A process that answers the calls of plugins, so that nothing is loaded for each one."""
