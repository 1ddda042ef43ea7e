"""The site at a glance: is it up, what is asked of every layer, who serves whom, who answers. The first board shown."""

from grafana.boards.panels import GOOD_WHEN_0, Row, bars, board, figure, lines, names, states

BOARD = (
    board(
        "glance", "The site at a glance", "Is the site up, what is asked of every layer, who serves whom, who answers."
    )
    .with_panel(
        figure(
            "The site",
            "The front page, asked for every 5 s by its name, through the edge, as a visitor does. "
            "`make kill NODE=edge` turns it red.",
            ("probe_success", "site"),
            words={0: ("down", "red"), 1: ("up", "green")},
            span=3,
        )
    )
    .with_panel(
        figure(
            "Requests of visitors",
            "Answers a second to visitors, over 20 s: pages, redirects and errors. "
            'The prober is a visitor too. `make drill FAULT="kill web1"` sends 120.',
            ('layer:requests:rate20s{layer="visitors"}', "visitors"),
            unit="reqps",
            span=3,
        )
    )
    .with_panel(
        figure(
            "Errors",
            "The share of visitors' requests answered with 5xx, over 20 s. "
            "`make kill NODE=primary`: whoever writes gets one.",
            ('max(instance:errors:ratio20s{layer="visitors"})', "errors"),
            unit="percentunit",
            steps={0: "green", 0.001: "orange", 0.05: "red"},
            span=3,
        )
    )
    .with_panel(
        figure(
            "A visit takes",
            "From asking for the name to the end of the page. `make slow NODE=lb1` delays each of its packets.",
            ("probe_duration_seconds", "visit"),
            unit="s",
            steps={0: "green", 0.5: "orange", 2: "red"},
            span=3,
        )
    )
    .with_panel(
        names(
            "Primary",
            "The database that accepts writes. `make kill NODE=primary` leaves none.",
            ("mysql_global_variables_read_only == 0", "{{instance}}"),
            span=3,
        )
    )
    .with_panel(
        figure(
            "Silent",
            "Servers that do not answer; which, below, at the end. `make kill NODE=web2`",
            ("count(instance:up:bool == 0) or vector(0)", "servers"),
            steps=GOOD_WHEN_0,
            span=3,
        )
    )
    .with_panel(
        figure(
            "Alerts",
            "How many alerts are firing; which, says `make alerts`. Any `make kill` raises one within a minute.",
            ('count(ALERTS{alertstate="firing",alertname!="Watchdog"}) or vector(0)', "alerts"),
            steps=GOOD_WHEN_0,
            span=3,
        )
    )
    .with_panel(
        figure(
            "The certificate",
            "Days until it ends. `make certificate RENEW=1` makes a new one.",
            ("(probe_ssl_earliest_cert_expiry - time()) / 86400", "days"),
            unit="d",
            steps={0: "red", 7: "green"},
            span=3,
        ).decimals(0)
    )
    .with_row(Row("Layers"))
    .with_panel(
        lines(
            "Requests a second of every layer",
            "What is counted where: docs/decisions/requests-of-every-layer.md. A page costs each layer a request, "
            "a database a read. `make qps` shows the same in the terminal.",
            ('layer:requests:rate20s{layer!="database"}', "{{layer}}"),
            ('layer:requests:rate20s{layer="database"}', "{{layer}}, {{operation}}s"),
            unit="reqps",
        )
    )
    .with_panel(
        bars(
            "Who serves whom",
            "Requests a second on each way, now. On stage 2 a web server asks the application server of its number, "
            "from stage 3 on any. `make kill NODE=web1` sends all by web2, `make pause NODE=replica` all reads to the "
            "primary.",
            ('instance:requests:rate20s{layer="web"}', "balancer → {{instance}}"),
            ('instance:requests:rate20s{layer="app"}', "web servers → {{instance}}"),
            (
                "sum by (instance, database, operation) (rate(wall_database_queries_total[20s]))",
                "{{instance}} → {{database}}, {{operation}}s",
            ),
            unit="reqps",
        )
    )
    .with_panel(
        lines(
            "How long an answer takes",
            "The balancer's mean of its last 1,024 answers; the time in which 95 % of the application's are done, over "
            "a minute; the prober's visit. `make slow NODE=app1` lifts them.",
            ('instance:request_seconds:avg{layer="balancer"}', "{{instance}}, mean"),
            ("instance:request_seconds:p95_1m", "{{instance}}, 95 %"),
            ("probe_duration_seconds", "visitors, the prober"),
            unit="s",
        )
    )
    .with_panel(
        lines(
            "How full",
            "The share in use: of connections at the balancer, nginx and MySQL, of the application's threads, of the "
            "machine's cores, memory and disk. Above 90 % for 30 s a server raises an alert.",
            ("instance:saturation:ratio", "{{instance}}, {{layer}}"),
            unit="percentunit",
            top=1,
        )
    )
    .with_row(Row("Servers"))
    .with_panel(
        states(
            "Who answers",
            "Each server, asked every 5 s by the monitoring client of its zone, or by its own health check. A row that "
            "ends belongs to somebody of whom nothing is heard, since the client or exporter that asks for it is dead. "
            "`make kill NODE=app2`",
            ("instance:up:bool", "{{instance}}"),
            span=24,
        ).height(14)
    )
)
