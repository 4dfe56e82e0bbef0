//! Consistency of `template.yaml` and the code.

mod limits;
mod observability;
mod pages;
mod policies;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_norway::Value;
use serde_norway::value::TaggedValue;
use tests::project_file;

/// The template; under `cargo xtask policies`, the template without one policy statement.
fn template() -> Value {
    let other = std::env::var_os("SYNCSPHERE_TEMPLATE").map(PathBuf::from);
    let file = other.unwrap_or_else(|| project_file("template.yaml"));
    serde_norway::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Resources of a type, by logical id.
fn resources(template: &Value, kind: &str) -> BTreeMap<String, Value> {
    let all = template["Resources"].as_mapping().unwrap();
    let wanted = all.iter().filter(|(_, resource)| resource["Type"] == kind);
    wanted
        .map(|(id, resource)| (id.as_str().unwrap().to_owned(), resource.clone()))
        .collect()
}

/// Routes of an API, by logical id.
fn routes(template: &Value, api: &str) -> BTreeMap<String, Value> {
    let mut routes = resources(template, "AWS::ApiGatewayV2::Route");
    routes.retain(|_, route| tagged(&route["Properties"]["ApiId"], "Ref") == api);
    routes
}

/// The logical id of a route's integration.
fn integration(route: &Value) -> &str {
    let target = tagged(&route["Properties"]["Target"], "Sub");
    let integration = target.strip_prefix("integrations/${");
    integration.and_then(|rest| rest.strip_suffix('}')).unwrap()
}

/// Binary and definition of each function, by logical id.
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

/// Functions that only CloudFormation invokes. It does not use their alias, and two of them run before the
/// schema exists.
const CUSTOM_RESOURCES: [&str; 3] = ["CheckAccount", "EmptyBucket", "Migrate"];

/// Custom resource functions that do not use the database and run outside the VPC.
const WITHOUT_DATABASE: [&str; 2] = ["CheckAccount", "EmptyBucket"];

/// Text after each occurrence of `before`, up to the next quotation mark.
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

/// Argument of a tag such as `!Ref`.
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
    // Read by the SDK, not by our code.
    for read_elsewhere in [
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_EVENTBRIDGE",
        "AWS_ENDPOINT_URL_SQS",
    ] {
        assert!(shared.remove(read_elsewhere), "{read_elsewhere}");
    }
    for (id, (binary, function)) in functions(&template) {
        let mut own = keys(&function["Properties"]["Environment"]["Variables"]);
        // No code reads it. SAM publishes a new version of the function when it changes.
        assert!(own.remove("PARAMETERS"), "{id}");
        let set: BTreeSet<String> = shared.union(&own).cloned().collect();
        let source = source(&binary);
        let mut read = quoted_after(&source, "vars.required(\"");
        read.extend(quoted_after(&source, "vars.optional(\""));
        read.extend(quoted_after(&source, "vars.list(\""));
        assert_eq!(set, read, "{id}");
    }
}

#[test]
fn every_function_waits_for_the_schema_and_logs_where_logs_expire() {
    let template = template();
    for (id, (_, function)) in functions(&template) {
        let waits = function["DependsOn"] == "Schema";
        assert_eq!(waits, !CUSTOM_RESOURCES.contains(&id.as_str()), "{id}");
        let group = tagged(&function["Properties"]["LoggingConfig"]["LogGroup"], "Ref");
        assert_eq!(group, format!("{id}Logs"));
        let group = &template["Resources"][group]["Properties"];
        assert_eq!(tagged(&group["RetentionInDays"], "Ref"), "LogRetentionDays");
    }
    let resources = &template["Resources"];
    // Changed migrations, permissions or checks must run at the next deployment.
    assert_eq!(
        tagged(&resources["Schema"]["Properties"]["Code"], "Ref"),
        "Migrate.Version"
    );
    assert_eq!(
        tagged(&resources["AccountCheck"]["Properties"]["Code"], "Ref"),
        "CheckAccount.Version"
    );
    // CloudFormation's timeout for the response is longer than the function's own timeout.
    for (resource, function) in [
        ("AccountCheck", "CheckAccount"),
        ("Content", "EmptyBucket"),
        ("Schema", "Migrate"),
    ] {
        let properties = &resources[resource]["Properties"];
        assert_eq!(
            tagged(&properties["ServiceToken"], "GetAtt"),
            format!("{function}.Arn")
        );
        let runs_for = resources[function]["Properties"]["Timeout"].as_i64().unwrap();
        assert!(
            properties["ServiceTimeout"].as_i64().unwrap() > runs_for,
            "{resource}"
        );
    }
}

