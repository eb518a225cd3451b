//! The CLIPs that pictures are scored with, and where the published ones are found.

use crate::judge::published::Published;

/// A CLIP. Two of them have different weights, so what they say can't be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tower {
    /// The bundle's.
    Bundle,
    /// OpenAI's ViT-B/32.
    ClipB32,
    /// OpenAI's ViT-L/14.
    ClipL14,
    /// LAION's ViT-H/14.
    ClipH14,
    /// HPS v2.0, tuned from ViT-H/14.
    HpsV20,
    /// HPS v2.1, tuned further.
    HpsV21,
    /// PickScore, tuned from ViT-H/14.
    PickScore,
}

/// How files of OpenAI's and open_clip's names are read: what shapes don't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Original {
    /// Whether GELU is OpenAI's approximation.
    pub(super) quick_gelu: bool,
    /// The width of a head of the vision tower and of the text tower.
    pub(super) heads: [u64; 2],
    /// Whether pictures are seen whole, as HPS does.
    pub(super) whole: bool,
}

impl Tower {
    /// All that are published.
    pub const PUBLISHED: [Self; 6] = [
        Self::ClipB32,
        Self::ClipL14,
        Self::ClipH14,
        Self::HpsV20,
        Self::HpsV21,
        Self::PickScore,
    ];

    /// Its key in `scores.json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Bundle => "clip",
            Self::ClipB32 => "clip_b32",
            Self::ClipL14 => "clip_l14",
            Self::ClipH14 => "clip_h14",
            Self::HpsV20 => "hps_v2.0",
            Self::HpsV21 => "hps_v2.1",
            Self::PickScore => "pick",
        }
    }

    /// What the user has to give.
    pub fn needed(self) -> &'static str {
        match self {
            Self::Bundle => "--model BUNDLE with the parts clip_text and clip_vision",
            Self::ClipB32 => {
                "--weights DIR with ViT-B-32.pt or clip-vit-base-patch32, or that in the hub's cache"
            }
            Self::ClipL14 => {
                "--weights DIR with ViT-L-14.pt or clip-vit-large-patch14, or that in the hub's cache"
            }
            Self::ClipH14 => {
                "--weights DIR with CLIP-ViT-H-14-laion2B-s32B-b79K, or that in the hub's cache"
            }
            Self::HpsV20 => {
                "--weights DIR with HPS_v2_compressed.pt, or xswu/HPSv2 in the hub's cache"
            }
            Self::HpsV21 => {
                "--weights DIR with HPS_v2.1_compressed.pt, or xswu/HPSv2 in the hub's cache"
            }
            Self::PickScore => "--weights DIR with PickScore_v1, or that in the hub's cache",
        }
    }

    /// Under which names it is published; nothing for the bundle's.
    pub fn published(self) -> Option<Published> {
        let files = |files| Published {
            files,
            repositories: &[],
        };
        let repositories = |repositories| Published {
            files: &[],
            repositories,
        };
        Some(match self {
            Self::Bundle => return None,
            Self::ClipB32 => Published {
                files: &[("ViT-B-32.pt", None)],
                repositories: &[
                    "openai/clip-vit-base-patch32",
                    "timm/vit_base_patch32_clip_224.openai",
                ],
            },
            Self::ClipL14 => Published {
                files: &[("ViT-L-14.pt", None)],
                repositories: &[
                    "openai/clip-vit-large-patch14",
                    "timm/vit_large_patch14_clip_224.openai",
                ],
            },
            Self::ClipH14 => repositories(&["laion/CLIP-ViT-H-14-laion2B-s32B-b79K"]),
            Self::HpsV20 => files(&[("HPS_v2_compressed.pt", Some("xswu/HPSv2"))]),
            Self::HpsV21 => files(&[("HPS_v2.1_compressed.pt", Some("xswu/HPSv2"))]),
            Self::PickScore => repositories(&["yuvalkirstain/PickScore_v1"]),
        })
    }

    /// How its single file is read: CLIP's own code takes heads of 64 everywhere, open_clip's ViT-H/14 has
    /// heads of 80 in its vision tower.
    pub(super) fn original(self) -> Original {
        let openai = matches!(self, Self::Bundle | Self::ClipB32 | Self::ClipL14);
        Original {
            quick_gelu: openai,
            heads: if openai { [64, 64] } else { [80, 64] },
            whole: matches!(self, Self::HpsV20 | Self::HpsV21),
        }
    }
}
