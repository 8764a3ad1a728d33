"""The two model families, for tests that hold of both."""

from collections.abc import Mapping

import pytest

LTX23, LTX_VIDEO = "ltx-2.3", "ltx-video"
BOTH = (LTX23, LTX_VIDEO)

both_families = pytest.mark.parametrize("family_name", BOTH, indirect=True)
"""Run a test on the miniature of each family; what uses `family_name`, directly or not, follows."""
ltx_video_only = pytest.mark.parametrize("family_name", [LTX_VIDEO], indirect=True)

ENDPOINTS: Mapping[str, str] = {LTX23: "fal-ai/ltx23-trainer-v2/t2v", LTX_VIDEO: "fal-ai/ltx-video-trainer"}
"""Text to video in each family."""
FIRST_FRAME: Mapping[str, str] = {LTX23: "fal-ai/ltx23-trainer-v2/i2v", LTX_VIDEO: "fal-ai/ltx-video-trainer"}
"""A first frame and text to video in each family."""
STREAMS: Mapping[str, tuple[str, ...]] = {LTX23: ("video", "audio"), LTX_VIDEO: ("video",)}
"""What each family makes of such a run."""
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    LTX23: ("vae", "audio_vae", "text_encoder"),
    LTX_VIDEO: ("vae", "text_encoder"),
}
"""What fills the cache."""
