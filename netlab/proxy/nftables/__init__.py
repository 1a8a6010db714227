"""The nftables data plane: frontends and endpoints are map elements, so that there are few rules and chains.

    internal   address . protocol . port                               how a frontend is treated: a ClusterIP
    picks      address . protocol . port          : goto pick-3        its list has three endpoints
    endpoints  address . protocol . port . random : address . port     one element for each endpoint

There is one `pick-N` chain for each number of endpoints that occurs, not one for each Service. NodePorts have maps of
their own, keyed by protocol and port, which only packets to the node's own addresses reach. Every frontend has its own
list, so that traffic policies and terminating endpoints are decided when the list is made, not for each packet.
Removing endpoint i of N moves the last one into its place: the cost of a change is proportional to the change.

Only session affinity has chains and sets for each endpoint: a rule must name the endpoint that it remembers (nft 1.0.6
aborts on listing a rule that looks up one map by a value found in another), and an endpoint's memory must go with it.
A list's rules are in about as many chains as each of these has rules, so that an endpoint that changes replaces few.

Written for nft 1.0.1 or newer and Linux 5.13 or newer, as upstream's nftables mode. The tables are `ip kube-proxy` and
`ip6 kube-proxy`, upstream's own names, so that two proxies cannot both be in force; no other table is read or changed.

    fixed       what is there whatever the Services are: text for `nft`
    chains      the chains and sets that come and go with Services
    elements    a change of the plan -> a batch (netlab.net.nftables.batch), which netlink takes as it is; pure
    contents    what a table holds for a plan, also as text for `nft`; pure
    comparison  what the kernel has, and how it differs from the plan
    executor    applies it
"""
