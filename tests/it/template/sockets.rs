//! The WebSocket API: only connecting and disconnecting invoke a function.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use serde_norway::Value;
use tests::Contract;

use super::{integration, keys, resources, routes, tagged, template};

/// Routes by their keys, with their logical ids.
fn by_key(template: &Value) -> BTreeMap<String, (String, Value)> {
    let key = |route: &Value| route["Properties"]["RouteKey"].as_str().unwrap().to_owned();
    routes(template, "WebSocketApi")
        .into_iter()
        .map(|(id, route)| (key(&route), (id, route)))
        .collect()
}

#[test]
fn messages_of_clients_invoke_no_function() {
    let template = template();
    let mut invoking = BTreeSet::new();
    for (key, (id, route)) in by_key(&template) {
        let integration = &template["Resources"][integration(&route)]["Properties"];
        if integration["IntegrationType"] == "AWS_PROXY" {
            invoking.insert(key);
            continue;
        }
        assert_eq!(integration["IntegrationType"], "MOCK", "{id}");
        // A MOCK integration takes the status from its request template.
        assert_eq!(integration["TemplateSelectionExpression"], "\\$default", "{id}");
        let request = integration["RequestTemplates"]["$default"].as_str().unwrap();
        let request: serde_json::Value = serde_json::from_str(request).unwrap();
        assert_eq!(request, json!({ "statusCode": 200 }), "{id}");
    }
    assert_eq!(invoking, ["$connect", "$disconnect"].map(str::to_owned).into());
    let allowed = resources(&template, "AWS::Lambda::Permission").into_values();
    let allowed: BTreeSet<String> = allowed
        .filter_map(|permission| match &permission["Properties"]["SourceArn"] {
            Value::Tagged(arn) => arn.value.as_str().map(str::to_owned),
            _ => None,
        })
        .filter_map(|arn| Some(arn.split_once(":${WebSocketApi}/")?.1.to_owned()))
        .collect();
    assert_eq!(
        allowed,
        ["live/$connect", "live/$disconnect"].map(str::to_owned).into()
    );
}

/// API Gateway bills an answer as a message.
#[test]
fn a_heartbeat_is_not_answered_and_every_other_message_is() {
    let template = template();
    let integration_responses = resources(&template, "AWS::ApiGatewayV2::IntegrationResponse");
    let route_responses = resources(&template, "AWS::ApiGatewayV2::RouteResponse");
    let mut answers = BTreeMap::new();
    for (key, (id, route)) in by_key(&template) {
        let mut texts = integration_responses.values().filter_map(|response| {
            let response = &response["Properties"];
            (tagged(&response["IntegrationId"], "Ref") == integration(&route)).then(|| {
                assert_eq!(response["IntegrationResponseKey"], "$default", "{id}");
                assert_eq!(response["TemplateSelectionExpression"], "\\$default", "{id}");
                response["ResponseTemplates"]["$default"].as_str().unwrap()
            })
        });
        let text = texts.next();
        assert_eq!(texts.next(), None, "{id}");
        let sent_back = route_responses.values().any(|response| {
            let response = &response["Properties"];
            tagged(&response["RouteId"], "Ref") == id && response["RouteResponseKey"] == "$default"
        });
        assert_eq!(sent_back, text.is_some(), "{id}");
        let selected = route["Properties"].get("RouteResponseSelectionExpression");
        assert_eq!(
            selected,
            text.is_some().then_some(&Value::from("$default")),
            "{id}"
        );
        if let Some(text) = text {
            let frame = serde_json::from_str(text).unwrap();
            Contract::get().check_frame(&frame);
            answers.insert(key, frame["type"].clone());
        }
    }
    let expected = [("$default", "error"), ("ping", "pong")];
    assert_eq!(
        answers,
        expected.map(|(key, kind)| (key.to_owned(), kind.into())).into()
    );
    assert_eq!(integration_responses.len(), expected.len());
    assert_eq!(route_responses.len(), expected.len());
}

/// API Gateway refuses settings of a route that does not exist.
#[test]
fn the_stage_comes_after_its_routes_and_responses() {
    let template = template();
    let stage = &template["Resources"]["WebSocketApiliveStage"];
    let routes = by_key(&template);
    for key in keys(&stage["Properties"]["RouteSettings"]) {
        assert!(routes.contains_key(&key), "{key}");
    }
    let waits: BTreeSet<&str> = stage["DependsOn"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let expected = routes.values().map(|(id, _)| id.as_str()).collect();
    assert_eq!(waits, expected);
    let Value::Tagged(variable) = &stage["Properties"]["StageVariables"]["responses"] else {
        panic!("not conditional")
    };
    let names = tagged(&variable.value[1], "Sub");
    for kind in ["IntegrationResponse", "RouteResponse"] {
        for id in resources(&template, &format!("AWS::ApiGatewayV2::{kind}")).keys() {
            assert!(names.contains(&format!("${{{id}}}")), "{id}");
        }
    }
}
