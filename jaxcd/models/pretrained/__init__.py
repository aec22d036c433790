"""Siamese networks whose encoders can begin with ImageNet weights: EfficientNet-Lite0 and ResNets."""
