"""The networks: blocks, U-Nets, their pure form, ImageNet weights, and weights of the PyTorch reference."""

from jaxcd.models.convolutions.choice import Convolutions, choose_convolutions
from jaxcd.models.description import ENCODER, IMAGENET, DamageNetwork, Description, Normalisation
from jaxcd.models.embedding import Embedding
from jaxcd.models.functional import Network, apply, build, merge, split
from jaxcd.models.networks import NETWORKS, check, create, describe, find
from jaxcd.models.pretrained.weights import Pretrained, load_pretrained
from jaxcd.models.torch_weights import infer_architecture, load_torch_state_dict

__all__ = [
    "ENCODER",
    "IMAGENET",
    "NETWORKS",
    "Convolutions",
    "DamageNetwork",
    "Description",
    "Embedding",
    "Network",
    "Normalisation",
    "Pretrained",
    "apply",
    "build",
    "check",
    "choose_convolutions",
    "create",
    "describe",
    "find",
    "infer_architecture",
    "load_pretrained",
    "load_torch_state_dict",
    "merge",
    "split",
]
