"""Forward the event plane's messages between two ports of loopback: event_broker.py IN OUT."""

import sys

import zmq  # type: ignore[import-not-found]  # of the service's own environment


def main(in_port: int, out_port: int) -> None:
    """Forward until killed."""
    context = zmq.Context()
    publishers = context.socket(zmq.XSUB)
    publishers.bind(f"tcp://127.0.0.1:{in_port}")
    subscribers = context.socket(zmq.XPUB)
    subscribers.bind(f"tcp://127.0.0.1:{out_port}")
    zmq.proxy(publishers, subscribers)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
