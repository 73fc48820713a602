//! The JSON schema of spec files for editors, made from the table of fields that the reader uses.

use super::fields::{ENVIRONMENT, FILE, Field, Kind, Object, SECRET_FILE, SECRET_VARIABLE, SERVICE};
use super::values::NAME;
use lapstrake_core::label::CONSTRAINTS_PER_SERVICE;
use lapstrake_core::values::AUTOMATIC;
use serde_json::{Map, Value, json};

/// The schema, draft 2020-12. It accepts every file that `parse` accepts; what only `parse` can see (a missing field
/// beside an environment's own, a port that is not declared) stays with `parse`.
pub fn schema() -> Value {
    let mut file = object(&FILE, true);
    file["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    file["title"] = json!("Lapstrake spec file");
    // Whether a service is complete can depend on the environment, so that nothing of it is required here.
    file["$defs"] = json!({ "service": object(&SERVICE, false), "environment": object(&ENVIRONMENT, true) });
    file
}

fn object(object: &Object, with_required: bool) -> Value {
    let properties: Map<String, Value> = object.fields.iter().map(|f| (f.name.to_owned(), field(f))).collect();
    // An empty value is an empty mapping.
    let mut schema = json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false });
    let required: Vec<&str> = object.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    if with_required && !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn field(field: &Field) -> Value {
    let mut schema = kind(field.kind);
    schema["description"] = json!(field.doc);
    schema
}

fn kind(kind: Kind) -> Value {
    let text = || json!({ "type": ["string", "number", "boolean"] });
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Cpu { min, max } => {
            // The range is in thousandths; the schema's numbers are what people write.
            json!({ "type": "number", "minimum": thousandths(min), "maximum": thousandths(max) })
        }
        Kind::Span { .. } => json!({ "type": "string", "pattern": r"^(?=\d)(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$" }),
        Kind::Bytes { .. } => json!({ "type": "string", "pattern": r"^\d+([KMGT]i)?B$" }),
        Kind::Choice(choice) => json!({ "enum": choice.words }),
        Kind::Text(rule) => json!({ "type": "string", "pattern": rule.pattern }),
        Kind::Words => json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": text() }] }),
        Kind::Command(of) => {
            json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": text(), "minItems": 1 }, object(of, true)] })
        }
        Kind::Variables => json!({
            "type": ["object", "null"],
            "propertyNames": { "pattern": format!("^(?!{AUTOMATIC})[A-Za-z_][A-Za-z0-9_]*$") },
            "additionalProperties": { "anyOf": [text(), object(&SECRET_VARIABLE, false)] },
        }),
        Kind::Files => json!({
            "type": ["object", "null"],
            "propertyNames": { "pattern": "^/.*[^/]$" },
            "additionalProperties": object(&SECRET_FILE, false),
        }),
        Kind::Mode => json!({ "type": "string", "pattern": "^0?[0-7]{1,3}$" }),
        Kind::Constraints => json!({
            "type": "array",
            "maxItems": CONSTRAINTS_PER_SERVICE,
            "items": { "type": "string", "pattern": "^ *[a-z][a-z0-9._-]* *[=!]= *[A-Za-z0-9][A-Za-z0-9._-]* *$" },
        }),
        Kind::Object(of) => object(of, true),
        Kind::Named(of) => json!({
            "type": ["object", "null"],
            "propertyNames": { "pattern": NAME.pattern },
            "additionalProperties": { "$ref": format!("#/$defs/{}", of.noun) },
        }),
        Kind::List(of) => json!({ "type": "array", "items": object(of, true) }),
    }
}

/// A number of thousandths as JSON writes it, without floating point on the way.
fn thousandths(milli: u64) -> Value {
    serde_json::from_str(&super::values::print_cpu(milli)).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of the table is in the schema and nothing else is.
    fn compare(object: &Object, schema: &Value, whole: &Value) {
        let properties = schema["properties"].as_object().expect("a mapping has properties");
        let mut named: Vec<&str> = object.fields.iter().map(|f| f.name).collect();
        named.sort_unstable();
        assert_eq!(properties.keys().map(String::as_str).collect::<Vec<_>>(), named, "of a {}", object.noun);
        for field in object.fields {
            let found = &properties[field.name];
            assert_eq!(found["description"], json!(field.doc), "{}", field.name);
            match field.kind {
                Kind::Object(of) => compare(of, found, whole),
                Kind::List(of) => compare(of, &found["items"], whole),
                Kind::Named(of) => {
                    assert_eq!(found["additionalProperties"]["$ref"], json!(format!("#/$defs/{}", of.noun)));
                    compare(of, &whole["$defs"][of.noun], whole);
                }
                Kind::Command(of) => compare(of, &found["anyOf"][2], whole),
                Kind::Variables => compare(&SECRET_VARIABLE, &found["additionalProperties"]["anyOf"][1], whole),
                Kind::Files => compare(&SECRET_FILE, &found["additionalProperties"], whole),
                Kind::Choice(choice) => assert_eq!(found["enum"], json!(choice.words)),
                Kind::Count { min, max } => {
                    assert_eq!([&found["minimum"], &found["maximum"]], [&json!(min), &json!(max)])
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_schema_has_the_fields_that_the_reader_knows() {
        let whole = schema();
        compare(&FILE, &whole, &whole);
        assert_eq!(whole["required"], json!(["application", "services"]));
        assert_eq!(whole["$defs"]["service"]["properties"]["size"]["properties"]["cpu"]["minimum"], json!(0.01));
    }
}
