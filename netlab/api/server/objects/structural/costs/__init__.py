"""What rules in CEL may cost, estimated when a definition is written.

A `syntax` tree of the rule, what the schema says of the sizes of values (`declared`), what the one costs with the other
(`estimate`), and the `budgets` for that. As cel-go's checker/cost.go, with the sizes and functions of
Kubernetes' (apiserver pkg/cel/common/schemas.go and pkg/cel/library/cost.go): what upstream refuses is refused.
"""
