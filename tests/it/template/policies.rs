//! Each role has the permissions that its function needs, and no others. The emulator enforces roles, so the
//! end-to-end tests need these permissions too. `cargo xtask policies` removes each statement in turn and
//! checks that one of those tests fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;
use serde_norway::Value;
use tests::project_file;

use super::{WITHOUT_DATABASE, functions, source, tagged, template};

/// AWS actions that functions use. `tools/template/test_policies.py` compares the same list with the policies
/// of the functions' roles.
#[derive(Deserialize)]
struct Permissions {
    /// Actions that each SDK call in the code needs.
    calls: BTreeMap<String, BTreeSet<String>>,
    /// Actions that an event source mapping performs with its function's role.
    event_source_mapping: BTreeSet<String>,
    /// Actions that each function needs, by resource.
    functions: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

fn calls() -> Permissions {
    let text = fs::read_to_string(project_file("tools/template/calls.yaml")).unwrap();
    serde_norway::from_str(&text).unwrap()
}

/// Action without resource-level permissions (Service Authorization Reference).
const WITHOUT_RESOURCE: [&str; 1] = ["lambda:GetAccountSettings"];

/// Actions that a statement allows. An asterisk after an SQS action is a workaround for the emulator.
fn actions(statement: &Value) -> BTreeSet<String> {
    let actions = &statement["Action"];
    let one = actions.as_str().into_iter();
    let many = actions
        .as_sequence()
        .into_iter()
        .flatten()
        .map(|action| action.as_str().unwrap());
    one.chain(many)
        .map(|action| action.strip_suffix('*').unwrap_or(action).to_owned())
        .collect()
}

/// Statements of a function's own policy, including conditional ones.
fn statements(template: &Value, function: &str) -> Vec<Value> {
    let role = &template["Resources"][format!("{function}Role")]["Properties"];
    let policies = role["Policies"].as_sequence().unwrap();
    assert_eq!(policies.len(), 1);
    let statements = policies[0]["PolicyDocument"]["Statement"].as_sequence().unwrap();
    statements
        .iter()
        .map(|statement| match statement {
            Value::Tagged(conditional) => conditional.value[1].clone(),
            plain => plain.clone(),
        })
        .collect()
}

type Actions = &'static [(&'static str, &'static [&'static str])];

/// Actions needed by calls to the crates that own an AWS client. Those crates list them in tables beside
/// their methods.
fn actions_of_libraries(source: &str) -> BTreeSet<String> {
    let source: String = source.split_whitespace().collect();
    let libraries: [(&[&str], Actions); 5] = [
        (&["storage."], storage::ACTIONS),
        (&["queue.", "dead_letters.", "queue::"], queue::ACTIONS),
        (&["commands::"], commands::ACTIONS),
        (&["bus."], bus::ACTIONS),
        (&["closer."], websocket::ACTIONS),
    ];
    let mut actions = BTreeSet::new();
    for (receivers, methods) in libraries {
        for (method, needed) in methods {
            let call = |receiver: &&str| source.contains(&format!("{receiver}{method}("));
            if receivers.iter().any(call) {
                actions.extend(needed.iter().map(|action| (*action).to_owned()));
            }
        }
    }
    actions
}

#[test]
fn every_call_of_a_library_has_its_actions() {
    let libraries: [(&str, Actions); 5] = [
        ("storage", storage::ACTIONS),
        ("queue", queue::ACTIONS),
        ("commands", commands::ACTIONS),
        ("bus", bus::ACTIONS),
        ("websocket", websocket::ACTIONS),
    ];
    for (library, actions) in libraries {
        let files = fs::read_dir(project_file(&format!("crates/{library}/src"))).unwrap();
        let source: String = files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        let calls = source.split("pub async fn ").skip(1);
        let mut calls: Vec<&str> = calls.filter_map(|rest| rest.split(['(', '<']).next()).collect();
        let mut listed: Vec<&str> = actions.iter().map(|(call, _)| *call).collect();
        calls.sort_unstable();
        listed.sort_unstable();
        assert_eq!(calls, listed, "{library}");
    }
}

