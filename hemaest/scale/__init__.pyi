from ._cluster import on_cluster as on_cluster
from ._count_slide import SlideCount as SlideCount, count_slide as count_slide
from ._slide import Slide as Slide
from ._stream import StreamResult as StreamResult, predict_stream as predict_stream

__all__ = ["Slide", "SlideCount", "StreamResult", "count_slide", "on_cluster", "predict_stream"]
