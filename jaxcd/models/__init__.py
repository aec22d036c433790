"""The networks: blocks, U-Nets, their pure form, and weights of the PyTorch reference."""

from jaxcd.models.embedding import Embedding
from jaxcd.models.functional import Network, apply, build, merge, split
from jaxcd.models.torch_weights import infer_architecture, load_torch_state_dict
from jaxcd.models.unet import DECODER_BLOCKS, ENCODER_BLOCKS, create

__all__ = [
    "DECODER_BLOCKS",
    "ENCODER_BLOCKS",
    "Embedding",
    "Network",
    "apply",
    "build",
    "create",
    "infer_architecture",
    "load_torch_state_dict",
    "merge",
    "split",
]
