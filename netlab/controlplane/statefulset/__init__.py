"""The stateful set controller: pods with names, hostnames and an order."""
