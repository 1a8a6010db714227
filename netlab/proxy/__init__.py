"""kube-proxy: Services and EndpointSlices become frontends, and frontends become kernel tables."""
