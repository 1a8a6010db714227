"""Endpoints, as clients before EndpointSlices read and write them: made of slices, and made into slices."""
