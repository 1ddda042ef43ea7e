"""What the boards are drawn with: four kinds of panel, one way each, and a colour for each layer.

The builders are those of the Grafana Foundation SDK: what Grafana does not know is no Python either.
Read next: glance.py. Manual: https://grafana.github.io/grafana-foundation-sdk/
"""

from grafana_foundation_sdk.builders import bargauge, dashboard, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery as AnyQuery
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    DataSourceRef,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DynamicConfigValue,
    FieldColor,
    FieldColorModeId,
    Threshold,
    ValueMap,
    ValueMappingResult,
)

Row = dashboard.Row
COLLECTOR = DataSourceRef(type_val="prometheus", uid="collector")
"""As provisioning/datasources/collector.yaml calls it."""
MARKS = "last_over_time(workbench_mark_timestamp_seconds[15s]) * 1000"
"""What the workbench did and when, in the milliseconds that Grafana counts in (ladder/marks.py)."""
COLOURS = {
    "visitors": "purple",
    "(balancer|lb1)": "orange",
    "lb2": "super-light-orange",
    "(web|web1)": "blue",
    "web2": "super-light-blue",
    "(app|app1)": "green",
    "app2": "super-light-green",
    "(database|db1)": "yellow",
    "db2": "super-light-yellow",
}
"""The colour of a series whose name begins with this word, the same on every board."""
HEIGHT = 8
"""Of a panel, in Grafana's rows; a board is 24 of its columns wide."""

Series = tuple[str, str]
"""A question in PromQL, and the name of what it answers: labels as {{instance}}."""
Steps = dict[float, str]
"""The colour from a value on."""
GOOD_WHEN_0: Steps = {0: "green", 1: "red"}
Words = dict[int, tuple[str, str]]
"""What a value means, and its colour."""
YES_NO: Words = {0: ("no", "red"), 1: ("yes", "green")}


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """An empty board: the last quarter of an hour, drawn anew every 5 s, with what the workbench did as marks."""
    marks = (
        dashboard.AnnotationQuery()
        .name("faults, healing, drills")
        .datasource(COLLECTOR)
        .enable(True)
        .icon_color("red")
        .expr(MARKS)
        .step("5s")
        .title_format("{{mark}}")
        .use_value_for_time(True)
        # Asked like this by newer releases, like that by older ones.
        .target(Dataquery().expr(MARKS).interval("5s").ref_id("Anno"))
    )
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["foobar"])
        .readonly()
        .time("now-15m", "now")
        .refresh("5s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .annotation(marks)
        .link(dashboard.DashboardLink("boards").type(DashboardLinkType.DASHBOARDS).tags(["foobar"]).keep_time(True))
    )


def lines(
    title: str, description: str, *series: Series, unit: str, span: int = 12, top: float | None = None
) -> timeseries.Panel:
    """Values over time; `top` is the highest there can be, so that full looks full."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(COLLECTOR)
        .unit(unit)
        .min(0)
        .span(span)
        .height(HEIGHT)
        .line_width(2)
        .fill_opacity(5)
        .show_points(VisibilityMode.NEVER)
        .legend(VizLegendOptions().show_legend(True))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if top is not None:
        panel.max(top)
    for name, colour in COLOURS.items():
        fixed = FieldColor(mode=FieldColorModeId.FIXED, fixed_color=colour)
        panel.override_by_regexp(f"/^({name})\\b/", [DynamicConfigValue("color", fixed)])
    # Reads and writes of a database have its colour; writes are dashed.
    panel.override_by_regexp("/writes$/", [DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]})])
    return panel.targets(questions(series))


def figure(
    title: str,
    description: str,
    *series: Series,
    unit: str = "short",
    steps: Steps | None = None,
    words: Words | None = None,
    span: int = 4,
) -> stat.Panel:
    """One value large, as it is now; with words for values, or colours from a value on."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(COLLECTOR)
        .unit(unit)
        .span(span)
        .height(4)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.BACKGROUND)
        .text_mode(BigValueTextMode.VALUE_AND_NAME if len(series) > 1 else BigValueTextMode.VALUE)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(thresholds(steps or {0: "blue"}))
        .no_value("nothing")
    )
    if words:
        panel.mappings([meaning(words)])
    return panel.targets(questions(series, now=True))


def names(title: str, description: str, *series: Series, span: int = 4) -> stat.Panel:
    """Who it is now, by name."""
    return figure(title, description, *series, span=span).text_mode(BigValueTextMode.NAME)


def bars(title: str, description: str, *series: Series, unit: str, span: int = 12) -> bargauge.Panel:
    """Values as they are now, side by side."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(COLLECTOR)
        .unit(unit)
        .min(0)
        .span(span)
        .height(HEIGHT)
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(thresholds({0: "blue"}))
    )
    return panel.targets(questions(series, now=True))


def states(title: str, description: str, *series: Series, words: Words = YES_NO, span: int = 12) -> statetimeline.Panel:
    """What somebody is, over time, a row each. A row that ends is somebody of whom nothing is heard."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(COLLECTOR)
        .span(span)
        .height(HEIGHT)
        .merge_values(True)
        .show_value(VisibilityMode.NEVER)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .mappings([meaning(words)])
        .legend(VizLegendOptions().show_legend(True))
    )
    return panel.targets(questions(series))


def questions(series: tuple[Series, ...], *, now: bool = False) -> list[Builder[AnyQuery]]:
    """As Grafana asks them, each with a letter: over time, or for the value as it is now."""
    asked: list[Builder[AnyQuery]] = []
    for letter, (question, name) in zip("ABCDEFGH", series, strict=False):
        query = Dataquery().expr(question).legend_format(name).ref_id(letter)
        asked.append(query.instant() if now else query.range())
    return asked


def thresholds(steps: Steps) -> ThresholdsConfig:
    """The first colour holds from below as well."""
    found = [
        Threshold(value=value if number else None, color=colour) for number, (value, colour) in enumerate(steps.items())
    ]
    return ThresholdsConfig().steps(found)


def meaning(words: Words) -> ValueMap:
    """Words and colours for values."""
    return ValueMap(
        {str(value): ValueMappingResult(text=word, color=colour) for value, (word, colour) in words.items()}
    )
