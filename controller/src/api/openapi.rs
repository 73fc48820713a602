//! The description of the interface in OpenAPI 3.1, made from the list of endpoints and the types of their bodies and
//! answers. What is described is what is routed: both come from the same list.

use super::caller::Rule;
use super::endpoints::{Endpoint, endpoints};
use super::page;
use super::problem::Kind;
use axum::http::Method;
use lapstrake_api::tunnel::{FromOperator, ToOperator};
use lapstrake_api::view::Problem;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// A type's schema, for one direction or the other.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a request to an address brings and what it gets.
#[derive(Default)]
pub struct About {
    query: Option<SchemaOf>,
    body: Option<Sent>,
    answers: Vec<(u16, Given)>,
    listed: bool,
    tagged: bool,
    conditional: bool,
    weighed: bool,
}

/// A request's body.
enum Sent {
    Json(SchemaOf),
    Spec,
}

/// An answer's body.
#[derive(Clone, Copy)]
enum Given {
    Nothing,
    Json(SchemaOf),
    Events(SchemaOf),
    Text,
    /// A WebSocket: the words to the operator, and the operator's.
    Socket(SchemaOf, SchemaOf),
}

impl Endpoint {
    /// The parameters behind the question mark.
    pub fn query<T: JsonSchema>(mut self) -> Endpoint {
        self.about.query = Some(|generator| T::json_schema(generator));
        self
    }
    /// A body of JSON.
    pub fn takes<T: JsonSchema>(mut self) -> Endpoint {
        self.about.body = Some(Sent::Json(|generator| generator.subschema_for::<T>()));
        self
    }
    /// A spec as its body, and the environments that it is for.
    pub fn takes_spec(mut self) -> Endpoint {
        self.about.body = Some(Sent::Spec);
        self
    }
    /// An answer of JSON.
    pub fn gives<T: JsonSchema>(mut self, status: u16) -> Endpoint {
        self.about.answers.push((status, Given::Json(|generator| generator.subschema_for::<T>())));
        self
    }
    /// A page of a list.
    pub fn lists<T: JsonSchema>(mut self) -> Endpoint {
        self.about.listed = true;
        self.gives::<Vec<T>>(200)
    }
    /// One thing with the tag of its records.
    pub fn shows<T: JsonSchema>(mut self) -> Endpoint {
        self.about.tagged = true;
        self.gives::<T>(200)
    }
    /// Server-sent events, each of which is this.
    pub fn streams<T: JsonSchema>(mut self) -> Endpoint {
        self.about.answers.push((200, Given::Events(|generator| generator.subschema_for::<T>())));
        self
    }
    /// An answer without a body.
    pub fn gives_nothing(mut self, status: u16) -> Endpoint {
        self.about.answers.push((status, Given::Nothing));
        self
    }
    /// A text for people.
    pub fn gives_text(mut self) -> Endpoint {
        self.about.answers.push((200, Given::Text));
        self
    }
    /// A WebSocket to a job.
    pub fn upgrades(mut self) -> Endpoint {
        let words: (SchemaOf, SchemaOf) = (
            |generator| generator.subschema_for::<ToOperator>(),
            |generator| generator.subschema_for::<FromOperator>(),
        );
        self.about.answers.push((101, Given::Socket(words.0, words.1)));
        self
    }
    /// Reads its parameters as more than their forms say, so that well-formed ones may be refused.
    pub fn weighs(mut self) -> Endpoint {
        self.about.weighed = true;
        self
    }
    /// Changes something that has a tag.
    pub fn conditional(mut self) -> Endpoint {
        self.about.conditional = true;
        self
    }
    /// Whether it changes something. A plan is only looked at, though it is sent with POST.
    fn is_mutation(&self) -> bool {
        self.method != Method::GET && self.path != "/v1/plan"
    }
}

/// `GET /openapi.json`, made once.
pub async fn serve() -> axum::response::Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(text).as_str();
    axum::response::IntoResponse::into_response(([(axum::http::header::CONTENT_TYPE, "application/json")], text))
}

/// The description as it is served, and as `docs/openapi.json` has it.
pub fn text() -> String {
    let mut text = format!("{:#}", document());
    text.push('\n');
    text
}

