//! `template.yaml` and the code agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_norway::Value;
use serde_norway::value::TaggedValue;
use tests::project_file;

fn template() -> Value {
    serde_norway::from_str(&fs::read_to_string(project_file("template.yaml")).unwrap()).unwrap()
}

/// Resources of a type, by logical id.
fn resources(template: &Value, kind: &str) -> BTreeMap<String, Value> {
    let all = template["Resources"].as_mapping().unwrap();
    let wanted = all.iter().filter(|(_, resource)| resource["Type"] == kind);
    wanted
        .map(|(id, resource)| (id.as_str().unwrap().to_owned(), resource.clone()))
        .collect()
}

/// The functions' binaries, by logical id.
fn functions(template: &Value) -> BTreeMap<String, (String, Value)> {
    resources(template, "AWS::Serverless::Function")
        .into_iter()
        .map(|(id, function)| {
            let binary = function["Metadata"]["BuildProperties"]["Binary"]
                .as_str()
                .unwrap()
                .to_owned();
            (id, (binary, function))
        })
        .collect()
}

fn source(binary: &str) -> String {
    let folder = project_file(&format!("functions/{binary}/src"));
    fs::read_dir(folder)
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

/// What follows each `before` up to the next quotation mark.
fn quoted_after(text: &str, before: &str) -> BTreeSet<String> {
    text.split(before)
        .skip(1)
        .map(|rest| rest.split_once('"').unwrap().0.to_owned())
        .collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    let mapping = value.as_mapping();
    mapping
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str().unwrap().to_owned())
        .collect()
}

/// What a tag such as `!Ref` is given.
fn tagged<'a>(value: &'a Value, tag: &str) -> &'a str {
    match value {
        Value::Tagged(tagged) if tagged.tag == tag => tagged.value.as_str().unwrap(),
        other => panic!("{other:?} is no !{tag}"),
    }
}

#[test]
fn every_binary_is_a_function_and_every_function_a_binary() {
    let declared: BTreeSet<String> = functions(&template())
        .into_values()
        .map(|(binary, _)| binary)
        .collect();
    let folders = fs::read_dir(project_file("functions"))
        .unwrap()
        .map(|folder| folder.unwrap().path());
    let binaries = folders.filter(|folder| folder.join("src/main.rs").exists());
    let binaries: BTreeSet<String> = binaries
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(declared, binaries);
}

#[test]
fn every_variable_that_a_function_reads_is_set_and_none_is_set_unused() {
    let template = template();
    let mut shared = keys(&template["Globals"]["Function"]["Environment"]["Variables"]);
    assert!(
        shared.remove("AWS_ENDPOINT_URL"),
        "the SDK reads it, for the emulator"
    );
    for (id, (binary, function)) in functions(&template) {
        let own = keys(&function["Properties"]["Environment"]["Variables"]);
        let set: BTreeSet<String> = shared.union(&own).cloned().collect();
        let source = source(&binary);
        let mut read = quoted_after(&source, "vars.required(\"");
        read.extend(quoted_after(&source, "vars.list(\""));
        assert_eq!(set, read, "{id}");
    }
}

#[test]
fn every_function_waits_for_the_schema_and_logs_where_logs_expire() {
    let template = template();
    for (id, (_, function)) in functions(&template) {
        let waits = function["DependsOn"] == "Schema";
        assert_eq!(waits, id != "Migrate", "{id}");
        let group = tagged(&function["Properties"]["LoggingConfig"]["LogGroup"], "Ref");
        assert_eq!(group, format!("{id}Logs"));
        let group = &template["Resources"][group]["Properties"];
        assert_eq!(tagged(&group["RetentionInDays"], "Ref"), "LogRetentionDays");
    }
    let schema = &template["Resources"]["Schema"]["Properties"];
    assert_eq!(
        schema["SchemaVersion"],
        Value::from(db::schema_version().to_string())
    );
    let migrates_for = template["Resources"]["Migrate"]["Properties"]["Timeout"]
        .as_i64()
        .unwrap();
    assert!(schema["ServiceTimeout"].as_i64().unwrap() > migrates_for);
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
    let relay = &template["Resources"]["RelayEvents"]["Properties"];
    let event = &relay["Events"]["EveryMinute"]["Properties"];
    assert_eq!(event["ScheduleExpression"], "rate(1 minute)");
    let timeout = relay["Timeout"].as_u64().unwrap();
    assert!(timeout < 60 && timeout > relay_events::RESERVE.as_secs());
    // A run that failed is not repeated: the next one does its work.
    let retries = &relay["EventInvokeConfig"]["MaximumRetryAttempts"];
    assert_eq!(retries.as_u64(), Some(0));
}