#[test]
fn each_role_may_do_what_its_function_calls_and_nothing_else() {
    let template = template();
    let known = calls();
    for (id, (binary, function)) in functions(&template) {
        assert_eq!(
            tagged(&function["Properties"]["Role"], "GetAtt"),
            format!("{id}Role.Arn")
        );
        let source = source(&binary);
        let called = known.calls.iter().filter(|(call, _)| source.contains(*call));
        let mut needed: BTreeSet<String> = called.flat_map(|(_, actions)| actions.clone()).collect();
        needed.extend(actions_of_libraries(&source));
        if function["Properties"]["Events"]["Queue"].is_mapping() {
            needed.extend(known.event_source_mapping.clone());
        }
        let declared = known.functions.get(&id).into_iter().flatten();
        let mut declared: BTreeSet<String> = declared.flat_map(|(_, actions)| actions.clone()).collect();
        // Signing in to the database is in a separate policy.
        declared.remove("rds-db:connect");
        assert_eq!(declared, needed, "{id} in tools/template/calls.yaml");
        needed.extend(["logs:CreateLogStream", "logs:PutLogEvents"].map(str::to_owned));
        let allowed: BTreeSet<String> = statements(&template, &id).iter().flat_map(actions).collect();
        assert_eq!(allowed, needed, "{id}");
    }
}

#[test]
fn each_role_speaks_to_the_services_whose_client_its_function_has() {
    let clients = [
        ("s3", "storage"),
        ("sqs", "queue"),
        ("events", "bus"),
        ("execute-api", "websocket"),
        ("secretsmanager", "aws-sdk-secretsmanager"),
    ];
    let template = template();
    for (id, (binary, _)) in functions(&template) {
        let allowed: BTreeSet<String> = statements(&template, &id).iter().flat_map(actions).collect();
        let manifest = fs::read_to_string(project_file(&format!("functions/{binary}/Cargo.toml"))).unwrap();
        for (service, client) in clients {
            let prefix = format!("{service}:");
            assert_eq!(
                allowed.iter().any(|action| action.starts_with(&prefix)),
                manifest.contains(&format!("{client} =")),
                "{id}: {service}"
            );
        }
    }
}

#[test]
fn each_statement_names_what_it_is_about_and_has_a_name() {
    let template = template();
    for id in functions(&template).into_keys() {
        let mut names = BTreeMap::new();
        for statement in statements(&template, &id) {
            let name = statement["Sid"].as_str().unwrap().to_owned();
            assert_eq!(statement["Effect"], "Allow");
            let resource = serde_norway::to_string(&statement["Resource"]).unwrap();
            if actions(&statement).iter().eq(WITHOUT_RESOURCE) {
                assert_eq!(statement["Resource"], "*");
                continue;
            }
            assert!(
                !resource.trim().ends_with("'*'") && resource.contains('!'),
                "{id}: {resource}"
            );
            if actions(&statement).contains("execute-api:ManageConnections") {
                // Operators close connections; fan-out also posts.
                let methods: &[&str] = if id == "Administer" {
                    &["DELETE"]
                } else {
                    &["POST", "DELETE"]
                };
                for method in methods {
                    assert!(
                        resource.contains(&format!("${{WebSocketApi}}/live/{method}/@connections/*")),
                        "{resource}"
                    );
                }
            }
            assert!(names.insert(name, resource).is_none(), "{id}");
        }
        // SAM adds policies of its own to a role that it creates, and to this role if `Policies` were set.
        assert!(
            template["Resources"][&id]["Properties"]["Policies"].is_null(),
            "{id}"
        );
    }
}

#[test]
fn functions_sign_in_to_one_database_as_one_role() {
    let template = template();
    let document = &template["Resources"]["SignInPolicy"]["Properties"]["PolicyDocument"];
    let statement = &document["Statement"][0];
    assert_eq!(actions(statement), BTreeSet::from(["rds-db:connect".to_owned()]));
    let resource = serde_norway::to_string(&statement["Resource"]).unwrap();
    assert!(
        resource.contains(":dbuser:${ResourceId}/syncsphere"),
        "{resource}"
    );
    for (id, (_, function)) in functions(&template) {
        let role = &template["Resources"][format!("{id}Role")]["Properties"];
        let attached = serde_norway::to_string(&role["ManagedPolicyArns"]).unwrap();
        if WITHOUT_DATABASE.contains(&id.as_str()) {
            assert!(!attached.contains("SignInPolicy"), "{id}");
            continue;
        }
        assert!(attached.contains("!Ref SignInPolicy"), "{id}");
        // The migrating function signs in as the owner, if there is one.
        let condition = if id == "Migrate" {
            "MigratesByIam"
        } else {
            "SignsInByIam"
        };
        assert!(attached.contains(condition), "{id}: {attached}");
        let variables = &function["Properties"]["Environment"]["Variables"];
        let url = serde_norway::to_string(&variables["DATABASE_URL"]).unwrap();
        assert!(
            url.contains("postgresql://syncsphere@${Database.Endpoint.Address}"),
            "{id}: {url}"
        );
    }
}

