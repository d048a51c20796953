"""Let torch.hub load the network: torch.hub.load(PATH_OR_REPOSITORY, "lenet5", source="local")."""

dependencies = ["torch", "numpy"]


def lenet5(pretrained=True, device="cpu"):
    """Return LeNet-5 in evaluation mode, with the shipped weights if pretrained.

    It takes images, float (N, 1, 32, 32), as utils.to_inputs() makes them of uint8 (N, 28, 28), ink
    255; it returns (logits, probabilities), each (N, 10).
    """
    import utils
    from training.checkpoints import build_network, load_checkpoint

    model = load_checkpoint(utils.SHIPPED)[0] if pretrained else build_network()
    return model.to(utils.pick_device(device)).eval()
