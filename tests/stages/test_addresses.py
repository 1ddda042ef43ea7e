"""Addresses change when containers are created again; whoever asks for them by name sees it without a restart."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ladder.engine import client
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack

SEEN_WITHIN = 10.0
"""Seconds from the new container's health to the first answer through web1; nginx forgets a name after one."""


def address(stack: Stack, node: str, zone: str) -> str:
    """The container's address in a zone."""
    network = stack.node(node).attrs["NetworkSettings"]["Networks"][f"{stack.settings.project}_{zone}"]
    return str(network["IPAddress"])


@contextmanager
def squatter(stack: Stack, node: str) -> Iterator[None]:
    """The container is gone, and another one has its address in the web zone."""
    old = address(stack, node, "web")
    network = f"{stack.settings.project}_web"
    stack.up = -1
    stack.compose("rm", "--stop", "--force", node)
    other = client().containers.run(
        f"{stack.settings.project}/edge",
        ["300"],
        entrypoint="sleep",
        name=f"{stack.settings.project}-squatter",
        network=network,
        networking_config={network: client().api.create_endpoint_config(ipv4_address=old)},
        detach=True,
        init=True,
    )
    try:
        yield
        assert address(stack, node, "web") != old, "it came back to the same address, so nothing is proven"
    finally:
        other.remove(force=True)
    stack.must("heal")


@pytest.mark.stage(0, 2)
def test_nginx_sees_the_new_address_of_a_recreated_app_server(stack: Stack, measure: Measure) -> None:
    web1 = stack.node("web1").attrs["State"]["StartedAt"]
    # Asked at web1 itself, for the balancer would go round it.
    ask = "exec 3<>/dev/tcp/127.0.0.1/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; read -r line <&3; echo $line"
    with squatter(stack, "app1"):
        stack.compose("up", "--detach", "--no-build", "app1")
        begun = time.monotonic()
        wait_until(
            lambda: stack.node("app1").attrs["State"]["Health"]["Status"] == "healthy",
            within=60,
            what="app1 is healthy",
        )
        measure("seconds until app1 is healthy", round(time.monotonic() - begun, 1))
        wait_until(
            lambda: " 200 " in stack.run_in("web1", "bash", "-c", ask),
            within=SEEN_WITHIN,
            what="web1 answers from the new app1",
        )
        measure("seconds until web1 answers", round(time.monotonic() - begun, 1))
        assert stack.node("web1").attrs["State"]["StartedAt"] == web1, "web1 was restarted"


@pytest.mark.stage(1)
def test_the_balancer_sees_the_new_address_of_a_recreated_web_server(stack: Stack, measure: Measure) -> None:
    """web2 has no fixed address."""

    def served() -> bool:
        with stack.visitor() as visitor:
            return any("web2" in visitor.get("/static/favicon.svg").headers["X-Served-By"] for _ in range(4))

    with squatter(stack, "web2"):
        stack.compose("up", "--detach", "--no-build", "web2")
        begun = time.monotonic()
        wait_until(served, within=30, what="the balancer sends requests to the new web2")
        measure("seconds until web2 answers through lb1", round(time.monotonic() - begun, 1))
