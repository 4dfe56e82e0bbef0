//! Every sample event decodes as the event type of its function.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use aws_lambda_events::cloudformation::CloudFormationCustomResourceRequest;
use aws_lambda_events::sqs::SqsEvent;
use connections::Incoming;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use tests::{Sample, samples};

fn decodes<T: DeserializeOwned>(sample: &Sample) -> T {
    serde_json::from_value(sample.event.clone()).unwrap_or_else(|error| panic!("{}: {error}", sample.name))
}

#[test]
fn every_sample_decodes_as_the_type_that_its_function_takes() {
    let samples = samples();
    for sample in &samples {
        match sample.function.as_str() {
            "uploads" | "complete-upload" | "files" | "spaces" | "account" | "changes" => {
                let event: ApiGatewayV2httpRequest = decodes(sample);
                assert!(event.request_context.route_key.is_some());
            }
            "connections" => match decodes(sample) {
                Incoming::WebSocket(event) => assert!(event.request_context.connection_id.is_some()),
                Incoming::Http(event) => assert_eq!(event.route_key.as_deref(), Some("POST /tickets")),
            },
            "fan-out" => assert!(!decodes::<SqsEvent>(sample).records.is_empty()),
            "maintenance" => {
                decodes::<maintenance::ScheduledEvent>(sample);
            }
            "administer" => {
                decodes::<administer::Request>(sample);
            }
            "check-account" | "empty-bucket" | "migrate" => {
                decodes::<CloudFormationCustomResourceRequest>(sample);
            }
            other => panic!("{}: there is no function {other}", sample.name),
        }
    }
    let functions: BTreeSet<&str> = samples.iter().map(|sample| sample.function.as_str()).collect();
    assert_eq!(functions.len(), 13, "each function has a sample: {functions:?}");
}

#[test]
fn the_sample_batch_holds_events_and_the_poisoned_one_does_not() {
    for sample in samples().iter().filter(|sample| sample.function == "fan-out") {
        let records = decodes::<SqsEvent>(sample).records;
        let bodies = records.iter().map(|record| record.body.as_deref().unwrap());
        let messages: Vec<_> = bodies.map(model::Message::decode).collect();
        let unreadable = messages.iter().filter(|message| message.is_err()).count();
        assert_eq!(
            unreadable,
            usize::from(sample.name.contains("poison")),
            "{}",
            sample.name
        );
        let several = messages
            .iter()
            .flatten()
            .any(|message| !message.earlier.is_empty());
        assert_eq!(several, sample.name.contains("changes"), "{}", sample.name);
    }
}
