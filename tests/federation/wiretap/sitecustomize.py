"""Python runs this at the start of every process of a site under test: it copies each frame that FLARE sends.

The copy is taken where FLARE hands a frame to the network, before TLS: a file a process, length and bytes a frame.
"""

import os
import sys


def _tap(folder):
    from nvflare.fuel.f3.sfm.sfm_conn import SfmConnection

    connect = SfmConnection.__init__

    def connect_and_listen(self, conn, local_endpoint):
        connect(self, conn, local_endpoint)
        send = conn.send_frame

        def copy_and_send(frame):
            descriptor = os.open(
                os.path.join(folder, f"{os.getpid()}.frames"), os.O_WRONLY | os.O_CREAT | os.O_APPEND
            )
            os.write(descriptor, len(frame).to_bytes(4, "big") + bytes(frame))
            os.close(descriptor)
            send(frame)

        conn.send_frame = copy_and_send

    SfmConnection.__init__ = connect_and_listen


if "FEDGRAM_WIRETAP" in os.environ and any("nvflare" in argument for argument in sys.orig_argv):
    _tap(os.environ["FEDGRAM_WIRETAP"])
