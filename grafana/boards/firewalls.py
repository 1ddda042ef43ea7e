"""Firewalls: what they drop, where and why; what comes through the edge."""

from grafana.boards.panels import Row, board, figure, lines

BOARD = (
    board("firewalls", "Firewalls", "What they drop, where and why; what comes through the edge.")
    .with_panel(
        figure(
            "Dropped",
            "Packets a second, by all firewalls, as their servers' health checks count them; none on a healthy stage. "
            "Try a door: `docker compose exec lb1 timeout 2 bash -c 'echo > /dev/tcp/app1/8000'`",
            ("sum(instance:firewall_drops:rate20s)", "packets"),
            unit="pps",
            steps={0: "green", 0.01: "orange", 1: "red"},
            span=6,
        )
    )
    .with_panel(
        figure(
            "New connections",
            "A second, that the edge let through to the balancer. One visitor may open EDGE_NEW_CONNECTIONS, 200.",
            ('sum(rate(haproxy_frontend_connections_total{proxy="visitors"}[20s]))', "connections"),
            unit="cps",
            span=6,
        )
    )
    .with_panel(
        figure(
            "Through the edge",
            "The prober asks from where visitors come. `make partition NODE=edge` turns it red.",
            ("probe_success", "visit"),
            words={0: ("shut", "red"), 1: ("open", "green")},
            span=6,
        )
    )
    .with_panel(
        figure(
            "Names refused",
            "Questions a second for names that are not ours. A server that looks for a dead peer asks them: "
            "`make kill NODE=app1`",
            ('sum(rate(nsd_queries_by_rcode_total{rcode="REFUSED"}[20s]))', "refused"),
            unit="reqps",
            span=6,
        )
    )
    .with_row(Row("Dropped"))
    .with_panel(
        lines(
            "Where",
            "Packets a second that each server's firewall dropped, both on their way in and on their way out. "
            "More than one a second for 15 s raises an alert.",
            ("instance:firewall_drops:rate20s", "{{instance}}"),
            unit="pps",
        )
    )
    .with_panel(
        lines(
            "Why",
            "The same by the rule that dropped them. `make firewall` has every rule, `make firewall WATCH=1` each "
            "packet as it is dropped.",
            ("sum by (reason) (rate(firewall_dropped_packets_total[20s]))", "{{reason}}"),
            unit="pps",
        )
    )
    .with_row(Row("Through the edge"))
    .with_panel(
        lines(
            "New connections, requests",
            "A second. A crowd that opens connections faster than it may is held at the limit, while `make firewall` "
            "counts what was dropped.",
            ('sum(rate(haproxy_frontend_connections_total{proxy="visitors"}[20s]))', "new connections"),
            ('layer:requests:rate20s{layer="visitors"}', "visitors' requests"),
            unit="short",
        )
    )
    .with_panel(
        lines(
            "Questions to the name server",
            "A second, by answer: NOERROR for our names, REFUSED for all others, to visitors and servers alike.",
            ("rate(nsd_queries_by_rcode_total[20s]) > 0", "{{rcode}}"),
            unit="reqps",
        )
    )
    .with_panel(
        lines(
            "The prober's visit by phase",
            "Each passes the edge: the name by UDP, then TCP, TLS, the page. `make slow NODE=edge` lifts them all.",
            ("probe_http_duration_seconds", "{{phase}}"),
            unit="s",
            span=24,
        )
    )
)