fn document() -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    // What is asked may leave out what has a default; what is answered has every field.
    let mut asked = settings().for_deserialize().into_generator();
    let mut given = settings().for_serialize().into_generator();
    let problem = given.subschema_for::<Problem>();
    let mut paths = Map::new();
    for endpoint in endpoints() {
        let operation = operation(&endpoint, &mut asked, &mut given);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    let mut schemas = asked.take_definitions(true);
    schemas.append(&mut given.take_definitions(true));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lapstrake",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "security": [{ "token": [] }],
        "components": {
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "An operator's token: `lap token create` makes one.",
            } },
            "schemas": schemas,
            "responses": errors(&problem),
            "headers": headers(),
        },
    });
    bound_numbers(&mut document);
    document
}

const INTRODUCTION: &str = "\
The interface of a Lapstrake controller: JSON over HTTPS, with an operator's token.

Times are milliseconds since 1970 (UTC), sizes are bytes, processor shares are thousandths of a core. Fields are only \
ever added. A mutation is answered when it is on disk. Every error is a problem as RFC 9457 shapes it, whose `type` has a \
page of its own. Lists come in pages; a header `Link` names the next. Mutations take an `Idempotency-Key`, and those of \
something that has a tag `If-Match`. `docs/API.md` says more.";

fn operation(endpoint: &Endpoint, asked: &mut SchemaGenerator, given: &mut SchemaGenerator) -> Value {
    let about = &endpoint.about;
    let mut parameters: Vec<Value> = path_names(endpoint.path).map(path_parameter).collect();
    parameters.extend(about.query.into_iter().flat_map(|query| query_parameters(&query(asked))));
    if matches!(about.body, Some(Sent::Spec)) {
        parameters.push(json!({
            "name": "env", "in": "query", "required": false, "explode": true,
            "description": "An environment that the file's services are for, besides those that it names itself. May be given more than once.",
            "schema": { "type": "array", "items": name_schema() },
        }));
    }
    if endpoint.is_mutation() {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Names this request: it is carried out once, however often it arrives within a day. A UUID is a good key.",
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9._:-]{1,80}$" },
        }));
    }
    if about.conditional {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "Tags in quotes, or `*`. The request is carried out only if the thing's tag is one of them.",
            "schema": { "type": "string" },
        }));
    }
    if about.tagged {
        parameters.push(json!({
            "name": "If-None-Match", "in": "header", "required": false,
            "description": "Tags in quotes that the reader has already. If the thing's is one of them, the answer is 304. Readings are not part of a tag.",
            "schema": { "type": "string" },
        }));
    }
    let mut operation = json!({
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary.trim_end_matches('.'),
        "description": format!("{} {}", endpoint.summary, needs(endpoint.rule)),
        "parameters": parameters,
        "responses": responses(endpoint, given),
    });
    if endpoint.rule == Rule::Open {
        operation["security"] = json!([]);
    }
    match &about.body {
        Some(Sent::Json(schema)) => {
            let schema = schema(asked);
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        Some(Sent::Spec) => operation["requestBody"] = spec_body(),
        None => {}
    }
    operation
}

/// The words of the path and the method: `post-v1-envs-app-env-nodes`.
fn operation_id(endpoint: &Endpoint) -> String {
    let words = endpoint.path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty());
    let method = endpoint.method.as_str().to_ascii_lowercase();
    [method.as_str()].into_iter().chain(words).collect::<Vec<_>>().join("-")
}

fn needs(rule: Rule) -> String {
    let right = |verb: lapstrake_core::access::Verb| format!("the role {} or more", verb.least_role());
    match rule {
        Rule::Open => "Needs no token.".into(),
        Rule::Own => "Needs any token.".into(),
        Rule::Organization(verb) => format!("Needs {} in the organization.", right(verb)),
        Rule::Environment(verb) => format!("Needs {} in the environment.", right(verb)),
        Rule::Shown(verb) => format!("Needs {}; the answer has what lies in the token's scope.", right(verb)),
        Rule::Asked(verb) => format!("Needs {} for everything that the request is about.", right(verb)),
    }
}

/// A name of an application, an environment, a service or a node.
fn name_schema() -> Value {
    json!({ "type": "string", "pattern": "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$" })
}

fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    let text = || json!({ "type": "string", "minLength": 1 });
    let (description, schema) = match name {
        "app" => ("An application's name.", name_schema()),
        "env" => ("An environment's name.", name_schema()),
        "service" => ("A service's name.", name_schema()),
        "node" => ("A node's name or id.", text()),
        "token" => ("A token's name or id.", text()),
        "number" => ("A deployment's number, from 1.", json!({ "type": "integer", "format": "uint32", "minimum": 0 })),
        "job" => ("A one-off job's id.", text()),
        "problem" => ("The end of a problem's `type`.", text()),
        "kind" => ("What the value is for.", json!({ "type": "string", "enum": ["secret", "variable", "registry"] })),
        "name" => ("The secret's or variable's name, or the registry's host.", text()),
        _ => ("", text()),
    };
    json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
}

/// One parameter for each field. In a query nothing is `null`: it is there or it is not.
fn query_parameters(schema: &Schema) -> Vec<Value> {
    let fields = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        if let Some(types) = schema.get("type").and_then(Value::as_array) {
            let first = types.iter().find(|word| *word != "null").cloned();
            schema["type"] = first.unwrap_or_default();
        }
        json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
    };
    fields.into_iter().map(parameter).collect()
}

fn spec_body() -> Value {
    json!({
        "required": true,
        "description": "A spec file, as YAML text of at most 1 MiB.",
        "content": { "application/yaml": {
            "schema": { "type": "object", "description": "The spec: an application, its services and its environments." },
            "example": {
                "application": "shop",
                "services": { "web": {
                    "type": "web",
                    "image": "registry.example.com/shop/web:1.4.2",
                    "size": { "cpu": 0.1, "memory": "64MiB" },
                    "scale": 1,
                } },
                "environments": { "production": {} },
            },
        } },
    })
}

