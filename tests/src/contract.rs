//! The API descriptions in `docs/` (`OpenAPI` and `AsyncAPI`), used to check responses and frames.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{LazyLock, Mutex};

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

use crate::project_file;

/// Both descriptions. Each schema is compiled at its first use.
pub struct Contract {
    http: Value,
    messages: Value,
    validators: Mutex<BTreeMap<String, &'static Validator>>,
}

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract {
    http: document("docs/openapi.yaml"),
    messages: document("docs/asyncapi.yaml"),
    validators: Mutex::default(),
});

fn document(path: &str) -> Value {
    let text = fs::read_to_string(project_file(path)).unwrap();
    serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Contract {
    /// The descriptions, read once per process.
    pub fn get() -> &'static Self {
        &CONTRACT
    }

    /// Every described route, such as `GET /files`.
    pub fn routes(&self) -> BTreeSet<String> {
        let paths = self.http["paths"].as_object().unwrap();
        let routes = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        routes.collect()
    }

    /// Statuses that the description lists for a route, and for the items of a batch.
    pub fn statuses(&self, route: &str) -> BTreeSet<i64> {
        let (method, path) = route.split_once(' ').unwrap();
        let responses = &self.http["paths"][path][method.to_lowercase()]["responses"];
        let statuses = responses
            .as_object()
            .unwrap_or_else(|| panic!("{route} is not described"));
        let of_answers = statuses.keys().map(|status| status.parse().unwrap());
        of_answers.chain(self.item_statuses(responses)).collect()
    }

    /// Statuses of the results in the 200 of a batch; none for any other route.
    fn item_statuses(&self, responses: &Value) -> BTreeSet<i64> {
        let schema = self.resolved(&responses["200"]["content"]["application/json"]["schema"]);
        let results = schema["properties"]["results"]["items"]["oneOf"].as_array();
        let statuses = results.into_iter().flatten().flat_map(|result| {
            let status = &self.resolved(result)["properties"]["status"];
            let listed = status["enum"].as_array().into_iter().flatten();
            listed.cloned().chain(status.get("const").cloned())
        });
        statuses.map(|status| status.as_i64().unwrap()).collect()
    }

    /// The schema that a reference names, or the schema itself.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.http.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        }
    }

    /// Described route that matches a method and path; `None` if there is none. If several match, it is the one
    /// with a fixed segment where others have a variable, as for API Gateway: a letter sorts before `{`.
    pub fn route(&self, method: &str, path: &str) -> Option<String> {
        let segments: Vec<&str> = path.split('/').collect();
        let matches = |template: &str| {
            let template: Vec<&str> = template.split('/').collect();
            template.len() == segments.len()
                && template
                    .iter()
                    .zip(&segments)
                    .all(|(named, given)| named.starts_with('{') || named == given)
        };
        let routes = self.routes();
        routes.into_iter().find(|route| {
            route
                .split_once(' ')
                .is_some_and(|(its, path)| its == method && matches(path))
        })
    }

    /// Panics unless the description allows the response.
    pub fn check(&self, route: &str, status: i64, body: &Value) {
        self.verify(route, status, body)
            .unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Checks a response against the description. The error says how the response differs.
    pub fn verify(&self, route: &str, status: i64, body: &Value) -> Result<(), String> {
        let (method, path) = route.split_once(' ').unwrap();
        let (method, path) = (method.to_lowercase(), path.replace('/', "~1"));
        let mut at = format!("/paths/{path}/{method}/responses/{status}");
        let response = self.http.pointer(&at);
        let response =
            response.ok_or_else(|| format!("{route} answered {status}, which is not described: {body}"))?;
        let response = if let Some(reference) = response["$ref"].as_str() {
            reference.trim_start_matches('#').clone_into(&mut at);
            self.http.pointer(&at).unwrap()
        } else {
            response
        };
        let Some(content) = response.get("content") else {
            return if body.is_null() {
                Ok(())
            } else {
                Err(format!("{route} {status} has a body: {body}"))
            };
        };
        let is_problem = body.get("code").is_some() && content.get("application/problem+json").is_some();
        if is_problem && body["status"] != status {
            return Err(format!("{route} {status} says another status: {body}"));
        }
        for result in body["results"].as_array().into_iter().flatten() {
            let problem = result.get("problem");
            if problem.is_some_and(|problem| problem["status"] != result["status"]) {
                return Err(format!("{route}: a result says two statuses: {result}"));
            }
        }
        let media_type = if is_problem || content.get("application/json").is_none() {
            "problem+json"
        } else {
            "json"
        };
        let schema = format!("openapi.yaml#{at}/content/application~1{media_type}/schema");
        self.validate(&schema, body, &format!("{route} {status}"))
    }

    /// Checks every example of a body against its schema. Returns the number of examples.
    pub fn check_examples(&self) -> usize {
        let mut checked = 0;
        for route in self.routes() {
            let (method, path) = route.split_once(' ').unwrap();
            let method = method.to_lowercase();
            let operation = &self.http["paths"][path][&method];
            let at = format!("openapi.yaml#/paths/{}/{method}", path.replace('/', "~1"));
            let responses = operation["responses"].as_object().unwrap().iter();
            let bodies = responses.map(|(status, response)| (format!("responses/{status}"), response));
            let request = ("requestBody".to_owned(), &operation["requestBody"]);
            for (place, body) in bodies.chain([request]) {
                let example = &body["content"]["application/json"]["example"];
                if !example.is_null() {
                    let schema = format!("{at}/{place}/content/application~1json/schema");
                    self.validate(&schema, example, &format!("example of {route}, {place}"))
                        .unwrap_or_else(|violation| panic!("{violation}"));
                    checked += 1;
                }
            }
        }
        checked
    }

    /// Panics unless the description allows the frame.
    pub fn check_frame(&self, frame: &Value) {
        let kind = frame["type"].as_str().unwrap_or("none");
        let schema = format!("asyncapi.yaml#/components/messages/{kind}/payload");
        self.validate(&schema, frame, "frame")
            .unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Panics unless the description allows the event that a rule's target gets.
    pub fn check_event(&self, event: &Value) {
        self.verify_event(event)
            .unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Checks the event that a rule's target gets. The error says how it differs from the description.
    pub fn verify_event(&self, event: &Value) -> Result<(), String> {
        self.validate("asyncapi.yaml#/components/messages/event/payload", event, "event")
    }

    /// Every described type of a change.
    pub fn event_types(&self) -> BTreeSet<String> {
        let types = &self.http["components"]["schemas"]["Change"]["properties"]["eventType"]["enum"];
        serde_json::from_value(types.clone()).unwrap()
    }

    fn validate(&self, schema: &str, value: &Value, what: &str) -> Result<(), String> {
        let validator = *self
            .validators
            .lock()
            .unwrap()
            .entry(schema.to_owned())
            .or_insert_with(|| Box::leak(Box::new(self.compile(schema))));
        let errors: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(format!("{what} is not as described: {errors:#?}\n{value:#}"))
        }
    }

    fn compile(&self, schema: &str) -> Validator {
        let registry = Registry::new()
            .add("file:///docs/openapi.yaml", self.http.clone())
            .and_then(|registry| registry.add("file:///docs/asyncapi.yaml", self.messages.clone()))
            .and_then(jsonschema::RegistryBuilder::prepare)
            .unwrap();
        jsonschema::options()
            .with_registry(&registry)
            .should_validate_formats(true)
            .build(&json!({ "$ref": format!("file:///docs/{}", schema.replace('{', "%7B").replace('}', "%7D")) }))
            .unwrap_or_else(|error| panic!("{schema}: {error}"))
    }
}
