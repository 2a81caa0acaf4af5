"""The pipeline where imbalanced-learn is not installed: the same, but for samplers."""

from collections.abc import Iterator
from typing import Any, Self

from sklearn.pipeline import Pipeline as PlainPipeline


class Pipeline(PlainPipeline):
    """scikit-learn's Pipeline under the calls of imbalanced-learn's."""

    def _iter(
        self, with_final: bool = True, filter_passthrough: bool = True, filter_resample: bool = True
    ) -> Iterator[tuple[int, str, Any]]:
        return super()._iter(with_final, filter_passthrough)

    def _validate_steps(self) -> None:
        samplers = [name for name, step in self.steps if hasattr(step, "fit_resample")]
        if samplers:
            raise ImportError(
                f"the step {samplers[0]!r} is a sampler, and a pipeline with one needs "
                "imbalanced-learn: pip install imbalanced-learn. A net takes a sampler as "
                "resampler= without it."
            )
        super()._validate_steps()

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit the steps one after the other."""
        routed = self._check_method_params("fit", params)
        X, y = self._fit(X, y, routed, raw_params=params)
        name, last = self.steps[-1]
        if last not in (None, "passthrough"):
            last.fit(X, y, **routed[name]["fit"])
        return self

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit, and transform the same images."""
        return self.fit(X, y, **params).transform(X)

    def fit_predict(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit, and name the same images."""
        return self.fit(X, y, **params).predict(X)
