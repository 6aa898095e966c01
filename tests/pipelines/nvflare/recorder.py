"""A filter that writes down what passes it, as JSON. NVFlare copies this file into the job."""

import json
from pathlib import Path

from nvflare.apis.filter import Filter
from nvflare.app_common.app_constant import AppConstants


class Recorder(Filter):
    def __init__(self, directory, side):
        super().__init__()
        self.directory = directory
        self.side = side

    def process(self, shareable, fl_ctx):
        peer = fl_ctx.get_peer_context()
        site = peer.get_identity_name() if self.side == "server" else fl_ctx.get_identity_name()
        number = shareable.get_header(AppConstants.CURRENT_ROUND)
        text = json.dumps(shareable, default=plain)
        (Path(self.directory) / f"{self.side}-{site}-{number}.json").write_text(text)
        return shareable


def plain(value):
    return value.tolist() if hasattr(value, "tolist") else repr(value)
