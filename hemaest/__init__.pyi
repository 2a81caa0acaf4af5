from . import (
    balance as balance,
    base as base,
    cellmap as cellmap,
    clinical as clinical,
    datasets as datasets,
    deep as deep,
    evaluation as evaluation,
    features as features,
    groups as groups,
    images as images,
    inspection as inspection,
    nets as nets,
    persistence as persistence,
    preprocessing as preprocessing,
    pretrained as pretrained,
    recipes as recipes,
    report as report,
    segmentation as segmentation,
    stain as stain,
)

__version__: str
