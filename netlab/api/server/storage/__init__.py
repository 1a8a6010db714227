"""The cluster's objects in memory and on a disk, their changes, and who watches them."""
