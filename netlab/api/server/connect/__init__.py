"""What the API server passes on: to kubelets, and through them to pods and Services (upstream's verb CONNECT)."""
