"""Label-free 3D semantic segmentation by hierarchical intra-modal correlation learning (HICL, CVPR 2024)."""

__version__ = "0.1.0"
