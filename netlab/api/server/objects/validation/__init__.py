"""What makes an object valid beyond the types of its fields: Kubernetes' rules for what netlab acts upon.

Each kind has `KIND(new, problems)`, and where changes are restricted `KIND_update(new, old, problems)`. The sources are
pkg/apis/{core,apps,discovery}/validation/validation.go of Kubernetes 1.31.
"""