fn responses(endpoint: &Endpoint, given: &mut SchemaGenerator) -> Value {
    let about = &endpoint.about;
    let mut responses = Map::new();
    for (status, answer) in &about.answers {
        let mut response = match answer {
            Given::Nothing => json!({ "description": "Done, or recorded." }),
            Given::Text => {
                json!({ "description": "A text.", "content": { "text/plain": { "schema": { "type": "string" } } } })
            }
            Given::Json(schema) => {
                json!({ "description": "The answer.", "content": { "application/json": { "schema": schema(given) } } })
            }
            Given::Socket(to_operator, from_operator) => {
                let name = |schema: Schema| schema.get("$ref").and_then(Value::as_str).unwrap_or("JSON").to_owned();
                json!({ "description": format!(
                    "The connection is a WebSocket from here on (RFC 6455, HTTP/1.1 only). Messages of bytes are what is said: the \
                     first byte is 0 to the job, 1 from its standard output or connection, 2 from its standard error; at most 32 \
                     KiB follow. Messages of text are words as JSON: {} from here, {} to here. A side that hears nothing for \
                     45 s takes the other for gone.",
                    name(to_operator(given)), name(from_operator(given)),
                ) })
            }
            Given::Events(schema) => {
                // The schema is of an event's fields; what `data` holds is among the schemas too.
                let of = schema(given);
                json!({
                    "description": format!("Server-sent events, each of which is {}.", of.get("$ref").and_then(Value::as_str).unwrap_or("JSON")),
                    "content": { "text/event-stream": { "schema": {
                        "type": "object",
                        "description": "The fields of one event.",
                        "properties": {
                            "event": { "type": "string" },
                            "id": { "type": "string" },
                            "data": { "type": "string", "description": "JSON." },
                        },
                        "required": ["data"],
                    } } },
                })
            }
        };
        if let Some(known) = responses.get_mut(&status.to_string()) {
            // The same status with another kind of body.
            if let (Some(known), Some(new)) = (known["content"].as_object_mut(), response["content"].as_object_mut()) {
                known.append(new);
            }
            continue;
        }
        if about.listed {
            response["headers"] = json!({ "Link": { "$ref": "#/components/headers/Link" } });
        }
        if about.tagged {
            response["headers"] = json!({ "ETag": { "$ref": "#/components/headers/ETag" } });
        }
        responses.insert(status.to_string(), response);
    }
    if about.tagged {
        responses.insert(
            "304".into(),
            json!({
                "description": "The thing's tag is one that the reader named.",
                "headers": { "ETag": { "$ref": "#/components/headers/ETag" } },
            }),
        );
    }
    for status in error_statuses(endpoint) {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    responses.into()
}

fn error_statuses(endpoint: &Endpoint) -> Vec<u16> {
    let mut statuses = vec![400, 404, 429, 500, 503];
    if endpoint.rule != Rule::Open {
        statuses.extend([401, 403]);
    }
    if endpoint.is_mutation() {
        statuses.extend([409, 413, 422]);
    }
    if matches!(endpoint.about.body, Some(Sent::Spec)) {
        statuses.extend([409, 413, 422]);
    }
    if endpoint.about.conditional {
        statuses.push(412);
    }
    if endpoint.about.weighed {
        statuses.push(422);
    }
    if endpoint.about.answers.iter().any(|(_, given)| matches!(given, Given::Socket(..))) {
        statuses.extend([409, 422, 426]);
    }
    statuses
}

/// Every error by its status; more than one kind may have the same.
fn errors(problem: &Schema) -> Value {
    let mut errors = Map::new();
    for kind in Kind::ALL {
        let said = format!("`/problems/{}`: {} {}", kind.name(), kind.title(), kind.meaning());
        let status = kind.status().as_u16().to_string();
        if let Some(known) = errors.get_mut(&status) {
            let known: &mut Value = known;
            let both = format!("{}\n\n{said}", known["description"].as_str().unwrap_or_default());
            known["description"] = both.into();
            continue;
        }
        let mut error = json!({
            "description": said,
            "content": { "application/problem+json": { "schema": problem } },
        });
        match kind {
            Kind::TooManyRequests | Kind::Unavailable => {
                error["headers"] = json!({ "Retry-After": { "$ref": "#/components/headers/Retry-After" } });
            }
            Kind::Unauthenticated => {
                error["headers"] = json!({ "WWW-Authenticate": { "$ref": "#/components/headers/WWW-Authenticate" } });
            }
            Kind::UpgradeRequired => {
                error["headers"] = json!({ "Upgrade": { "$ref": "#/components/headers/Upgrade" } });
            }
            _ => {}
        }
        errors.insert(status, error);
    }
    errors.into()
}

fn headers() -> Value {
    let most = page::MOST;
    json!({
        "Link": {
            "description": format!("`<ADDRESS>; rel=\"next\"`: where the list goes on. The last page has none. A page has at most {most}."),
            "schema": { "type": "string" },
        },
        "ETag": {
            "description": "The thing's tag, in quotes: it changes exactly when one of its records does. Readings, such as health and use, are not part of it.",
            "required": true,
            "schema": { "type": "string", "pattern": "^\"[0-9a-f]{16}\"$" },
        },
        "Retry-After": { "description": "Seconds to wait.", "required": true, "schema": { "type": "integer", "minimum": 1 } },
        "Upgrade": { "description": "`websocket`.", "required": true, "schema": { "type": "string" } },
        "WWW-Authenticate": { "description": "`Bearer`.", "required": true, "schema": { "type": "string" } },
    })
}

/// Says how large a number may be, which its format only says to those who know it. What is counted in 64 bits is stored
/// in 63.
fn bound_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let most = match fields.get("format").and_then(Value::as_str) {
                Some("uint16") => Some(u64::from(u16::MAX)),
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("uint64") => Some(i64::MAX as u64),
                _ => None,
            };
            if let Some(most) = most.filter(|_| !fields.contains_key("maximum")) {
                fields.insert("maximum".into(), most.into());
            }
            fields.values_mut().for_each(bound_numbers);
        }
        Value::Array(items) => items.iter_mut().for_each(bound_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_says_what_it_takes_and_what_it_gives() {
        for endpoint in endpoints() {
            let what = format!("{} {}", endpoint.method, endpoint.path);
            let about = &endpoint.about;
            assert!(about.answers.iter().any(|(status, _)| *status < 300), "{what} says nothing of its answer");
            assert!(endpoint.summary.ends_with('.'), "{what}: its summary is no sentence");
            for name in path_names(endpoint.path) {
                assert_ne!(path_parameter(name)["description"], "", "{what}: nothing says what {name} is");
            }
        }
    }

    #[test]
    fn every_field_and_parameter_that_is_described_has_a_comment() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        for (name, schema) in schemas {
            assert!(schema.get("description").is_some(), "{name} has no comment");
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(schema.get("description").is_some(), "{name}.{field} has no comment");
            }
        }
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                for parameter in operation["parameters"].as_array().expect("parameters") {
                    assert!(parameter["description"].is_string(), "{method} {path}: {parameter} has no comment");
                }
            }
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let names: Vec<String> = endpoints().iter().map(operation_id).collect();
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
