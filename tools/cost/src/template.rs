//! What template.yaml says about routes, logs, memory and alarms.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail};
use runner::project::Project;
use serde_norway::Value;

/// Lines that Lambda writes at each invocation at the system log level INFO, of the usual lengths (AWS Lambda
/// Developer Guide, "Lambda Telemetry API Event schema reference": `platform.start` and `platform.report`).
/// At WARN Lambda writes neither for an invocation that succeeds (same guide, "Log-level filtering").
const SYSTEM_LINES: [&str; 2] = [
    r#"{"time":"2026-11-24T16:00:00.123Z","type":"platform.start","record":{"requestId":"6d68ca91-49c9-448d-89b8-7ca3e6dc66aa","version":"42"}}"#,
    r#"{"time":"2026-11-24T16:00:00.153Z","type":"platform.report","record":{"requestId":"6d68ca91-49c9-448d-89b8-7ca3e6dc66aa","metrics":{"durationMs":25.123,"billedDurationMs":26,"memorySizeMB":128,"maxMemoryUsedMB":20},"tracing":{"spanId":"54565fb41ac79632","type":"X-Amzn-Trace-Id","value":"Root=1-62e900b2-710d76f009d6e7785905449a;Parent=0efbd19962d95b05;Sampled=0"},"status":"success"}}"#,
];

/// The template.
pub(crate) struct Template {
    /// The binary behind each route of the HTTP API, such as `POST /uploads`.
    pub(crate) routes: BTreeMap<String, String>,
    /// What answers messages on each route of the WebSocket API.
    pub(crate) socket_routes: BTreeMap<String, SocketRoute>,
    /// The format of a line of the HTTP API's access log.
    pub(crate) access_log: String,
    /// The logs of each function, by binary.
    pub(crate) logging: BTreeMap<String, Logging>,
    /// The memory size of the functions in MB.
    pub(crate) memory: u32,
    /// Whether invocations are traced.
    pub(crate) traced: bool,
    /// The number of metrics that alarms evaluate.
    pub(crate) alarm_metrics: u64,
    /// Messages that the event source mapping hands over at once, at most.
    pub(crate) batch_size: usize,
}

/// The logs of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logging {
    /// The level of its own lines, as `AWS_LAMBDA_LOG_LEVEL` has it.
    pub(crate) level: String,
    /// Bytes that Lambda itself logs for an invocation.
    pub(crate) system_bytes: u64,
}

/// What answers a message from a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketRoute {
    /// The function; `None` if API Gateway answers itself (integration type `MOCK`).
    pub(crate) function: Option<String>,
    /// Whether the device gets an answer, for which the route needs a route response.
    pub(crate) answers: bool,
}

impl Template {
    pub(crate) fn read(project: &Project) -> Result<Self> {
        let text =
            fs::read_to_string(project.root.join("template.yaml")).context("cannot read template.yaml")?;
        Self::parse(&text).context("template.yaml has another form than `cargo xtask cost` expects")
    }

    fn parse(text: &str) -> Result<Self> {
        let template: Value = serde_norway::from_str(text)?;
        let globals = &template["Globals"]["Function"];
        let resource = |id: &str| &template["Resources"][id];
        let memory = globals["MemorySize"]
            .as_u64()
            .context("Globals has no MemorySize")?;
        let mut routes = BTreeMap::new();
        let mut socket_routes = socket_routes(&template)?;
        for route in of_type(&template, "AWS::ApiGatewayV2::Route") {
            let properties = &route["Properties"];
            let key = properties["RouteKey"].as_str().context("a route without a key")?;
            let integration = text_of(&properties["Target"])
                .and_then(|target| target.strip_prefix("integrations/${")?.strip_suffix('}'));
            let integration = integration.with_context(|| format!("the target of {key}"))?;
            let integration = &resource(integration)["Properties"];
            let function = integrated(&template, integration).with_context(|| key.to_owned())?;
            if text_of(&properties["ApiId"]) == Some("HttpApi") {
                let function = function.with_context(|| format!("{key} has no function"))?;
                routes.insert(key.to_owned(), function);
            } else {
                let answers = !properties["RouteResponseSelectionExpression"].is_null();
                socket_routes.insert(key.to_owned(), SocketRoute { function, answers });
            }
        }
        let batch_size =
            resource("FanOut")["Properties"]["Events"]["Queue"]["Properties"]["BatchSize"].as_u64();
        let access_log = resource("HttpApiStage")["Properties"]["AccessLogSettings"]["Format"].as_str();
        Ok(Self {
            routes,
            socket_routes,
            access_log: access_log
                .context("the HTTP API has no access log")?
                .trim()
                .to_owned(),
            logging: logging(&template)?,
            memory: u32::try_from(memory)?,
            traced: default(&template, &globals["Tracing"]).as_deref() == Some("Active"),
            // By default there is no event bus; docs/events.md has its price.
            alarm_metrics: of_type(&template, "AWS::CloudWatch::Alarm")
                .filter(|alarm| alarm["Condition"] != "HasEventBus")
                .map(metrics)
                .sum(),
            batch_size: usize::try_from(batch_size.context("fan-out has no batch size")?)?,
        })
    }

