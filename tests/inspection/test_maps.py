import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from hemaest.deep import FCMAEPretrainer, ImageClassifier, ViTClassifier, WPATClassifier
from hemaest.features import ColorFeatures
from hemaest.inspection import AttentionMap, ErrorGalleryDisplay, GradCAM
from hemaest.inspection.drawing import overlay
from hemaest.preprocessing import Resize


@pytest.fixture(scope="module")
def cells():
    """Large or small dark discs with a cell map: the disc is the nucleus."""
    rng = np.random.default_rng(0)
    y = np.repeat(["large", "small"], 16)
    X = rng.integers(190, 215, (32, 48, 48, 4)).astype(np.uint8)
    rows, columns = np.mgrid[:48, :48]
    for image, label in zip(X, y, strict=True):
        far = np.hypot(rows - rng.integers(15, 33), columns - rng.integers(15, 33))
        nucleus = far < (12 if label == "large" else 5)
        image[nucleus, :3] = rng.integers(60, 90, (nucleus.sum(), 3))
        image[..., 3] = np.where(nucleus, 2, far < 14)
    return X, y


@pytest.fixture(scope="module")
def model(cells):
    return ImageClassifier(
        "cellnet",
        backbone_options={"channels": (8, 16, 16, 16)},
        image_size=64,
        max_epochs=8,
        batch_size=8,
        lr=3e-3,
        random_state=0,
    ).fit(*cells)


@pytest.fixture(scope="module")
def transformer(cells):
    return ViTClassifier(
        "vit_tiny_patch16_224",
        backbone_options={"depth": 2, "embed_dim": 32, "num_heads": 2},
        image_size=64,
        max_epochs=1,
        random_state=0,
    ).fit(*cells)


def test_at_the_last_map_it_is_grad_cam(cells, model):
    """There the gradient is the weight of the last layer, whatever the place."""
    X, _ = cells
    wanted = np.zeros(len(X), dtype=int)
    heat = GradCAM._coarse(model, X, wanted, layer="layer4")
    net = model.net_
    with torch.no_grad():
        squares = np.stack([Resize(64).fit_transform(X[i : i + 1])[0, ..., :3] for i in range(32)])
        maps = net.module_.features(net.prepare(torch.from_numpy(squares)))
        weight = net.module_.backbone.fc.weight[0]
        expected = torch.einsum("nchw,c->nhw", maps, weight).clamp(min=0) / maps[0, 0].numel()
    np.testing.assert_allclose(heat, expected, atol=1e-6)


def test_the_heat_lies_where_the_difference_is(cells, model):
    X, y = cells
    display = GradCAM.from_estimator(model, X, target=y)
    assert all(heat.shape == (48, 48) and heat.max() == pytest.approx(1) for heat in display.maps)
    shares = display.shares_
    np.testing.assert_allclose(shares[["nucleus", "cytoplasm", "surround"]].sum(axis=1), 1)
    np.testing.assert_allclose(shares.filter(like="area").sum(axis=1), 1)
    on_cell, cell_area = 1 - shares["surround"].mean(), 1 - shares["surround_area"].mean()
    assert on_cell > 1.3 * cell_area


def test_one_call_on_a_fitted_pipeline(cells, model):
    X, _ = cells
    pipeline = Pipeline([("resize", Resize(64)), ("classify", FrozenEstimator(model))])
    pipeline.fit(X, cells[1])
    display = drawn = GradCAM.from_estimator(pipeline, X[:5], n_columns=3)
    assert display.maps[0].shape == (64, 64) and len(display.shares_) == 5
    assert len(drawn.ax_.images) == 2 * 5
    scale = [ax for ax in drawn.figure_.axes if "evidence" in ax.get_ylabel()]
    assert len(scale) == 1 and scale[0].get_ylim() == (0, 1)


def test_wrong_estimators_classes_and_layers_are_answered(cells, model, transformer):
    X, y = cells
    X = X[..., :3]
    color = Pipeline([("f", ColorFeatures()), ("c", LogisticRegression(max_iter=5000))]).fit(X, y)
    with pytest.raises(TypeError, match="ends in LogisticRegression"):
        GradCAM.from_estimator(color, X)
    with pytest.raises(ValueError, match="no class of the model"):
        GradCAM.from_estimator(model, X[:2], target="huge")
    with pytest.raises(ValueError, match="no module"):
        GradCAM.from_estimator(model, X[:2], layer="layer9")
    with pytest.raises(TypeError, match="'layr'; it takes target, layer. Did you mean 'layer'"):
        GradCAM.from_estimator(model, X[:2], layr="layer9")
    with pytest.raises(TypeError, match="no option 'layer'; it takes target"):
        AttentionMap.from_estimator(transformer, X[:2], layer="blocks")
    with pytest.raises(ValueError, match="2 images; give one label"):
        GradCAM.from_estimator(model, X[:2], target=["large"] * 3)
    with pytest.raises(TypeError, match="AttentionMap"):
        GradCAM.from_estimator(transformer, X[:2])
    with pytest.raises(TypeError, match="GradCAM"):
        AttentionMap.from_estimator(model, X[:2])
    with pytest.raises(ValueError, match="no cell map"):
        _ = GradCAM.from_estimator(model, X[:2]).shares_