#[test]
fn every_route_is_guarded_and_served_by_the_function_behind_it() {
    let template = template();
    let mut served = BTreeSet::new();
    for (id, route) in &routes(&template, "HttpApi") {
        let integration = integration(route);
        let route = &route["Properties"];
        assert_eq!(route["AuthorizationType"], "JWT", "{id}");
        assert_eq!(tagged(&route["AuthorizerId"], "Ref"), "HttpApiAuthorizer", "{id}");
        // Catch-all routes would invoke a function for preflight requests, which have no token.
        let key = route["RouteKey"].as_str().unwrap();
        assert!(
            key != "$default" && !key.starts_with("OPTIONS") && !key.contains('+'),
            "{id}: {key}"
        );
        let uri = &template["Resources"][integration]["Properties"]["IntegrationUri"];
        let function = tagged(uri, "Ref").strip_suffix(".Alias").unwrap();
        let binary = template["Resources"][function]["Metadata"]["BuildProperties"]["Binary"]
            .as_str()
            .unwrap();
        let key = route["RouteKey"].as_str().unwrap();
        served.insert((binary.to_owned(), key.to_owned()));
        let permission = &template["Resources"][format!("{function}HttpPermission")]["Properties"];
        assert_eq!(
            tagged(&permission["FunctionName"], "Ref"),
            format!("{function}.Alias"),
            "{id}"
        );
    }
    // Conversely, every route that the code serves is in the template.
    let mut known = BTreeSet::new();
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

/// The kept resources store users' data or are needed by those that do. `tools/template/test_sizes.py` tests
/// the expanded template.
#[test]
fn deleting_the_stack_leaves_files_users_and_the_database_unless_it_is_a_trial() {
    let template = template();
    let kept = [
        "Bucket",
        "Database",
        "DatabaseSecurityGroup",
        "DatabaseSettings",
        "DatabaseSubnets",
        "EgressOnlyInternetGateway",
        "RouteOut",
        "RouteTable",
        "S3Endpoint",
        "SubnetA",
        "SubnetARoutes",
        "SubnetB",
        "SubnetBRoutes",
        "UserPool",
        "Vpc",
        "VpcIpv6",
    ];
    for (id, resource) in template["Resources"].as_mapping().unwrap() {
        let id = id.as_str().unwrap();
        let policy = |name: &str| {
            let policy = resource.get(name)?;
            Some(serde_norway::to_string(policy).unwrap())
        };
        let expected = kept
            .contains(&id)
            .then(|| "!If\n- IsTrial\n- Delete\n- Retain\n".to_owned());
        assert_eq!(policy("DeletionPolicy"), expected, "{id}");
        assert_eq!(policy("UpdateReplacePolicy"), expected, "{id}");
    }
    let database = &template["Resources"]["Database"]["Properties"];
    assert_eq!(database["StorageEncrypted"], Value::from(true));
    assert_eq!(database["PubliclyAccessible"], Value::from(false));
}

#[test]
fn new_code_comes_by_an_alias_and_little_by_little() {
    let template = template();
    assert_eq!(template["Globals"]["Function"]["AutoPublishAlias"], "live");
    for (id, (_, function)) in functions(&template) {
        let preference = &function["Properties"]["DeploymentPreference"];
        if CUSTOM_RESOURCES.contains(&id.as_str()) {
            assert!(preference.is_null());
            continue;
        }
        assert_eq!(preference["Type"], "Canary10Percent5Minutes", "{id}");
        let alarms = serde_norway::to_string(&preference["Alarms"]).unwrap();
        for alarm in ["FunctionErrorsAlarm", "HttpErrorsAlarm"] {
            assert!(alarms.contains(alarm), "{id}: {alarms}");
        }
    }
    let transforms = template["Transform"].as_sequence().unwrap();
    assert_eq!(
        transforms[0], "AWS::LanguageExtensions",
        "or a new parameter makes no new version"
    );
}

#[test]
fn every_parameter_is_in_one_group_and_explained() {
    let template = template();
    let groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        .as_sequence()
        .unwrap();
    let mut grouped = Vec::new();
    for group in groups {
        let names = group["Parameters"].as_sequence().unwrap();
        grouped.extend(names.iter().map(|name| name.as_str().unwrap().to_owned()));
    }
    grouped.sort();
    let parameters: Vec<String> = keys(&template["Parameters"]).into_iter().collect();
    assert_eq!(grouped, parameters);
    let operations = fs::read_to_string(project_file("docs/operations.md")).unwrap();
    for name in &parameters {
        let parameter = &template["Parameters"][name.as_str()];
        assert!(parameter["Description"].is_string(), "{name}");
        let constrained = ["AllowedPattern", "AllowedValues", "MinValue"];
        let list = parameter["Type"] == "CommaDelimitedList";
        assert!(
            list || constrained.iter().any(|rule| parameter.get(rule).is_some()),
            "{name}"
        );
        // The last group is not relevant to people who deploy.
        assert!(
            name == "LocalEndpoint" || operations.contains(name),
            "{name} is not in docs/operations.md"
        );
    }
}

#[test]
fn the_outputs_are_those_that_clients_rely_on() {
    let expected = [
        "AdministerFunction",
        "BucketName",
        "DashboardUrl",
        "DatabaseEndpoint",
        "DeadLetterQueueUrl",
        "HttpApiUrl",
        "QueueUrl",
        "UserPoolClientId",
        "UserPoolId",
        "WebSocketUrl",
    ];
    assert_eq!(keys(&template()["Outputs"]), expected.map(str::to_owned).into());
}

/// Without this check, a test that looks for tags would pass if the parser dropped them.
#[test]
fn the_parser_keeps_tags() {
    let value: Value = serde_norway::from_str("!Ref A").unwrap();
    assert!(matches!(&value, Value::Tagged(tagged) if matches!(**tagged, TaggedValue { .. })));
}
