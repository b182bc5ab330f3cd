# SPDX-License-Identifier: GPL-3.0-or-later
"""Maximum flow and minimum cut over whole numbers.

Source: E. A. Dinic, "Algorithm for solution of a problem of maximum flow in networks with power estimation" (1970);
L. R. Ford, D. R. Fulkerson, "Maximal flow through a network" (1956), for the cut that a maximum flow leaves.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UsageError

UNCUTTABLE = 1 << 60
"""Capacity of an edge that no cut may contain: more than all others together may have."""


class Network:
    """A directed network; edges are added, then the flow is asked for once.

    >>> net = Network(4)
    >>> edges = [net.add(0, 1, 3), net.add(0, 2, 2), net.add(1, 3, 2), net.add(2, 3, 9)]
    >>> net.flow(0, 3)
    4
    >>> [edge in net.cut(0) for edge in edges]
    [False, True, True, False]
    """

    __slots__ = ("_capacity", "_head", "_leaving", "_order")

    def __init__(self, nodes: int) -> None:
        self._leaving: list[list[int]] = [[] for _ in range(nodes)]
        self._head: list[int] = []
        self._capacity: list[int] = []
        self._order: list[int] = []
        """Added edges: the even places of the arrays; the odd ones are their ways back."""

    def add(self, tail: int, head: int, capacity: int) -> int:
        """Add an edge and return its number.

        Raises:
            UsageError: for a capacity below zero.
        """
        if capacity < 0:
            raise UsageError("an edge cannot carry less than nothing", code="maxflow.capacity")
        edge = len(self._head)
        for end, other, room in ((tail, head, capacity), (head, tail, 0)):
            self._leaving[end].append(len(self._head))
            self._head.append(other)
            self._capacity.append(room)
        self._order.append(edge)
        return edge

    def flow(self, source: int, sink: int) -> int:
        """Return the value of a maximum flow, and keep it: ``cut`` reads it.

        Raises:
            UsageError: when every cut contains an uncuttable edge, or source and sink are one.
        """
        if source == sink:
            raise UsageError("a node cannot be cut from itself", code="maxflow.ends")
        total = 0
        while (level := self._levels(source))[sink] >= 0:
            total += self._block(source, sink, level)
            if total >= UNCUTTABLE:
                raise UsageError("nothing that may be cut parts source and sink", code="maxflow.uncuttable")
        return total

    def cut(self, source: int) -> frozenset[int]:
        """Return the edges of the minimum cut that is nearest to ``source``; call ``flow`` first."""
        near = self._levels(source)
        return frozenset(edge for edge in self._order if near[self._head[edge ^ 1]] >= 0 and near[self._head[edge]] < 0)

    def _levels(self, source: int) -> list[int]:
        """Return each node's distance from ``source`` over edges with room; -1 where there is no way."""
        level = [-1] * len(self._leaving)
        level[source] = 0
        reached = [source]
        for node in reached:
            for edge in self._leaving[node]:
                head = self._head[edge]
                if self._capacity[edge] and level[head] < 0:
                    level[head] = level[node] + 1
                    reached.append(head)
        return level

    def _block(self, source: int, sink: int, level: list[int]) -> int:
        """Push flow along shortest ways until none is left; return how much."""
        head, capacity, leaving = self._head, self._capacity, self._leaving
        tried = [0] * len(leaving)
        total = 0
        way: list[int] = []
        node = source
        while True:
            if node == sink:
                room = min(capacity[edge] for edge in way)
                total += room
                for edge in way:
                    capacity[edge] -= room
                    capacity[edge ^ 1] += room
                full = next(at for at, edge in enumerate(way) if not capacity[edge])
                node = head[way[full] ^ 1]
                del way[full:]
            edges = leaving[node]
            while (at := tried[node]) < len(edges):
                edge = edges[at]
                if capacity[edge] and level[head[edge]] == level[node] + 1:
                    way.append(edge)
                    node = head[edge]
                    break
                # Once full or leading nowhere, an edge stays so until the levels are made again.
                tried[node] += 1
            else:
                if node == source:
                    return total
                level[node] = -1
                node = head[way.pop() ^ 1]


def minimum_cut(nodes: int, edges: Iterable[tuple[int, int, int]], source: int, sink: int) -> tuple[int, list[int]]:
    """Return the value of a minimum cut and the places in ``edges`` of what it cuts.

    Args:
        nodes: Nodes are numbered from 0.
        edges: (tail, head, capacity).
        source: First end.
        sink: Other end.

    Raises:
        UsageError: as ``Network.flow``.
    """
    network = Network(nodes)
    numbers = [network.add(*edge) for edge in edges]
    value = network.flow(source, sink)
    cut = network.cut(source)
    return value, [at for at, number in enumerate(numbers) if number in cut]