#[test]
fn lambda_may_run_functions_in_the_network_and_their_code_may_not_change_it() {
    let template = template();
    let document = &template["Resources"]["RunPolicy"]["Properties"]["PolicyDocument"];
    let statements: BTreeMap<&str, &Value> = document["Statement"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|statement| (statement["Sid"].as_str().unwrap(), statement))
        .collect();
    assert_eq!(
        statements.keys().copied().collect::<Vec<_>>(),
        ["CodeChangesNoNetwork", "RunInVpc", "Trace"]
    );
    let (run, deny) = (statements["RunInVpc"], statements["CodeChangesNoNetwork"]);
    assert_eq!(
        (&run["Effect"], &deny["Effect"]),
        (&Value::from("Allow"), &Value::from("Deny"))
    );
    assert_eq!(actions(run), actions(deny));
    // AWS Lambda Developer Guide, "Giving Lambda functions access to resources in an Amazon VPC".
    let needed = [
        "CreateNetworkInterface",
        "DescribeNetworkInterfaces",
        "DescribeSubnets",
        "DeleteNetworkInterface",
        "AssignPrivateIpAddresses",
        "UnassignPrivateIpAddresses",
    ];
    assert_eq!(actions(run), needed.map(|action| format!("ec2:{action}")).into());
    let code = &deny["Condition"]["ArnLike"]["lambda:SourceFunctionArn"];
    assert!(matches!(code, Value::Tagged(_)));
    let trace = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"];
    assert_eq!(actions(statements["Trace"]), trace.map(str::to_owned).into());
}

/// Amazon CloudWatch User Guide, "Notifying users on alarm changes".
#[test]
fn alarms_of_this_account_may_tell_and_nobody_else() {
    let template = template();
    let document = &template["Resources"]["AlarmTopicPolicy"]["Properties"]["PolicyDocument"];
    let statement = &document["Statement"][0];
    assert_eq!(actions(statement), BTreeSet::from(["sns:Publish".to_owned()]));
    assert_eq!(statement["Principal"]["Service"], "cloudwatch.amazonaws.com");
    let account = &statement["Condition"]["StringEquals"]["aws:SourceAccount"];
    assert_eq!(tagged(account, "Ref"), "AWS::AccountId");
}

#[test]
fn content_travels_over_tls_and_is_never_overwritten() {
    let template = template();
    let document = &template["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"];
    let statements = document["Statement"].as_sequence().unwrap();
    assert!(
        statements
            .iter()
            .all(|statement| statement["Effect"] == "Deny" && statement["Principal"] == "*")
    );
    let [tls, conditional] = statements.as_slice() else {
        panic!("{statements:?}")
    };
    assert_eq!(tls["Condition"]["Bool"]["aws:SecureTransport"], "false");
    // Amazon S3 User Guide, "Enforce conditional writes on Amazon S3 buckets".
    assert_eq!(conditional["Condition"]["Null"]["s3:if-none-match"], "true");
    assert_eq!(
        conditional["Condition"]["Bool"]["s3:ObjectCreationOperation"],
        "true"
    );
}

/// Token authentication requires the policy, and only `migrate` reads the owner's secret.
#[test]
fn migrate_and_no_other_function_may_sign_in_as_the_owner() {
    let template = template();
    let resources = template["Resources"].as_mapping().unwrap();
    let text = |value| serde_norway::to_string(value).unwrap();
    let roles = resources.iter().filter(|(_, resource)| {
        text(&resource["Properties"]["ManagedPolicyArns"]).contains("OwnerSignInPolicy")
    });
    let roles: Vec<_> = roles.map(|(name, _)| name.as_str().unwrap()).collect();
    assert_eq!(roles, ["MigrateRole"]);
    let database = &template["Resources"]["Database"]["Properties"]["MasterUsername"];
    let policy = &template["Resources"]["OwnerSignInPolicy"]["Properties"]["PolicyDocument"];
    let statement = &policy["Statement"][0];
    assert_eq!(statement["Action"], "rds-db:connect");
    let resource = text(&statement["Resource"]);
    assert!(
        resource.contains(":dbuser:${ResourceId}/${Owner}")
            && resource.contains(&format!("- {}", database.as_str().unwrap())),
        "{resource}"
    );
}
