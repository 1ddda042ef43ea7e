"""The one table of what each server emits: which families of values the collector has of it, and what each tells.

Only what a rule, a board, an alert or the docs ask for; the clients leave most of the rest (prometheus/agent-*.yml).
Tests hold a running stage, the rules and docs/metrics.md against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ladder import marks
from ladder.stages import BALANCERS, STAGES


@dataclass(frozen=True)
class Source:
    """Servers of one kind."""

    job: str
    """As the client calls it."""
    client: str
    """Who asks."""
    families: Mapping[str, str]
    """What each tells, by name. Those of one server all have its name as `instance`."""


UP = {"up": "1: the server answered the client"}
CLIENT = {
    "prometheus_remote_storage_samples_total": "values brought to the collector",
    "prometheus_remote_storage_samples_pending": "values that wait to be brought",
    "prometheus_remote_storage_samples_failed_total": "values that the collector refused",
    "process_cpu_seconds_total": "seconds of a core used",
    "process_resident_memory_bytes": "memory in use",
}

SOURCES: dict[str, Source] = {
    **dict.fromkeys(
        BALANCERS,
        Source(
            "haproxy",
            "agent-edge",
            UP
            | {
                "haproxy_frontend_http_responses_total": "answers to visitors, by class of status",
                "haproxy_frontend_http_requests_total": "requests of visitors",
                "haproxy_frontend_connections_total": "connections of visitors that the edge let through",
                "haproxy_frontend_current_sessions": "visitors' connections",
                "haproxy_frontend_limit_sessions": "the most of them",
                "haproxy_backend_http_responses_total": "answers of the web servers, by class of status",
                "haproxy_backend_total_time_average_seconds": "time to the end of an answer, mean of the last 1,024",
                "haproxy_backend_retry_warnings_total": "requests tried again",
                "haproxy_backend_redispatch_warnings_total": "requests given to another web server",
                "haproxy_server_http_responses_total": "answers of each web server, by class of status",
                "haproxy_server_total_time_average_seconds": "the same of each web server, as this balancer sees it",
                "haproxy_server_status": "1 for the state a web server is in; of two balancers, each as both see it",
                "haproxy_server_check_failures_total": "failed health checks of each web server",
            },
        ),
    ),
    "dns": Source(
        "dns",
        "agent-edge",
        UP
        | {
            "nsd_queries_total": "questions",
            "nsd_queries_by_rcode_total": "answers, by kind: NOERROR, REFUSED for other zones, …",
            "nsd_queries_dropped_total": "questions dropped, unanswered",
        },
    ),
    "https://www.foobar.com/": Source(
        "visit",
        "agent-edge",
        {
            "probe_success": "1: the front page came, by its name, through the edge",
            "probe_duration_seconds": "time of the whole visit",
            "probe_http_duration_seconds": "the same by phase: resolve, connect, processing, transfer",
            "probe_http_status_code": "what it was answered with",
            "probe_ssl_earliest_cert_expiry": "when the certificate ends, in seconds since 1970",
        },
    ),
    **{
        web: Source(
            "nginx",
            "agent-web",
            {
                "nginx_up": "1: nginx answered the exporter",
                "nginx_connections_active": "connections, waiting ones included",
                "nginx_connections_waiting": "connections kept open, unused",
                "nginx_http_requests_total": "requests, health checks included: nginx doesn't know the difference",
            },
        )
        for web in ("web1", "web2")
    },
    **{
        app: Source(
            "app",
            "agent-web",
            UP
            | {
                "wall_http_request_duration_seconds_count": "requests, by route, method and class of status",
                "wall_http_request_duration_seconds_sum": "time spent on them",
                "wall_http_request_duration_seconds_bucket": "how many took at most `le` seconds",
                "wall_http_requests_in_progress": "threads that are busy with a request",
                "wall_threads": "threads there are, in all workers",
                "wall_database_queries_total": "statements, by database node and operation",
            },
        )
        for app in ("app1", "app2")
    },
    **{
        db: Source(
            "mysql",
            "agent-data",
            {
                "mysql_up": "1: MySQL answered the exporter",
                "mysql_global_status_uptime": "seconds since its start",
                "mysql_global_status_queries": "statements of everybody, monitoring included",
                "mysql_global_status_threads_connected": "connections",
                "mysql_global_status_threads_running": "connections that are not idle",
                "mysql_global_variables_max_connections": "the most connections",
                "mysql_global_variables_read_only": "1: not the primary",
                "mysql_global_variables_super_read_only": "1: not even an administrator may write",
                "mysql_perf_schema_events_statements_total": "statements of the application, by their digest",
                "mysql_perf_schema_events_statements_seconds_total": "time spent on them",
                "mysql_perf_schema_events_statements_errors_total": "those that failed",
            },
        )
        for db in ("db1", "db2")
    },
    **{f"agent-{zone}": Source("agent", f"agent-{zone}", UP | CLIENT) for zone in ("edge", "web", "data")},
    "machine": Source(
        "machine",
        "prometheus",
        UP
        | {
            "node_cpu_seconds_total": "seconds of each core, by what it did",
            "node_filesystem_avail_bytes": "free on the disk that the engine keeps its containers on",
            "node_filesystem_size_bytes": "that disk's size",
            "node_load1": "processes that run or want to, mean of a minute",
            "node_memory_MemAvailable_bytes": "memory that could be had",
            "node_memory_MemTotal_bytes": "memory there is",
        },
    ),
    "prometheus": Source(
        "prometheus",
        "prometheus",
        UP
        | {
            "prometheus_tsdb_head_series": "series it has in memory",
            "prometheus_tsdb_head_samples_appended_total": "values taken in",
            "prometheus_rule_evaluation_failures_total": "rules that could not be worked out",
            "prometheus_notifications_dropped_total": "alerts that could not be told",
            "process_cpu_seconds_total": "seconds of a core used",
            "process_resident_memory_bytes": "memory in use",
        },
    ),
}
"""Every instance of the stages with a collector and what is known of it."""

REPLICA = {
    "mysql_slave_status_seconds_behind_source": "seconds behind the primary",
    "mysql_slave_status_replica_io_running": "1: it receives",
    "mysql_slave_status_replica_sql_running": "1: it applies",
}
"""What only the database emits that replicates at the moment."""

PAIR = {"lb_holds_address": "1: holds this `address`, which two balancers share (stage 3, job `pair`)"}
"""What balancers emit where there are two, asked as a job of its own."""

SEMI_SYNC = {
    "mysql_global_status_rpl_semi_sync_source_status": "1: a replica confirms what it writes (stage 3)",
    "mysql_global_status_rpl_semi_sync_source_no_tx": "writes that were acknowledged unconfirmed (stage 3)",
}
"""What a database emits from stage 3 on; it tells something of the primary."""

EVERY_SERVER = {
    "firewall_dropped_packets_total": "packets that its firewall dropped, by chain and reason",
    "node_textfile_mtime_seconds": "when its health check was last there, in seconds since 1970",
}
"""What every server with a firewall emits, by its health check; the collector has it from node-exporter."""

MARKS = {marks.FAMILY: "when something was done, in seconds since 1970; what, says `mark`"}
"""What the workbench itself brings at every fault and healing, once."""


def page() -> str:
    """The whole of docs/metrics.md."""
    rows = []
    done: set[str] = set()
    for instance, source in SOURCES.items():
        if source.job in done:
            continue
        done.add(source.job)
        like = [name for name, other in SOURCES.items() if other.job == source.job]
        families = {**source.families} | {"mysql": REPLICA | SEMI_SYNC, "haproxy": PAIR}.get(source.job, {})
        rows.append(f"\n## {', '.join(like)}\n\nJob `{source.job}`, asked by {clients(like)}.\n")
        rows.append("| Family | Tells |\n|---|---|")
        rows += [f"| `{family}` | {tells} |" for family, tells in families.items()]
        assert instance in like
    first = next(stage.number for stage in STAGES if stage.monitored)
    return f"""# What each server emits

From stage {first} on the collector has these families of values of each server, from `ladder/metrics.py`. `instance` is
the server, as in `make ps`; rates and shares that are worked out of them are in `prometheus/rules.yml`.
{chr(10).join(rows)}

## Every server

Counted by each server's health check (`firewall/firewall-count`), told by node-exporter.

| Family | Tells |
|---|---|
{chr(10).join(f"| `{family}` | {tells} |" for family, tells in EVERY_SERVER.items())}

## The workbench

Brought by each fault and each healing, a drill's too: a mark on the boards (`ladder/marks.py`).

| Family | Tells |
|---|---|
| `{marks.FAMILY}` | {MARKS[marks.FAMILY]} |
"""


def clients(instances: list[str]) -> str:
    """Who asks these."""
    return ", ".join(dict.fromkeys(SOURCES[name].client for name in instances))
