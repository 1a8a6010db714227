"""Policies in nftables: each family's table has six chains, whatever the policies. All that comes and goes is elements.

    ingress-peers     10.244.2.7 : 9a3f:11c0                  the class of an address
    ingress-profiles  9a3f:11c0 . 10.244.1.2 : 1b77:0402      what that class may do at a pod of this node
    ports             1b77:0402 . tcp . 80-90                 the ports of that profile

A class, and then a profile, is kept in the packet's priority on the way from one map to the next: nft 1.0.6 aborts when
it lists a rule that looks up one map by a value found in another. Only packets of connections without an answer yet
come here. The priority is set back to 0 afterwards; what IP's type of service asks for is lost for those packets.
A class has the highest bit set and a profile does not, so that the one is never taken for the other.

Only the forward hook judges. Between a pod and its own node everything is allowed, as Kubernetes says, and there
packets take the hooks input and output. Services' addresses are translated before that hook, and sources after it.
Frames between two pods on a bridge come to it by br_netfilter.
"""
