"""The node controller: runs one mysqld and finds out which part it plays.

It is process 1 of every database container, the same program on every node. Read in this
order: decide (who is primary, a pure function), gtid, peers, orders (of a person), server, controller.
"""
