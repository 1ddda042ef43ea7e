"""The balancer: what visitors ask and get, which web servers it uses, what it had to try again."""

from grafana.boards.panels import Row, board, figure, lines, states

BOARD = (
    board(
        "balancer", "Balancer", "What visitors ask of HAProxy and get, which web servers it uses, what it tried again."
    )
    .with_panel(
        figure(
            "Web servers in use",
            "Those whose health checks succeed. `make kill NODE=web1` leaves one.",
            ('count(max by (server) (haproxy_server_status{proxy="web",state="UP"}) == 1) or vector(0)', "web servers"),
            steps={0: "red", 1: "orange", 2: "green"},
        )
    )
    .with_panel(
        figure(
            "Requests of visitors",
            "Answers a second, over 20 s.",
            ('layer:requests:rate20s{layer="visitors"}', "visitors"),
            unit="reqps",
        )
    )
    .with_panel(
        figure(
            "Connections of visitors",
            "Open now; a browser keeps one for many requests.",
            ('sum(haproxy_frontend_current_sessions{proxy="visitors"})', "connections"),
        )
    )
    .with_panel(
        figure(
            "An answer takes",
            "From the request to the end of the answer, mean of the last 1,024. `make pause NODE=app1` shows.",
            ('max(instance:request_seconds:avg{layer="balancer"})', "mean"),
            unit="s",
            steps={0: "green", 0.5: "orange", 2: "red"},
        )
    )
    .with_panel(
        figure(
            "Tried again",
            "Requests of the last five minutes for which a web server could not be reached, or fell silent. "
            '`make drill FAULT="kill web1"` makes some.',
            ('sum(increase(haproxy_backend_retry_warnings_total{proxy="web"}[5m]))', "requests"),
            steps={0: "green", 1: "orange"},
        ).decimals(0)
    )
    .with_panel(
        figure(
            "Given to another",
            "Those of them that the other web server answered: what a visitor of a dead server is saved by.",
            ('sum(increase(haproxy_backend_redispatch_warnings_total{proxy="web"}[5m]))', "requests"),
            steps={0: "green", 1: "orange"},
        ).decimals(0)
    )
    .with_row(Row("Visitors"))
    .with_panel(
        lines(
            "Answers to visitors",
            "A second, by class of status, HAProxy's own included. 3xx: http sent to https; 5xx: whoever writes after "
            "`make kill NODE=primary`.",
            ('sum by (code) (rate(haproxy_frontend_http_responses_total{proxy="visitors"}[20s]))', "{{code}}"),
            unit="reqps",
        )
    )
    .with_panel(
        lines(
            "Share of errors",
            "Of the answers to visitors, of those the balancer had the web servers give, and of each web server's.",
            ('instance:errors:ratio20s{layer="visitors"}', "{{instance}}, to visitors"),
            ('instance:errors:ratio20s{layer="balancer"}', "{{instance}}, of web servers"),
            ('instance:errors:ratio20s{layer="web"}', "{{instance}}"),
            unit="percentunit",
        )
    )
    .with_row(Row("Web servers"))
    .with_panel(
        lines(
            "Requests of each web server",
            "Answers a second. Alike by LB_ALGORITHM=roundrobin; with LB_MODE=active-passive all are web1's, until "
            "`make kill NODE=web1`.",
            ('instance:requests:rate20s{layer="web"}', "{{instance}}"),
            unit="reqps",
        )
    )
    .with_panel(
        states(
            "In use",
            "The balancer's own view, by a health check a second. `make partition NODE=web2`",
            ('haproxy_server_status{proxy="web",state="UP"}', "{{server}}, says {{instance}}"),
        )
    )
    .with_panel(
        lines(
            "Tried again, given to another",
            "Requests a second. Each is a visitor who waits longer, and does not get an error.",
            ('sum(rate(haproxy_backend_retry_warnings_total{proxy="web"}[20s]))', "tried again"),
            ('sum(rate(haproxy_backend_redispatch_warnings_total{proxy="web"}[20s]))', "given to another"),
            unit="reqps",
        )
    )
    .with_panel(
        lines(
            "Failed health checks",
            "In the last minute, of each web server. `make kill NODE=web2`",
            ('sum by (server) (increase(haproxy_server_check_failures_total{proxy="web"}[1m]))', "{{server}}"),
            unit="short",
        )
    )
    .with_row(Row("Two that share an address"))
    .with_panel(
        states(
            "Holds the address",
            "On stage 3: one at a time. `make kill NODE=lb` moves it; with `make partition NODE=lb WAY=standby` both "
            "have it. With LB_CLUSTER=active-active there are two addresses, and each balancer has one.",
            ("lb_holds_address", "{{instance}}, {{address}}"),
        )
    )
    .with_panel(
        states(
            "Sees the other",
            "Each asks both once a second how they are; who could take over is here. `make kill NODE=standby`",
            ('haproxy_server_status{proxy="balancers",state="UP"}', "{{server}}, says {{instance}}"),
        )
    )
)
