"""metrics.k8s.io: what kubelets measured, over a window, as metrics-server tells it upstream."""
