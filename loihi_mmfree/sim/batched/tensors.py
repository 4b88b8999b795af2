"""A network's tensors on a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from loihi_mmfree.ir.graph import Graph


class DeviceTensors:
    """The tensors of a graph on a device, each moved there when it is first asked for.

    Parameters
    ----------
    graph : Graph
    device : torch.device
    """

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self._graph, self.device = graph, device
        self._moved: dict[str, Tensor] = {}

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._moved:
            # An embedding stays in its file: as an array first, since PyTorch would take it number by number.
            self._moved[key] = torch.tensor(np.asarray(self._graph.tensors[key]), device=self.device)
        return self._moved[key]
