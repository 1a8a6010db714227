"""Control groups: a lab's share of the host's memory, processes and processor time, and a container's of the lab's.

A lab's cgroup is made on the host (`labs`), where `hierarchies` says; pid 1 of a machine makes those of its containers
below it (`containers`). In each hierarchy:

    netlab-ID/              the limits of the lab; nobody in the lab can write here
    netlab-ID/lab/          given to the lab's root, whose machines have a mount of it
    netlab-ID/lab/machines/ every process of the lab, except those of
    netlab-ID/lab/CONTAINER/
"""
