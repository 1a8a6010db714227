"""The chained plugin `netlab-bandwidth`: it limits what a container sends and receives."""
