//! Alarms and the dashboard use existing metrics, and logs contain no personal data.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use platform::metrics::Metric;
use serde_json::Value as Json;
use serde_norway::Value;
use tests::project_file;

use super::{CUSTOM_RESOURCES, functions, resources, template};

/// Metrics documented by AWS for Lambda, SQS, API Gateway (HTTP and WebSocket APIs) and RDS, from the guides'
/// pages on CloudWatch metrics.
const DOCUMENTED: [(&str, &[&str]); 4] = [
    ("AWS/Lambda", &["Errors", "Throttles", "ConcurrentExecutions"]),
    (
        "AWS/SQS",
        &[
            "ApproximateNumberOfMessagesVisible",
            "ApproximateAgeOfOldestMessage",
        ],
    ),
    (
        "AWS/ApiGateway",
        &[
            "Count",
            "4xx",
            "5xx",
            "Latency",
            "ConnectCount",
            "MessageCount",
            "ClientError",
            "IntegrationError",
        ],
    ),
    (
        "AWS/RDS",
        &[
            "CPUUtilization",
            "DatabaseConnections",
            "FreeStorageSpace",
            "FreeableMemory",
            "ReadLatency",
            "WriteLatency",
        ],
    ),
];

/// Namespace of the functions' own metrics, as written in the template.
const OWN: &str = "SyncSphere/${AWS::StackName}";

