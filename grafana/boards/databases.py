"""Databases and replication: who is what, how far behind, what is read and written where."""

from grafana.boards.panels import Row, board, figure, lines, names, states

CONFIRMED = "mysql_global_status_rpl_semi_sync_source_status and on (instance) mysql_global_variables_read_only == 0"

BOARD = (
    board(
        "databases",
        "Databases and replication",
        "Who is primary, how far behind the replica is, what is read and written where.",
    )
    .with_panel(
        names(
            "Primary",
            "Accepts writes. `make kill NODE=primary` leaves none until it is started again.",
            ("mysql_global_variables_read_only == 0", "{{instance}}"),
        )
    )
    .with_panel(
        figure(
            "Accept writes",
            "One is right. None: reading goes on. Two: what they accept can't be brought together again.",
            ("count(mysql_global_variables_read_only == 0) or vector(0)", "databases"),
            steps={0: "red", 1: "green", 2: "red"},
        )
    )
    .with_panel(
        names(
            "Replica",
            "Follows the primary, and answers what is read. `make kill NODE=replica`: the primary does that too.",
            ("mysql_global_variables_read_only == 1", "{{instance}}"),
        )
    )
    .with_panel(
        figure(
            "Behind",
            "Seconds. Beyond DB_MAX_LAG_SECONDS, 5, the application reads from the primary, beyond 10 an alert fires; "
            "nothing, if the replica hears nothing of the primary.",
            ("max(mysql_slave_status_seconds_behind_source)", "replica"),
            unit="s",
            steps={0: "green", 5: "orange", 10: "red"},
        )
    )
    .with_panel(
        figure(
            "Reads",
            "The application's, a second, of all databases.",
            ('layer:requests:rate20s{layer="database",operation="read"}', "reads"),
            unit="reqps",
        )
    )
    .with_panel(
        figure(
            "Writes",
            "The application's, a second. The replica's copies of them are not counted.",
            ('layer:requests:rate20s{layer="database",operation="write"}', "writes"),
            unit="reqps",
        )
    )
    .with_row(Row("Replication"))
    .with_panel(
        states(
            "Roles",
            "They are found, not given: a database asks its peers when it starts. `make wipe NODE=replica`: it comes "
            "back as a clone.",
            ("mysql_global_variables_read_only", "{{instance}}"),
            words={0: ("primary", "yellow"), 1: ("replica", "blue")},
        )
    )
    .with_panel(
        states(
            "Receives, applies, confirms",
            "The replica's two threads; from stage 3 on, whether a replica confirms what the primary writes. "
            "`make partition NODE=primary` ends the first.",
            ("mysql_slave_status_replica_io_running", "{{instance}} receives"),
            ("mysql_slave_status_replica_sql_running", "{{instance}} applies"),
            (CONFIRMED, "{{instance}} is confirmed"),
        )
    )
    .with_panel(
        lines(
            "Seconds behind the primary",
            "How long ago the primary did what the replica does now. The line ends when the replica hears nothing.",
            ("mysql_slave_status_seconds_behind_source", "{{instance}}"),
            unit="s",
        )
    )
    .with_panel(
        lines(
            "Statements",
            "The application's, a second, as each database counts them. Reads are the replica's as long as it is well.",
            ('instance:requests:rate20s{layer="database"}', "{{instance}}, {{operation}}s"),
            unit="reqps",
        )
    )
    .with_row(Row("Work"))
    .with_panel(
        lines(
            "A statement takes",
            "Mean of a minute, in the database itself: what the network adds is not in it.",
            ('instance:request_seconds:avg{layer="database"}', "{{instance}}, {{operation}}s"),
            unit="s",
        )
    )
    .with_panel(
        lines(
            "Statements as the application counts them",
            "A second, by the database asked. A test finds both counts equal.",
            (
                "sum by (database, operation) (rate(wall_database_queries_total[20s]))",
                "{{database}}, {{operation}}s",
            ),
            unit="reqps",
        )
    )
    .with_panel(
        lines(
            "Connections",
            "All, and those that work at the moment. Nine tenths of MySQL's limit raise an alert.",
            ("mysql_global_status_threads_connected", "{{instance}}, all"),
            ("mysql_global_status_threads_running", "{{instance}}, at work"),
            unit="short",
        )
    )
    .with_panel(
        lines(
            "Share of statements that failed",
            "The application's, over 20 s: a name that is taken, for example.",
            ('instance:errors:ratio20s{layer="database"}', "{{instance}}, {{operation}}s"),
            unit="percentunit",
        )
    )
)
