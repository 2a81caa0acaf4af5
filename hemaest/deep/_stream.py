"""Learning from a stream: one pass over each part as it comes, at a constant learning rate."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from hemaest._seeds import seed_of
from hemaest.deep._correction import needs_no_shares, weight_of_classes
from hemaest.deep._owner import TURN, OwnsNet
from hemaest.deep._start import start_from
from hemaest.groups import encode


class LearnsInParts(OwnsNet):
    """Base of the classifiers that see their images part by part."""

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one pass over some images, at a constant learning rate.

        Of the ways to correct the class balance a stream allows a dict as ``class_weight``: all
        others need the shares of the classes, which it does not tell.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,)
            Labels.
        classes : array-like, optional
            All labels that will ever come; needed at the first call.
        sample_weight : array-like of shape (n,), optional
            How much each image counts.

        Returns
        -------
        self : object
        """
        from hemaest.deep._net import seeded
        from hemaest.deep._run import make_examples

        self._validate_params()
        needs_no_shares(self.resampler, self.class_weight, self.loss)
        X, labels, weight = self._check_examples(X, y, sample_weight)
        first = not hasattr(self, "net_")
        if first and classes is None:
            raise ValueError("the first call of partial_fit needs classes=, all labels.")
        known = np.unique(np.asarray(classes)) if first else self.classes_
        target = encode(labels, known)
        class_weight: Any = self.class_weight
        share = weight_of_classes(class_weight, known)
        examples = make_examples(X, target, weight, self.image_size, per_class=share / share.mean())
        with TURN:
            if first:
                seed = seed_of(self.random_state)
                start = start_from(self.pretrained, X, device=self.device, seed=seed)
                net, report = self._build(len(known), seed, start=start)
                self._adopt(net, known, None, report, start)
            net = self.net_
            # a stream has no end to anneal towards, and no epochs to average over
            net.lr, net.warmup, net.ema = self.lr, None, False
            try:
                with seeded(net.seed, net.torch_device):
                    self._run(net, examples, None, None, 1, stream=True)
            finally:
                net.warmup, net.ema = self.warmup, self.ema
        return self
