from ._acdbgan import ACDBGAN as ACDBGAN
from ._rendered import RenderedCellSampler as RenderedCellSampler
from ._report import generative_report as generative_report
from ._samplers import FeatureSampler as FeatureSampler, ImageSampler as ImageSampler

__all__ = ["ACDBGAN", "FeatureSampler", "ImageSampler", "RenderedCellSampler", "generative_report"]