def test_a_map_of_attention_leaves_the_network_as_it_was(cells, transformer):
    X, _ = cells
    module, before = transformer.net_.module_, transformer.predict_proba(X)
    fused = [m.fused_attn for m in module.modules() if hasattr(m, "fused_attn")]
    display = AttentionMap.from_estimator(transformer, X[:3])
    assert len(display.shares_) == 3 and all(0 <= m.min() <= m.max() == 1 for m in display.maps)
    np.testing.assert_array_equal(transformer.predict_proba(X), before)
    assert [m.fused_attn for m in module.modules() if hasattr(m, "fused_attn")] == fused
    assert all(not m._forward_hooks for m in module.modules())


def test_shares_and_faint_heat():
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    image = np.dstack([np.full((2, 2, 3), 100, np.uint8), labels])
    heat = np.array([[1.0, 1.0], [2.0, 0.0]])
    shares = GradCAM([image], [heat], ["blast 0.90"]).shares_.iloc[0]
    assert (shares["surround"], shares["cytoplasm"], shares["nucleus"]) == (0.25, 0.25, 0.5)
    image = np.full((4, 4, 3), 100, np.uint8)
    point = np.zeros((4, 4))
    point[0, 0] = 1
    assert (overlay(image, np.ones((4, 4)))[0, 0] != overlay(image, point)[0, 0]).any()


def test_the_gallery_sorts_by_confidence_and_colors_by_truth(cells):
    X, y = cells
    proba = np.tile([0.6, 0.4], (32, 1)) + np.linspace(0, 0.3, 32)[:, None] * [1, -1]
    display = ErrorGalleryDisplay(X, y, proba, ["large", "small"])
    assert display.right.tolist() == (y == "large").tolist()
    rows = display.order(10)
    assert (np.diff(display.confidence[rows]) <= 0).all()
    assert (~display.right[rows]).sum() == 5
    # the most confident errors, and the least confident of those that are right
    assert set(rows[~display.right[rows]]) == set(range(27, 32))
    assert set(rows[display.right[rows]]) == set(range(5))
    assert display.order(4, "wrong").tolist() == [31, 30, 29, 28]
    figure = display.plot(n_images=10).figure_
    frames = [p for ax in figure.axes for p in ax.patches if isinstance(p, Rectangle)]
    assert len(frames) == 10 and len({frame.get_edgecolor() for frame in frames}) == 2


def test_the_gallery_from_an_estimator(cells, model):
    X, y = cells
    display = ErrorGalleryDisplay.from_estimator(model, X, y)
    assert display.right.mean() == model.score(X, y)
    with pytest.raises(ValueError, match="must be"):
        ErrorGalleryDisplay(X, y, [[1.0]], ["a"])


@pytest.fixture(scope="module")
def windowed(cells):
    return WPATClassifier(
        backbone_options={
            "convnet_options": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
            "dim": 16,
            "heads": 2,
        },
        image_size=64,
        max_epochs=1,
        random_state=0,
    ).fit(*cells)


def test_the_map_of_a_windowed_transformer_is_its_pooling_weight(cells, windowed):
    X, _ = cells
    heat = AttentionMap._coarse(windowed, X[:4], np.zeros(4, dtype=int))
    assert heat.shape == (4, 16, 16)
    np.testing.assert_allclose(heat.sum((1, 2)), 1, rtol=1e-5)
    module = windowed.net_.module_.eval()
    squares = np.stack([Resize(64).fit_transform(X[i : i + 1])[0, ..., :3] for i in range(4)])
    with torch.no_grad():
        features = module.features(windowed.net_.prepare(torch.from_numpy(squares)))
        fine, coarse = module.backbone.attention_weights(features)
    spread = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2) / 4
    np.testing.assert_allclose(heat, fine + spread, atol=1e-6)
    assert AttentionMap.from_estimator(windowed, X[:3]).maps[0].shape == (48, 48)
    assert GradCAM.from_estimator(windowed, X[:3]).maps[0].shape == (48, 48)


def test_a_pretrainer_has_no_answer_to_look_into(cells):
    pretrainer = FCMAEPretrainer(
        "resnet24", backbone_options={"width": 8}, image_size=64, max_epochs=0
    ).fit(cells[0])
    with pytest.raises(TypeError, match="ends in FCMAEPretrainer"):
        AttentionMap.from_estimator(pretrainer, cells[0][:2])
