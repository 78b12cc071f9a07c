"""Published instances as requests, each with what is known of its best plans.

``psplib``, ``patterson``, ``multimode``, ``jobshop`` and ``dag`` read sets of them
(``base.InstanceSet``), ``cluster`` the cluster-shaped batches, ``requests`` any PlanRequests.
"""
