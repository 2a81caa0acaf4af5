import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hemaest.deep import DeepEmbedding, ImageClassifier, ResNet24Classifier, ViTClassifier
from hemaest.nets import ResNet24, build_net, load_weights, read_weights
from hemaest.nets.convnets import Shortcut

TINY_VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2}


def test_resnet24_has_24_weighted_layers_and_shortcuts_without_weights():
    net = ResNet24(4, width=8)
    weighted = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 24
    shortcuts = [m for m in net.modules() if isinstance(m, Shortcut)]
    assert len(shortcuts) == 7 and not any(list(m.parameters()) for m in shortcuts)


def test_each_block_begins_as_its_shortcut():
    net = ResNet24(4, width=8).eval()
    x = torch.rand(2, 3, 64, 64)
    expected = net.stem(x)
    for stage in net.stages:
        for block in stage:
            expected = torch.relu(block.shortcut(expected))
    torch.testing.assert_close(net.forward_features(x), expected)


@pytest.mark.parametrize("side", [9, 33, 64, 97])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_resnet24_takes_any_size(side, norm):
    net = ResNet24(3, width=8, norm=norm).eval()
    assert net(torch.rand(1, 3, side, side)).shape == (1, 3)
    batch_norms = any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert batch_norms == (norm == "batch")


def test_group_norm_does_not_look_at_the_other_images():
    net = ResNet24(3, width=8, norm="group").train()
    x = torch.rand(4, 3, 64, 64)
    torch.testing.assert_close(net(x)[:1], net(x[:1]))


@pytest.mark.parametrize("name", ["resnet24", "cellnet", "resnet10t", "vit_tiny_patch16_224"])
def test_every_net_is_called_the_same_way(name):
    net, report = build_net(name, 5, image_size=64)
    net.eval()
    x = torch.rand(2, 3, 64, 64)
    assert report is None
    torch.testing.assert_close(net.head(net.features(x)), net(x))
    assert net.embed(x).shape == (2, net.num_features)
    assert build_net(name, 0, image_size=64)[0](x).shape == (2, net.num_features)


def test_a_safetensors_and_a_torch_file_give_the_same_net(tmp_path):
    trained = ResNet24(7, width=8)
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    torch.save({"epoch": 3, "state_dict": trained.state_dict()}, tmp_path / "w.pth")
    wrapped = {f"module.{k}": v for k, v in trained.state_dict().items()}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    for name in ("w.safetensors", "w.pth", "wrapped.pth"):
        net = ResNet24(4, width=8)
        report = load_weights(net, tmp_path / name)  # another last layer is no surprise
        assert set(report["mismatched"]) == {"fc.weight", "fc.bias"}
        torch.testing.assert_close(net.stages[1][0].conv2.weight, trained.stages[1][0].conv2.weight)


def test_what_does_not_match_is_listed(tmp_path):
    weights = ResNet24(4, width=8).state_dict()
    weights.pop("stages.2.0.conv1.weight")
    weights["stages.1.0.conv1.weight"] = torch.zeros(1, 2)
    weights["something.else"] = torch.zeros(3)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match="matches only a part of") as warned:
        report = load_weights(ResNet24(4, width=8), tmp_path / "w.safetensors")
    assert report["missing"] == ["stages.2.0.conv1.weight"]
    assert report["unexpected"] == ["something.else"]
    assert report["mismatched"] == ["stages.1.0.conv1.weight"]
    for name in ("stages.2.0.conv1.weight", "something.else", "stages.1.0.conv1.weight"):
        assert name in str(warned[0].message)
    save_file({"other": torch.zeros(2)}, tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="nothing in .* fits"):
        load_weights(ResNet24(4, width=8), tmp_path / "none.safetensors")


class Payload:
    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


def test_files_never_run_code(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "optimizer": Payload()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="could run code"):
        read_weights(tmp_path / "w.pth")
    assert not Payload.ran
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError):
        read_weights(tmp_path / "broken.pth")


def test_position_embeddings_follow_the_image_size(tmp_path):
    trained, _ = build_net("vit_tiny_patch16_224", 3, image_size=64, **TINY_VIT)
    save_file(trained.backbone.state_dict(), tmp_path / "w.safetensors")
    larger, report = build_net(
        "vit_tiny_patch16_224",
        3,
        image_size=96,
        pretrained=str(tmp_path / "w.safetensors"),
        **TINY_VIT,
    )
    assert not report["mismatched"] and not report["missing"]
    assert larger.backbone.pos_embed.shape[1] == 37
    small, large = trained.backbone.pos_embed[0, 1:], larger.backbone.pos_embed[0, 1:]
    # a smooth resize keeps the mean of each channel about where it was
    assert torch.corrcoef(torch.stack([small.mean(0), large.mean(0)]))[0, 1] > 0.9


def test_a_transformer_needs_whole_patches():
    with pytest.raises(ValueError, match="take 96 or 112"):
        build_net("vit_tiny_patch16_224", 3, image_size=100, **TINY_VIT)


def test_classifiers_and_embeddings_start_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (8, 32, 32, 3)).astype(np.uint8)
    y = ["a", "b"] * 4
    options = {"backbone_options": {"width": 8}, "image_size": 32}
    net = ResNet24(5, width=8)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    path = tmp_path / "w.safetensors"
    model = ResNet24Classifier(pretrained=path, max_epochs=0, random_state=0, **options).fit(X, y)
    assert sorted(model.pretrained_report_["mismatched"]) == ["fc.bias", "fc.weight"]
    embedding = DeepEmbedding("resnet24", pretrained=str(path), **options).fit(X)
    np.testing.assert_allclose(embedding.transform(X), model.transform(X), atol=1e-5)
    x = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        expected = net.eval().forward_head(net.forward_features(x), pre_logits=True)
    np.testing.assert_allclose(embedding.transform(X), expected, atol=1e-4)


def test_layers_learn_slower_only_from_trained_weights():
    assert ViTClassifier()._layer_decay() is None
    assert ViTClassifier(pretrained=True)._layer_decay() == 0.75
    assert ImageClassifier(layer_decay=0.6)._layer_decay() == 0.6


def test_without_a_network_the_error_says_how_to_give_a_file(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match="download them elsewhere and give the file"):
        build_net("resnet10t", 3, pretrained=True)
