"""The Pod Security Standards: what pods may ask for, by the labels of their namespace (pod-security-admission)."""
