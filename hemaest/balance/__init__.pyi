from ._acdbgan import ACDBGAN as ACDBGAN
from ._image_sampler import ImageSampler as ImageSampler
from ._report import generative_report as generative_report

__all__ = ["ACDBGAN", "ImageSampler", "generative_report"]
