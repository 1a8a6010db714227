"""The plugin `netlab-ipam`: addresses from this node's own ranges."""
