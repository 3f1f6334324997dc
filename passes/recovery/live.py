"""A network advanced from one stop to the next, with the values alive in between for all samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from amcc.ir import Array, Graph, Node
from amcc.passes.extract import sub_graph
from amcc.passes.recovery.schedule import frontiers


class Live:
    """Runs a network piece by piece; its weights may change behind where it stands.

    Args:
        order: the nodes in the order in which they run.
        stops: positions in that order.
        samples: chunks of inputs.

    Attributes:
        alive: for each stop the values made before it that it or a later node reads.
    """

    def __init__(
        self,
        graph: Graph,
        order: Sequence[Node],
        stops: Sequence[int],
        samples: Sequence[Mapping[str, Array]],
        threads: int,
    ) -> None:
        self.alive = frontiers(graph, order, stops)
        self._values = [dict(sample) for sample in samples]
        self._threads = threads

    def advance(self, graph: Graph, stop: int, needed: Collection[str]) -> Iterator[Mapping[str, Array]]:
        """Run up to a stop; for each chunk the values needed there. To be used up before the next call.

        Args:
            graph: the network as it is now, changed nowhere before the last stop.
            stop: number of the stop.
        """
        from amcc.backends.runtime import Session

        alive, held = self.alive[stop], set(self._values[0])
        missing = sorted((alive | set(needed)) - held - set(graph.params))
        session = Session(sub_graph(graph, sorted(held), missing), threads=self._threads) if missing else None
        for values in self._values:
            if session is not None:
                values.update(session.run(values))
            yield values
            for name in set(values) - alive:
                del values[name]