    /// Whether the WebSocket API has a route for heartbeats. Earlier releases have only pings, which a function
    /// answers.
    pub(crate) fn has_heartbeat(&self) -> bool {
        self.socket_routes.contains_key("heartbeat")
    }

    /// The route and the path parameters of a request to the HTTP API; `None` if no route matches. A route
    /// without a variable wins over one with a variable (Amazon API Gateway Developer Guide, "Create routes
    /// for HTTP APIs").
    pub(crate) fn route<'a>(
        &'a self,
        method: &str,
        path: &str,
    ) -> Option<(&'a str, &'a str, BTreeMap<&'a str, String>)> {
        let matching = self.routes.iter().filter_map(|(key, function)| {
            let (its_method, pattern) = key.split_once(' ')?;
            let parameters = matched(pattern, path).filter(|_| its_method == method)?;
            Some((key.as_str(), function.as_str(), parameters))
        });
        matching.min_by_key(|(_, _, parameters)| parameters.len())
    }
}

/// The values of the variables of a route's path; `None` if the path is another one.
fn matched<'a>(pattern: &'a str, path: &str) -> Option<BTreeMap<&'a str, String>> {
    let (patterns, segments): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    if patterns.len() != segments.len() {
        return None;
    }
    let mut parameters = BTreeMap::new();
    for (pattern, segment) in patterns.into_iter().zip(segments) {
        match pattern.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => {
                parameters.insert(name, segment.to_owned());
            }
            None if pattern == segment => {}
            None => return None,
        }
    }
    Some(parameters)
}

/// The logs of each function, by binary. A function's settings win over those for all functions.
fn logging(template: &Value) -> Result<BTreeMap<String, Logging>> {
    let mut found = BTreeMap::new();
    for function in of_type(template, "AWS::Serverless::Function") {
        let binary = function["Metadata"]["BuildProperties"]["Binary"].as_str();
        let setting = |name: &str| {
            let places = [&function["Properties"], &template["Globals"]["Function"]];
            places
                .into_iter()
                .find_map(|place| default(template, &place["LoggingConfig"][name]))
        };
        let level = setting("ApplicationLogLevel").unwrap_or_else(|| "INFO".to_owned());
        let system_bytes = match setting("SystemLogLevel").as_deref() {
            None | Some("INFO") => SYSTEM_LINES.iter().map(|line| line.len()).sum(),
            Some("WARN") => 0,
            Some(level) => bail!("the size of logs at the system log level {level} is not known"),
        };
        let logging = Logging {
            level,
            system_bytes: u64::try_from(system_bytes)?,
        };
        found.insert(binary.context("a function without a binary")?.to_owned(), logging);
    }
    Ok(found)
}

/// The routes within the resource of the WebSocket API, which has them if it is one of SAM's.
fn socket_routes(template: &Value) -> Result<BTreeMap<String, SocketRoute>> {
    let routes = template["Resources"]["WebSocketApi"]["Properties"]["Routes"].as_mapping();
    let mut found = BTreeMap::new();
    for (key, route) in routes.into_iter().flatten() {
        let key = key.as_str().context("a route without a key")?;
        let function = binary(template, &route["FunctionArn"]).with_context(|| key.to_owned())?;
        let answers = !route["RouteResponseSelectionExpression"].is_null();
        found.insert(
            key.to_owned(),
            SocketRoute {
                function: Some(function),
                answers,
            },
        );
    }
    Ok(found)
}

fn of_type<'a>(template: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = template["Resources"].as_mapping().into_iter().flatten();
    all.map(|(_, resource)| resource)
        .filter(move |resource| resource["Type"] == kind)
}

/// The function of an integration; `None` if API Gateway answers itself.
fn integrated(template: &Value, integration: &Value) -> Result<Option<String>> {
    match integration["IntegrationType"].as_str() {
        Some("MOCK") => Ok(None),
        _ => binary(template, &integration["IntegrationUri"]).map(Some),
    }
}

/// The binary of the function in a reference such as `!Ref Uploads.Alias`, or in the variables of a `!Sub`.
fn binary(template: &Value, reference: &Value) -> Result<String> {
    let variables = match reference {
        Value::Tagged(tagged) => tagged.value.get(1).and_then(Value::as_mapping),
        _ => None,
    };
    let references = variables.into_iter().flatten().map(|(_, value)| value);
    let id = [reference].into_iter().chain(references).find_map(text_of);
    let id = id.context("it names no function")?;
    let id = id.split('.').next().unwrap_or(id);
    let binary = template["Resources"][id]["Metadata"]["BuildProperties"]["Binary"].as_str();
    Ok(binary.with_context(|| format!("{id} is no function"))?.to_owned())
}

/// The text of a value, with or without a tag such as `!Ref`.
fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::Tagged(tagged) => tagged.value.as_str(),
        value => value.as_str(),
    }
}

