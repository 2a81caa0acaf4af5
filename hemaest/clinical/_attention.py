"""Gated attention over the cells of a bag, in plain torch; PatientClassifier imports it late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HIDDEN, DECAY, RATE, DROPOUT = 32, 1e-2, 3e-3, 0.25


@dataclass
class Attention:
    """Fitted weights as arrays, so that a pickle holds no torch objects."""

    middle: Array
    spread: Array
    layers: dict[str, Array]

    def _hidden(self, rows: Array) -> tuple[Array, Array]:
        x = (rows - self.middle) / self.spread
        one = self.layers
        h = np.maximum(x @ one["body.weight"].T + one["body.bias"], 0)
        gate = 1 / (1 + np.exp(-(h @ one["gate.weight"].T + one["gate.bias"])))
        key = np.tanh(h @ one["key.weight"].T + one["key.bias"])
        return h, (key * gate) @ one["score.weight"].T[:, 0]

    def weights(self, rows: Array) -> Array:
        """Return how much each cell counts; they sum to 1."""
        score = self._hidden(rows)[1]
        weight = np.exp(score - score.max())
        return weight / weight.sum()

    def probability(self, rows: Array) -> Array:
        """Return the probabilities of the labels of one bag."""
        h, score = self._hidden(rows)
        weight = np.exp(score - score.max())
        pooled = (weight / weight.sum()) @ h
        logit = pooled @ self.layers["last.weight"].T + self.layers["last.bias"]
        odds = np.exp(logit - logit.max())
        return odds / odds.sum()


def fit_attention(
    vectors: list[Array], codes: NDArray[np.intp], n_classes: int, max_epochs: int, seed: int
) -> Attention:
    """Fit the network, one bag a step, and return it as arrays.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> bags = [rng.normal(0, 1, (8, 2)) + 3 * (i % 2) for i in range(20)]
    >>> model = fit_attention(bags, np.arange(20) % 2, 2, 15, 0)
    >>> [int(model.probability(bag).argmax()) for bag in bags[:4]]
    [0, 1, 0, 1]
    """
    import torch
    from torch import nn

    every = np.concatenate(vectors)
    middle, spread = every.mean(0), every.std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    tensors = [torch.tensor((rows - middle) / spread, dtype=torch.float32) for rows in vectors]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = nn.ModuleDict(
            {
                "body": nn.Linear(every.shape[1], HIDDEN),
                "gate": nn.Linear(HIDDEN, HIDDEN),
                "key": nn.Linear(HIDDEN, HIDDEN),
                "score": nn.Linear(HIDDEN, 1, bias=False),
                "last": nn.Linear(HIDDEN, n_classes),
            }
        )

        def logits(rows: Any) -> Any:
            h = torch.relu(parts["body"](nn.functional.dropout(rows, DROPOUT)))
            score = parts["score"](torch.tanh(parts["key"](h)) * torch.sigmoid(parts["gate"](h)))
            return parts["last"]((torch.softmax(score, 0) * h).sum(0))

        optimizer = torch.optim.AdamW(parts.parameters(), lr=RATE, weight_decay=DECAY)
        counts = np.bincount(codes, minlength=n_classes).clip(1)
        balance = torch.tensor(len(codes) / counts / n_classes, dtype=torch.float32)
        rng = np.random.default_rng(seed)
        for _ in range(max_epochs):
            for i in rng.permutation(len(tensors)):
                loss = nn.functional.cross_entropy(
                    logits(tensors[i])[None], torch.tensor([int(codes[i])]), weight=balance
                ) * float(balance[int(codes[i])])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    layers = {k: v.detach().numpy().astype(float) for k, v in parts.state_dict().items()}
    return Attention(middle, spread, layers)
