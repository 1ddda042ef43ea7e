"""Web and application servers: what each does, how long it takes, how full it is."""

from grafana.boards.panels import Row, board, figure, lines

BOARD = (
    board(
        "servers",
        "Web and application servers",
        "What nginx and the application do, how long it takes, how full they are.",
    )
    .with_panel(
        figure(
            "Requests of the application",
            "Answers a second of all servers, over 20 s. Static files are nginx's own affair, and not among them.",
            ('layer:requests:rate20s{layer="app"}', "app"),
            unit="reqps",
        )
    )
    .with_panel(
        figure(
            "Errors",
            "The share answered with 5xx, of the server that has most. `make kill NODE=primary`",
            ('max(instance:errors:ratio20s{layer="app"})', "errors"),
            unit="percentunit",
            steps={0: "green", 0.001: "orange", 0.05: "red"},
        )
    )
    .with_panel(
        figure(
            "Half of the answers take",
            "At most this long, over a minute, at the slower server. `make slow NODE=replica` shows here.",
            ("max(instance:request_seconds:p50_1m)", "half"),
            unit="s",
            steps={0: "green", 0.2: "orange", 1: "red"},
        )
    )
    .with_panel(
        figure(
            "99 % take",
            "At most this long, over a minute, at the slower server. Signing in takes a slow hash, on purpose.",
            ("max(instance:request_seconds:p99_1m)", "99 %"),
            unit="s",
            steps={0: "green", 0.5: "orange", 2: "red"},
        )
    )
    .with_panel(
        figure(
            "Busy threads",
            "Requests that are being answered now.",
            ("sum(wall_http_requests_in_progress)", "busy"),
        )
    )
    .with_panel(
        figure(
            "Threads",
            "All there are: APP_WORKERS × APP_THREADS of each server. `make kill NODE=app1` halves them.",
            ("sum(wall_threads)", "threads"),
        )
    )
    .with_row(Row("Together"))
    .with_panel(
        lines(
            "Requests of each server",
            "Answers a second. On stage 2 web1 passes on to app1 alone: a dead app1 makes web1 useless. From stage 3 "
            "on any web server asks any.",
            ('instance:requests:rate20s{layer=~"web|app"}', "{{instance}}"),
            unit="reqps",
        )
    )
    .with_panel(
        lines(
            "Share of errors",
            "Of the answers of each server. `make kill NODE=primary`: whoever writes gets one.",
            ('instance:errors:ratio20s{layer=~"web|app"}', "{{instance}}"),
            unit="percentunit",
        )
    )
    .with_row(Row("Application"))
    .with_panel(
        lines(
            "What is asked for",
            "Answers a second, by method and route.",
            (
                "sum by (method, route) (rate(wall_http_request_duration_seconds_count[20s]))",
                "{{method}} {{route}}",
            ),
            unit="reqps",
        )
    )
    .with_panel(
        lines(
            "How long an answer takes",
            "The time in which half, 95 % and 99 % are done, over a minute, estimated. `make slow NODE=replica`",
            ("instance:request_seconds:p50_1m", "{{instance}}, half"),
            ("instance:request_seconds:p95_1m", "{{instance}}, 95 %"),
            ("instance:request_seconds:p99_1m", "{{instance}}, 99 %"),
            unit="s",
        )
    )
    .with_panel(
        lines(
            "Share of threads that are busy",
            "At 100 % the next request waits in Gunicorn's queue. `make pause NODE=primary` while somebody writes.",
            ('instance:saturation:ratio{layer="app"}', "{{instance}}"),
            unit="percentunit",
            top=1,
        )
    )
    .with_row(Row("nginx"))
    .with_panel(
        lines(
            "How long an answer of a web server takes",
            "As the balancer sees it, the application's part included: mean of the last 1,024. `make slow NODE=web1`",
            ('instance:request_seconds:avg{layer="web"}', "{{instance}}, mean"),
            unit="s",
            span=8,
        )
    )
    .with_panel(
        lines(
            "Connections",
            "From the balancer, which keeps them; waiting are those without a request at the moment.",
            ("nginx_connections_active", "{{instance}}, all"),
            ("nginx_connections_waiting", "{{instance}}, waiting"),
            unit="short",
            span=8,
        )
    )
    .with_panel(
        lines(
            "Requests by nginx's own count",
            "A second. More than the balancer says: the balancer's health check, the container's and the exporter's "
            "question are requests too.",
            ("rate(nginx_http_requests_total[20s])", "{{instance}}"),
            unit="reqps",
            span=8,
        )
    )
)