#[test]
fn notifying_ends_in_time_and_shares_its_pace_among_all_who_may_run() {
    let template = template();
    let fan_out = &template["Resources"]["FanOut"]["Properties"];
    assert!(fan_out["Timeout"].as_u64().unwrap() > 2 * fan_out::RESERVE.as_secs());
    let variables = &fan_out["Environment"]["Variables"];
    let concurrency = "FanOutMaximumConcurrency";
    assert_eq!(tagged(&variables["MAXIMUM_CONCURRENCY"], "Ref"), concurrency);
    let scaling =
        serde_norway::to_string(&fan_out["Events"]["Queue"]["Properties"]["ScalingConfig"]).unwrap();
    assert!(
        scaling.contains(&format!("MaximumConcurrency: !Ref {concurrency}")),
        "{scaling}"
    );
}

#[test]
fn every_route_is_guarded_and_served_by_the_function_behind_it() {
    let template = template();
    let routes = resources(&template, "AWS::ApiGatewayV2::Route");
    let mut served = BTreeSet::new();
    for (id, route) in &routes {
        let route = &route["Properties"];
        assert_eq!(route["AuthorizationType"], "JWT", "{id}");
        assert_eq!(tagged(&route["AuthorizerId"], "Ref"), "HttpApiAuthorizer", "{id}");
        let target = tagged(&route["Target"], "Sub");
        let integration = target
            .strip_prefix("integrations/${")
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap();
        let uri = &template["Resources"][integration]["Properties"]["IntegrationUri"];
        let function = tagged(uri, "GetAtt").strip_suffix(".Arn").unwrap();
        let binary = template["Resources"][function]["Metadata"]["BuildProperties"]["Binary"]
            .as_str()
            .unwrap();
        let key = route["RouteKey"].as_str().unwrap();
        served.insert((binary.to_owned(), key.to_owned()));
        assert!(
            template["Resources"]
                .get(format!("{function}HttpPermission"))
                .is_some(),
            "{id}"
        );
    }
    // And the other way round: what the code serves has its route.
    let mut known = BTreeSet::from([("create-upload".to_owned(), "$default".to_owned())]);
    for (binary, _) in functions(&template).into_values() {
        let source = source(&binary);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let paths = quoted_after(&source, &format!("            \"{method} "));
            let paths = paths
                .into_iter()
                .chain(quoted_after(&source, &format!("                    \"{method} ")));
            known.extend(paths.map(|path| (binary.clone(), format!("{method} {path}"))));
        }
    }
    assert_eq!(served, known);
}

#[test]
fn each_role_speaks_to_the_services_whose_client_its_function_has() {
    let clients = BTreeMap::from([
        ("s3", "aws-sdk-s3"),
        ("sqs", "aws-sdk-sqs"),
        ("execute-api", "aws-sdk-apigatewaymanagement"),
    ]);
    for (id, (binary, function)) in functions(&template()) {
        let policies = serde_norway::to_string(&function["Properties"]["Policies"]).unwrap();
        let manifest = fs::read_to_string(project_file(&format!("functions/{binary}/Cargo.toml"))).unwrap();
        for (service, client) in &clients {
            let allowed = policies.contains(&format!(" {service}:"));
            assert_eq!(
                allowed,
                manifest.contains(&format!("{client} =")),
                "{id}: {service}"
            );
        }
        assert!(
            !policies.contains("*:*") && !policies.contains(":*\n"),
            "{id} is allowed too much:\n{policies}"
        );
    }
}

#[test]
fn the_outputs_are_those_that_clients_rely_on() {
    let expected = [
        "BucketName",
        "DeadLetterQueueUrl",
        "HttpApiUrl",
        "QueueUrl",
        "UserPoolClientId",
        "UserPoolId",
        "WebSocketUrl",
    ];
    assert_eq!(keys(&template()["Outputs"]), expected.map(str::to_owned).into());
}

/// So that a test that looks for tags does not pass because the parser drops them.
#[test]
fn the_parser_keeps_tags() {
    let value: Value = serde_norway::from_str("!Ref A").unwrap();
    assert!(matches!(&value, Value::Tagged(tagged) if matches!(**tagged, TaggedValue { .. })));
}
