"""From the lowered graph to the two programs of the core: groups and products, in order, and where messages lie.

A group of neurons becomes one group of the vector unit, or, where its outputs share no work and go to products,
one for each of them, so that the first product begins while the others are still computed. Ternary synapses become
products. Sums, broadcasts and delays cost nothing: a sum is added up as it is sent, a broadcast is a scalar that
every neuron reads, and what a delay holds back simply stays where it is until it is read last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from loihi_mmfree.errors import DoesNotFitError, UnsupportedModelError
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, TokenIn
from loihi_mmfree.ir.synapses import Broadcast, Delay, SumSynapse, TernarySynapse
from loihi_mmfree.rtl.instructions import Space
from loihi_mmfree.rtl.memories import Room
from loihi_mmfree.rtl.parameters import STRIP_BEATS, Size
from loihi_mmfree.rtl.registers import independent_parts


@dataclass(frozen=True)
class Group:
    """What the vector unit does at once.

    Parameters
    ----------
    node : NeuronGroup
    ports : frozenset of str
        The outputs that it sends.
    wait : int
        The product that it follows row by row, counted from 1; 0 if it reads none.
    """

    node: NeuronGroup
    ports: frozenset[str]
    wait: int


@dataclass(frozen=True)
class Product:
    """A projection.

    Parameters
    ----------
    synapse : TernarySynapse
    source : Source
        The port of a group that it reads.
    after : int
        Groups that must have ended before.
    logits : bool
    """

    synapse: TernarySynapse
    source: Source
    after: int
    logits: bool

    def padding(self, weights_per_cycle: int) -> int:
        """Weights of zero before the first column: activations are read by the word."""
        return self.synapse.first_column % weights_per_cycle

    def words(self, weights_per_cycle: int) -> int:
        """Beats of the weight stream that a row takes."""
        return -(-(self.padding(weights_per_cycle) + self.synapse.columns) // weights_per_cycle)


@dataclass(frozen=True)
class Located:
    """Where a value lies: a space and its first word, or the number of the scalar."""

    space: Space
    place: int


@dataclass(frozen=True)
class CoreSchedule:
    """The order of things and the places of messages, for a core of some size.

    Parameters
    ----------
    graph : Graph
    size : Size
    groups : tuple of Group
    products : tuple of Product
    messages : mapping (Source, Space) -> place
        Where each message goes, by the space of its readers.
    rooms : mapping Space -> words
        How large each memory has to be.
    """

    graph: Graph
    size: Size
    groups: tuple[Group, ...]
    products: tuple[Product, ...]
    messages: Mapping[tuple[Source, Space], int]
    rooms: Mapping[Space, int]

    def located(self, source: Source) -> Located:
        """Return where a group finds what a node delivers."""
        origin, space = resolve(self.graph, source)
        return Located(space, self.messages[origin, space])

    @cached_property
    def tokens(self) -> TokenIn:
        """Where the host writes."""
        return next(node for node in self.graph if isinstance(node, TokenIn))


def words_of(size: int, core: Size) -> int:
    """Return the words that a vector of some size takes in memories of lanes: whole strips."""
    return -(-size // core.strip) * STRIP_BEATS


def resolve(graph: Graph, source: Source) -> tuple[Source, Space]:
    """Return what a group reads in the end, behind delays, sums and broadcasts, and from which space.

    Raises
    ------
    UnsupportedModelError
        A kind of node that the core has no place for.
    """
    node = graph.by_name[source.node]
    match node:
        case Delay():
            return resolve(graph, node.inputs[0])
        case SumSynapse():
            origin, space = resolve(graph, node.inputs[0])
            if space is Space.MESSAGE:
                return origin, Space.SUM
        case Broadcast():
            origin, space = resolve(graph, node.inputs[0])
            if space is not Space.ACCUMULATOR:
                return origin, Space.SCALAR if space is Space.MESSAGE else space
        case TernarySynapse():
            return source, Space.ACCUMULATOR
        case TokenIn() | NeuronGroup():
            return source, Space.MESSAGE
    raise UnsupportedModelError(f"the RTL has no rule for {node.name}, a {type(node).__name__}")


def schedule(graph: Graph, size: Size) -> CoreSchedule:
    """Put groups and products in order, and give every message a place.

    Raises
    ------
    UnsupportedModelError
        A kind of node, or a connection of two kinds, that the core has no place for.
    DoesNotFitError
        More scalars are needed at once than the core has.
    """
    scheduling = _Scheduling(graph, size)
    return scheduling.finish()


class _Scheduling:
    def __init__(self, graph: Graph, size: Size) -> None:
        self.graph, self.size = graph, size
        self.groups: list[Group] = []
        self.products: list[Product] = []
        self.sent_by: dict[Source, int] = {}
        self.product_of: dict[Source, int] = {}
        for node in graph:
            self._add(node)
        if not self.products or not self.products[-1].logits:
            raise UnsupportedModelError("the RTL has no rule for a graph whose last synapses are not its logits'")

    def _add(self, node: Node) -> None:
        match node:
            case NeuronGroup():
                for ports in self._parts(node):
                    self._group(node, ports)
            case TernarySynapse():
                self._product(node)
            case LogitsOut():
                self._require_logits(node)
            case TokenIn() | Delay() | SumSynapse() | Broadcast():
                pass
            case _:
                raise UnsupportedModelError(f"the RTL has no rule for {node.name}, a {type(node).__name__}")

    def _parts(self, node: NeuronGroup) -> tuple[frozenset[str], ...]:
        """Its outputs together, or one by one where each goes to a product of its own."""
        parts = independent_parts(node.program)
        fed = {
            port
            for port in node.outputs
            if any(isinstance(each, TernarySynapse) for each in self._readers(node.out(port)))
        }
        if all(part & fed for part in parts):
            return parts
        return (frozenset(node.outputs),)

    def _readers(self, source: Source) -> tuple[Node, ...]:
        return self.graph.consumers.get(source, ())

    def _group(self, node: NeuronGroup, ports: frozenset[str]) -> None:
        read = [resolve(self.graph, source) for source in node.inputs]
        self._require_sent(node, read)
        wait = max(
            (self.product_of[origin] + 1 for origin, space in read if space is Space.ACCUMULATOR), default=0
        )
        self.sent_by.update((node.out(port), len(self.groups)) for port in ports)
        self.groups.append(Group(node, ports, wait))

    def _require_sent(self, node: Node, read: list[tuple[Source, Space]]) -> None:
        """Refuse what comes from the host, but as it is and into a group."""
        for origin, space in read:
            by_host = isinstance(self.graph.by_name[origin.node], TokenIn)
            if by_host and (space is not Space.MESSAGE or not isinstance(node, NeuronGroup)):
                raise UnsupportedModelError(f"the RTL has no rule for {node.name}, which reads {origin}")

    def _product(self, node: TernarySynapse) -> None:
        origin, space = resolve(self.graph, node.inputs[0])
        self._require_sent(node, [(origin, space)])
        if space is not Space.MESSAGE:
            raise UnsupportedModelError(f"the RTL has no rule for {node.name}, which reads sums or a broadcast")
        before = self.products[-1].after if self.products else 0
        after = max(before, self.sent_by[origin] + 1)
        logits = any(isinstance(each, LogitsOut) for each in self._readers(node.out()))
        self.product_of[node.out()] = len(self.products)
        self.products.append(Product(node, origin, after, logits))

    def _require_logits(self, node: LogitsOut) -> None:
        source = node.inputs[0]
        if source not in self.product_of or len(self._readers(source)) > 1:
            raise UnsupportedModelError(
                f"the RTL has no rule for logits of {source}: they are sums of a product alone"
            )

    # -- places -------------------------------------------------------------------------------

    def finish(self) -> CoreSchedule:
        """Walk through the groups and products once more, now that it is known who reads what last."""
        self.places: dict[tuple[Source, Space], int] = {}
        self.last = self._last_readers()
        self.rooms = {
            space: Room() for space in (Space.MESSAGE, Space.ACCUMULATOR, Space.ACTIVATION, Space.SCALAR)
        }
        tokens = next(node for node in self.graph if isinstance(node, TokenIn))
        self._place(tokens.out(), Space.MESSAGE, words_of(tokens.size, self.size), -1)
        for product in self.products:
            self._place_sums(product)
        ended = 0
        for number, group in enumerate(self.groups):
            # When a group begins, all products before the one that it follows have ended.
            ended = max(ended, group.wait - 1)
            self._place_messages(number, group, ended)
            ended = max(ended, group.wait)
        if self.rooms[Space.SCALAR].words > self.size.scalars:
            raise DoesNotFitError(
                f"the network needs {self.rooms[Space.SCALAR].words} scalars at once, the core has "
                f"{self.size.scalars}; give it more (`scalars`)"
            )
        return CoreSchedule(
            self.graph,
            self.size,
            tuple(self.groups),
            tuple(self.products),
            self.places,
            {space: room.words for space, room in self.rooms.items()},
        )

    def _last_readers(self) -> dict[tuple[Source, Space], int]:
        """Of every message in every space, the last group that reads it; of activations, the last product."""
        found: dict[tuple[Source, Space], int] = {}
        for number, group in enumerate(self.groups):
            found.update((resolve(self.graph, source), number) for source in group.node.inputs)
        for number, product in enumerate(self.products):
            found[product.source, Space.ACTIVATION] = number
        return found

    def _place_sums(self, product: Product) -> None:
        if product.logits:
            return
        words = words_of(product.synapse.rows, self.size)
        self._place(product.synapse.out(), Space.ACCUMULATOR, words, product.after)

    def _place_messages(self, number: int, group: Group, products_ended: int) -> None:
        words = words_of(group.node.size, self.size)
        for port in group.node.outputs:
            source = group.node.out(port)
            if port not in group.ports:
                continue
            self._place(source, Space.MESSAGE, words, number)
            self._place(source, Space.ACTIVATION, -(-words // self.size.banks), products_ended)
            self._place(source, Space.SCALAR, 1, number)
            self._place(source, Space.SUM, 1, number)

    def _place(self, source: Source, space: Space, words: int, now: int) -> None:
        """Give a message a place in a space where somebody reads it."""
        last = self.last.get((source, space))
        if last is not None:
            room = self.rooms[Space.SCALAR if space is Space.SUM else space]
            self.places[source, space] = room.take(words, now, last)
