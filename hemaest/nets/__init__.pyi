from ._build import build_net as build_net
from ._resnet24 import ResNet24 as ResNet24
from ._weights import load_weights as load_weights, read_weights as read_weights
from .fcmae import FCMAE as FCMAE
from .wpat import WPAT as WPAT

__all__ = ["FCMAE", "WPAT", "ResNet24", "build_net", "load_weights", "read_weights"]
