from . import (
    build as build,
    cards as cards,
    cellnet as cellnet,
    devices as devices,
    distill as distill,
    fcmae as fcmae,
    fieldnet as fieldnet,
    gan as gan,
    onnx as onnx,
    weights as weights,
    wpat as wpat,
)
from .build import build_net as build_net
from .convnets import ResNet24 as ResNet24
from .fcmae import FCMAE as FCMAE
from .unet import SmallUNet as SmallUNet
from .weights import load_weights as load_weights, read_weights as read_weights
from .wpat import WPAT as WPAT

__all__ = [
    "FCMAE",
    "WPAT",
    "ResNet24",
    "SmallUNet",
    "build_net",
    "load_weights",
    "read_weights",
]
