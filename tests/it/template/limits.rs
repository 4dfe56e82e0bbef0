//! Consistency of limits. `docs/operations.md` gives the reason for each.

use serde_norway::Value;

use super::{CUSTOM_RESOURCES, functions, routes, tagged, template};

/// Account quotas for requests to all APIs, posts to WebSocket connections included: requests per second, and
/// the burst (Amazon API Gateway Developer Guide, "Amazon API Gateway quotas").
const ACCOUNT_RATE: i64 = 10_000;
const ACCOUNT_BURST: i64 = 5_000;

/// Database connections reserved for operators and for RDS itself.
const SPARE_CONNECTIONS: i64 = 30;

/// Timeout of an HTTP API integration, in seconds (as above, "HTTP API quotas").
const INTEGRATION_TIMEOUT: i64 = 30;

fn default_of(template: &Value, parameter: &str) -> i64 {
    template["Parameters"][parameter]["Default"].as_i64().unwrap()
}

#[test]
fn functions_cannot_use_up_the_databases_connections() {
    let template = template();
    let sizes = template["Mappings"]["Sizes"].as_mapping().unwrap();
    let allowed = template["Parameters"]["Size"]["AllowedValues"]
        .as_sequence()
        .unwrap();
    assert_eq!(sizes.len(), allowed.len());
    for (size, numbers) in sizes {
        let size = size.as_str().unwrap();
        let number = |name: &str| numbers[name].as_i64().unwrap();
        let mut copies = 0;
        for (id, (_, function)) in functions(&template) {
            // Custom resources run one at a time, while no other function uses the database.
            if CUSTOM_RESOURCES.contains(&id.as_str()) {
                continue;
            }
            copies += number(&id);
            let reserved =
                serde_norway::to_string(&function["Properties"]["ReservedConcurrentExecutions"]).unwrap();
            assert!(reserved.contains(&format!("- {id}\n")), "{id}: {reserved}");
        }
        assert_eq!(
            number("Copies"),
            copies,
            "{size}: what is compared with the account's quota"
        );
        let connections = number("DatabaseConnections");
        // During a deployment, instances of the former version keep their connections for a while.
        assert!(
            2 * copies + SPARE_CONNECTIONS <= connections,
            "{size}: {copies} of {connections}"
        );
        assert_eq!(number("DatabaseConnectionsAlarm") * 5, connections * 4, "{size}");
        // AWS Lambda Developer Guide, "Setting maximum concurrency for Amazon SQS event sources".
        assert!((2..=1_000).contains(&number("FanOut")), "{size}");
    }
}

#[test]
fn those_who_ask_cannot_starve_those_who_are_told() {
    let template = template();
    let http = i64::try_from(routes(&template, "HttpApi").len()).unwrap();
    let settings = &template["Resources"]["WebSocketApiliveStage"]["Properties"]["RouteSettings"];
    let sockets = routes(&template, "WebSocketApi").into_values().map(|route| {
        let own = &settings[route["Properties"]["RouteKey"].as_str().unwrap()];
        assert_eq!(own["ThrottlingRateLimit"], own["ThrottlingBurstLimit"]);
        let own = own["ThrottlingRateLimit"].as_i64();
        own.unwrap_or_else(|| default_of(&template, "SocketRequestsPerSecond"))
    });
    let asked = http * default_of(&template, "HttpRequestsPerSecond") + sockets.sum::<i64>();
    assert!(
        asked + default_of(&template, "PostsPerSecond") <= ACCOUNT_RATE,
        "{asked}"
    );
    assert!(asked <= ACCOUNT_BURST, "{asked}");
    for (id, parameter) in [
        ("HttpApiStage", "HttpRequestsPerSecond"),
        ("WebSocketApiliveStage", "SocketRequestsPerSecond"),
    ] {
        let settings = &template["Resources"][id]["Properties"]["DefaultRouteSettings"];
        for limit in ["ThrottlingRateLimit", "ThrottlingBurstLimit"] {
            assert_eq!(tagged(&settings[limit], "Ref"), parameter, "{id}");
        }
    }
    let says = template["Parameters"]["HttpRequestsPerSecond"]["Description"]
        .as_str()
        .unwrap();
    assert!(says.contains(&format!("{http} routes")), "{says}");
}

