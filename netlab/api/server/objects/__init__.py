"""What an object of the API is: its fields, defaults and rules, all on JSON and without a server."""
