"""The iptables data plane: a chain for every Service port, for every list of endpoints and for every endpoint.

It has upstream's shape, for comparison and for kernels without nftables: every new connection and every sync costs time
in proportion to the number of Services. That is the design's doing, not this file's.

    KUBE-SERVICES    every frontend with an address: ClusterIPs to KUBE-SVC or KUBE-SVL, the others to KUBE-EXT
    KUBE-NODEPORTS   every NodePort, to KUBE-EXT
    KUBE-EXT-hash    masquerades, or for the policy Local sorts pods and the node from the outside world
    KUBE-SVC-hash    chooses among all endpoints (KUBE-SVL-hash: among this node's)
    KUBE-SEP-hash    translates to one endpoint, and remembers the client for session affinity

    fixed      what is there whatever the Services are
    chains     a plan -> all chains; pure
    restore    chains -> the text of iptables-restore, and back; pure
    executor   applies it
"""