/// The value of a property after a deployment with the default parameters; `None` if it is not set.
fn default(template: &Value, value: &Value) -> Option<String> {
    match value {
        Value::Tagged(tagged) if tagged.tag == "Ref" => {
            let parameter = tagged.value.as_str()?;
            default(template, &template["Parameters"][parameter]["Default"])
        }
        Value::Tagged(tagged) if tagged.tag == "FindInMap" => {
            let path = tagged.value.as_sequence()?.iter();
            let path: Vec<String> = path.map(|key| default(template, key)).collect::<Option<_>>()?;
            let found = path
                .iter()
                .fold(&template["Mappings"], |map, key| &map[key.as_str()]);
            default(template, found)
        }
        value => value.as_str().map(str::to_owned),
    }
}

/// The number of metrics that an alarm evaluates.
fn metrics(alarm: &Value) -> u64 {
    let properties = &alarm["Properties"];
    match properties["Metrics"].as_sequence() {
        None => 1,
        Some(queries) => {
            let metrics = queries.iter().filter(|query| !query["MetricStat"].is_null());
            u64::try_from(metrics.count()).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Template {
        Template::read(&Project::find().unwrap()).unwrap()
    }

    #[test]
    fn a_route_without_a_variable_wins() {
        let template = template();
        let route = |method, path| {
            template
                .route(method, path)
                .map(|(key, function, _)| (key, function))
        };
        assert_eq!(route("POST", "/uploads"), Some(("POST /uploads", "uploads")));
        let (_, function, parameters) = template.route("POST", "/uploads/7/complete").unwrap();
        assert_eq!(function, "complete-upload");
        assert_eq!(parameters, [("uploadId", "7".to_owned())].into());
        assert_eq!(route("PUT", "/uploads"), None);
        assert_eq!(route("POST", "/uploads/7/complete/8"), None);
        let literal = Template {
            routes: [("GET /a/{b}", "x"), ("GET /a/c", "y")]
                .map(|(key, function)| (key.to_owned(), function.to_owned()))
                .into(),
            ..template
        };
        assert_eq!(literal.route("GET", "/a/c").unwrap().1, "y");
        assert_eq!(literal.route("GET", "/a/d").unwrap().1, "x");
    }

    #[test]
    fn a_route_of_the_websocket_api_has_a_function_or_api_gateway_answers_it() {
        let text = r#"
Resources:
  Connections: { Metadata: { BuildProperties: { Binary: connections } } }
  One: { Properties: { IntegrationType: AWS_PROXY, IntegrationUri: !Sub ["arn/${Alias}", { Alias: !Ref Connections.Alias }] } }
  Other: { Properties: { IntegrationType: MOCK } }
"#;
        let template: Value = serde_norway::from_str(text).unwrap();
        let integration = |id: &str| integrated(&template, &template["Resources"][id]["Properties"]);
        assert_eq!(integration("One").unwrap().as_deref(), Some("connections"));
        assert_eq!(integration("Other").unwrap(), None);
        assert!(integration("Connections").is_err());
        let connect = &self::template().socket_routes["$connect"];
        assert_eq!(connect.function.as_deref(), Some("connections"));
    }

    #[test]
    fn an_alarm_counts_the_metrics_that_it_evaluates_without_expressions() {
        let alarm = |properties: &str| {
            let text = format!("Properties: {properties}");
            metrics(&serde_norway::from_str(&text).unwrap())
        };
        assert_eq!(alarm("{ MetricName: a }"), 1);
        assert_eq!(
            alarm("{ Metrics: [{ Expression: x }, { MetricStat: {} }, { MetricStat: {} }] }"),
            2
        );
    }

    #[test]
    fn a_parameter_stands_for_its_default_also_in_a_mapping() {
        let text = r"
Parameters: { Level: { Default: DEBUG } }
Mappings: { System: { DEBUG: { Level: INFO } } }
A: !Ref Level
B: INFO
C: !FindInMap [System, !Ref Level, Level]
";
        let template: Value = serde_norway::from_str(text).unwrap();
        let value = |name: &str| default(&template, &template[name]);
        assert_eq!(value("A").as_deref(), Some("DEBUG"));
        assert_eq!(value("B").as_deref(), Some("INFO"));
        assert_eq!(value("C").as_deref(), Some("INFO"));
        assert_eq!(value("D"), None);
    }

    #[test]
    fn the_log_levels_of_a_function_win_over_those_of_all() {
        let text = r"
Globals: { Function: { LoggingConfig: { SystemLogLevel: INFO, ApplicationLogLevel: WARN } } }
Resources:
  One: { Type: 'AWS::Serverless::Function', Metadata: { BuildProperties: { Binary: one } }, Properties: {} }
  Other:
    Type: AWS::Serverless::Function
    Metadata: { BuildProperties: { Binary: other } }
    Properties: { LoggingConfig: { SystemLogLevel: WARN } }
";
        let logging = logging(&serde_norway::from_str(text).unwrap()).unwrap();
        assert_eq!(
            (logging["one"].level.as_str(), logging["one"].system_bytes > 300),
            ("WARN", true)
        );
        assert_eq!(
            (logging["other"].level.as_str(), logging["other"].system_bytes),
            ("WARN", 0)
        );
    }
}
