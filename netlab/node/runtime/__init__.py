"""Container runtimes: what a kubelet asks of one (service.py), and who answers."""
