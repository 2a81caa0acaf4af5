from ._report import Report as Report

__all__ = ["Report"]