/// Names of the metrics that the code emits.
fn emitted() -> BTreeSet<String> {
    let all = fan_out::METRICS
        .iter()
        .chain(&maintenance::METRICS)
        .chain(&commands::METRICS)
        .chain(&api::METRICS);
    all.map(|metric| match *metric {
        Metric::Count(name) | Metric::Gauge(name) | Metric::Seconds(name) | Metric::Milliseconds(name) => {
            name.to_owned()
        }
    })
    .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Tagged(tagged) => text(&tagged.value),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// Namespace and name of each metric that an alarm watches.
fn watched(alarm: &Value) -> BTreeSet<(String, String)> {
    let named = |value: &Value| (text(&value["Namespace"]), text(&value["MetricName"]));
    match alarm["Metrics"].as_sequence() {
        None => BTreeSet::from([named(alarm)]),
        Some(metrics) => metrics
            .iter()
            .filter(|metric| metric.get("MetricStat").is_some())
            .map(|metric| named(&metric["MetricStat"]["Metric"]))
            .collect(),
    }
}

fn dashboard() -> Json {
    let template = template();
    let Value::Tagged(body) = &template["Resources"]["Dashboard"]["Properties"]["DashboardBody"] else {
        panic!("not substituted")
    };
    let mut dashboard = body.value[0].as_str().unwrap().to_owned();
    // Alarms that exist only under a condition.
    for name in ["AlarmsOfBus", "AlarmsOnSums", "AlarmsOfDatabase"] {
        let Value::Tagged(condition) = &body.value[1][name] else {
            panic!("{name} has no condition")
        };
        dashboard = dashboard.replace(&format!("${{{name}}}"), &text(&condition.value[1]));
    }
    serde_json::from_str(&dashboard).unwrap()
}

fn shown() -> BTreeSet<(String, String)> {
    let dashboard = dashboard();
    let widgets = dashboard["widgets"].as_array().unwrap();
    let metrics = widgets
        .iter()
        .filter_map(|widget| widget["properties"]["metrics"].as_array());
    metrics
        .flatten()
        .map(|metric| {
            let part = |i: usize| metric[i].as_str().unwrap().to_owned();
            (part(0), part(1))
        })
        .collect()
}

#[test]
fn every_metric_that_is_watched_or_shown_exists() {
    let alarms = resources(&template(), "AWS::CloudWatch::Alarm");
    let watched = alarms.values().flat_map(|alarm| watched(&alarm["Properties"]));
    let emitted = emitted();
    let documented: BTreeMap<&str, &[&str]> = DOCUMENTED.into();
    for (namespace, name) in watched.chain(shown()) {
        let exists = if namespace == OWN {
            emitted.contains(&name)
        } else {
            documented
                .get(namespace.as_str())
                .is_some_and(|names| names.contains(&name.as_str()))
        };
        assert!(exists, "{namespace} {name}");
    }
}

#[test]
fn every_metric_that_is_emitted_is_shown() {
    let shown = shown();
    for name in emitted() {
        assert!(shown.contains(&(OWN.to_owned(), name.clone())), "{name}");
    }
    let template = template();
    for metric in ["Errors", "Throttles", "ConcurrentExecutions"] {
        let body = dashboard().to_string();
        for id in functions(&template)
            .into_keys()
            .filter(|id| !CUSTOM_RESOURCES.contains(&id.as_str()))
        {
            assert!(
                body.contains(&format!(r#""{metric}","FunctionName","${{{id}}}""#)),
                "{id} {metric}"
            );
        }
    }
}

#[test]
fn every_alarm_tells_somebody_and_is_in_the_runbook_and_on_the_dashboard() {
    let template = template();
    let runbook = fs::read_to_string(project_file("docs/operations.md")).unwrap();
    let alarms = resources(&template, "AWS::CloudWatch::Alarm");
    let widgets = dashboard().to_string();
    for (id, alarm) in &alarms {
        let alarm = &alarm["Properties"];
        for actions in ["AlarmActions", "OKActions"] {
            assert_eq!(text(&alarm[actions][0]), "AlarmTopic", "{id}");
        }
        assert!(alarm["TreatMissingData"].is_string(), "{id}");
        assert!(runbook.contains(id), "{id} is not in docs/operations.md");
        assert!(widgets.contains(&format!("${{{id}.Arn}}")), "{id}");
    }
    // Metrics and thresholds that the design promises to watch.
    for (metric, threshold) in [
        ("ApproximateNumberOfMessagesVisible", 0),
        ("ApproximateAgeOfOldestMessage", 20),
        ("OldestEventAge", 60),
        ("OldestBusEventAge", 300),
        ("NotificationLatency", 20_000),
    ] {
        let alarm = alarms
            .values()
            .find(|alarm| alarm["Properties"]["MetricName"] == metric)
            .unwrap();
        assert_eq!(
            alarm["Properties"]["Threshold"],
            Value::from(threshold),
            "{metric}"
        );
        assert_eq!(
            alarm["Properties"]["ComparisonOperator"], "GreaterThanThreshold",
            "{metric}"
        );
    }
}

/// One user who meets a limit, even a thousand times within minutes, is no reason to call an operator.
#[test]
fn the_alarm_of_limits_wants_refusals_for_most_of_an_hour() {
    let alarm = &template()["Resources"]["QuotaRefusalsAlarm"]["Properties"];
    assert_eq!(alarm["MetricName"], api::QUOTA_REFUSALS);
    assert_eq!(alarm["Statistic"], "Sum");
    let number = |name: &str| alarm[name].as_u64().unwrap();
    assert_eq!(number("Period") * number("EvaluationPeriods"), 3600);
    assert!(number("Period") * number("DatapointsToAlarm") > 1800);
    assert!(number("Threshold") >= 10);
    assert_eq!(alarm["ComparisonOperator"], "GreaterThanThreshold");
    assert_eq!(alarm["TreatMissingData"], "notBreaching");
}

/// This alarm rolls back a deployment.
#[test]
fn the_alarm_of_failed_requests_counts_no_throttles_and_wants_more_than_a_few() {
    let alarm = &template()["Resources"]["HttpErrorsAlarm"]["Properties"];
    let metrics = alarm["Metrics"].as_sequence().unwrap();
    let rate = metrics[0]["Expression"].as_str().unwrap();
    assert!(rate.starts_with("IF(failed < 10, 0, "), "{rate}");
    let behind_the_api = [
        "Uploads",
        "CompleteUpload",
        "Files",
        "Spaces",
        "Account",
        "Changes",
        "Connections",
    ];
    for function in behind_the_api {
        let throttles = metrics.iter().find(|metric| {
            let metric = &metric["MetricStat"]["Metric"];
            metric["MetricName"] == "Throttles" && text(&metric["Dimensions"][0]["Value"]) == function
        });
        let id = throttles.unwrap()["Id"].as_str().unwrap();
        assert!(rate.contains(&format!(" - FILL({id}, 0)")), "{function}: {rate}");
    }
}

/// Details, and Lambda's own lines about invocations that succeeded, are written and paid on demand.
#[test]
fn each_function_logs_one_line_an_invocation_unless_a_parameter_wants_details() {
    let template = template();
    let levels = &template["Mappings"]["SystemLogLevels"];
    assert_eq!(levels["INFO"]["Level"], "WARN");
    assert_eq!(levels["DEBUG"]["Level"], "INFO");
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, (_, function)) in functions(&template) {
        if CUSTOM_RESOURCES.contains(&id.as_str()) {
            continue;
        }
        let properties = &function["Properties"];
        let logging = &properties["LoggingConfig"];
        let parameter = text(&logging["ApplicationLogLevel"]);
        let Value::Tagged(level) = &logging["SystemLogLevel"] else {
            panic!("{id}: the system log level is fixed")
        };
        assert_eq!(level.tag, "!FindInMap", "{id}");
        assert_eq!(text(&level.value[0]), "SystemLogLevels", "{id}");
        assert_eq!(text(&level.value[1]), parameter, "{id}");
        groups.entry(parameter).or_default().insert(id);
    }
    let background = ["Administer", "FanOut", "Maintenance"].map(str::to_owned);
    assert_eq!(groups["BackgroundLogLevel"], BTreeSet::from(background));
    assert_eq!(
        groups.keys().collect::<Vec<_>>(),
        ["BackgroundLogLevel", "LogLevel"]
    );
    for parameter in groups.keys() {
        let parameter = &template["Parameters"][parameter.as_str()];
        assert_eq!(parameter["Default"], "INFO");
        // Metrics are lines without a level, which Lambda treats as INFO and would drop above it.
        let allowed = parameter["AllowedValues"].as_sequence().unwrap();
        assert_eq!(*allowed, [Value::from("INFO"), Value::from("DEBUG")]);
    }
}

#[test]
fn traces_are_recorded_if_a_parameter_says_so() {
    let template = template();
    assert_eq!(text(&template["Globals"]["Function"]["Tracing"]), "Traces");
    let parameter = &template["Parameters"]["Traces"];
    assert_eq!(parameter["Default"], "PassThrough");
    let allowed = parameter["AllowedValues"].as_sequence().unwrap();
    assert_eq!(*allowed, [Value::from("PassThrough"), Value::from("Active")]);
    for (id, (_, function)) in functions(&template) {
        assert!(function["Properties"]["Tracing"].is_null(), "{id}");
    }
}

#[test]
fn access_logs_tell_no_query_string_and_nothing_that_a_sender_wrote() {
    let template = template();
    let resources = &template["Resources"];
    let http = &resources["HttpApiStage"]["Properties"]["AccessLogSettings"];
    let Value::Tagged(socket) = &resources["WebSocketApiliveStage"]["Properties"]["AccessLogSettings"] else {
        panic!("not conditional")
    };
    for settings in [http, &socket.value[1]] {
        let format: BTreeMap<String, String> =
            serde_json::from_str(settings["Format"].as_str().unwrap()).unwrap();
        assert!(format.contains_key("requestId"));
        for (name, variable) in &format {
            assert!(variable.starts_with("$context."), "{name}");
            // API Gateway does not escape the user agent, so a client could end the string and add log
            // fields.
            assert!(!variable.contains("userAgent"), "{variable}");
            // The path contains ids, so it must not be logged either.
            let telling = ["path", "query", "connect.url", "authorizer.claims.email"];
            assert!(
                !telling.iter().any(|word| variable.to_lowercase().contains(word)),
                "{variable}"
            );
        }
    }
}