#[test]
fn who_waits_for_a_function_waits_longer_than_it_works() {
    let template = template();
    for (id, (_, function)) in functions(&template) {
        let own = function["Properties"]["Timeout"].as_i64();
        let timeout = own.unwrap_or_else(|| template["Globals"]["Function"]["Timeout"].as_i64().unwrap());
        if !["FanOut", "Maintenance"].contains(&id.as_str()) && !CUSTOM_RESOURCES.contains(&id.as_str()) {
            assert!(timeout < INTEGRATION_TIMEOUT, "{id}");
        }
    }
}

#[test]
fn chaos_and_benchmarks_tell_functions_the_memory_that_they_have() {
    let memory = &template()["Globals"]["Function"]["MemorySize"];
    assert_eq!(memory.as_u64(), Some(u64::from(lambda::MEMORY)));
}

#[test]
fn queue_and_function_agree() {
    let template = template();
    let resources = &template["Resources"];
    let fan_out = &resources["FanOut"]["Properties"];
    let event = &fan_out["Events"]["Queue"]["Properties"];
    let types = event["FunctionResponseTypes"].as_sequence().unwrap();
    assert!(types.contains(&Value::from("ReportBatchItemFailures")));
    let queue = &resources["Queue"]["Properties"];
    // AWS Lambda Developer Guide, "Creating and configuring an Amazon SQS event source mapping".
    assert!(queue["VisibilityTimeout"].as_i64().unwrap() >= 6 * fan_out["Timeout"].as_i64().unwrap());
    assert_eq!(queue["RedrivePolicy"]["maxReceiveCount"], Value::from(10));
    let dead_letters = &resources["DeadLetterQueue"]["Properties"];
    let fourteen_days = Value::from(14 * 24 * 60 * 60);
    assert_eq!(
        (
            &queue["MessageRetentionPeriod"],
            &dead_letters["MessageRetentionPeriod"]
        ),
        (&fourteen_days, &fourteen_days)
    );
}

#[test]
fn repair_runs_every_minute_and_ends_before_the_next() {
    let template = template();
    let relay = &template["Resources"]["Maintenance"]["Properties"];
    let event = &relay["Events"]["EveryMinute"]["Properties"];
    assert_eq!(event["ScheduleExpression"], "rate(1 minute)");
    let timeout = relay["Timeout"].as_u64().unwrap();
    assert!(timeout < 60 && timeout > maintenance::DEADLINE_MARGIN.as_secs());
    // A failed run is not retried, because the next scheduled run does the same work.
    let retries = &relay["EventInvokeConfig"]["MaximumRetryAttempts"];
    assert_eq!(retries.as_u64(), Some(0));
}

#[test]
fn notifying_ends_in_time_and_shares_its_pace_among_all_who_may_run() {
    let template = template();
    let fan_out = &template["Resources"]["FanOut"]["Properties"];
    assert!(fan_out["Timeout"].as_u64().unwrap() > 2 * fan_out::DEADLINE_MARGIN.as_secs());
    let variables = &fan_out["Environment"]["Variables"];
    // All three values are the same.
    let scaling = &fan_out["Events"]["Queue"]["Properties"]["ScalingConfig"];
    for value in [
        &variables["MAXIMUM_CONCURRENCY"],
        scaling,
        &fan_out["ReservedConcurrentExecutions"],
    ] {
        let text = serde_norway::to_string(value).unwrap();
        assert!(
            text.contains("!FindInMap\n") && text.contains("- Sizes\n") && text.contains("- FanOut\n"),
            "{text}"
        );
    }
}
