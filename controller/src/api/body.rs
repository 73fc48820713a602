//! Bodies of requests: bounded, and refused with a sentence.

use super::problem::ApiError;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

/// The largest spec: some thousand services. What is larger is a mistake, or not a spec.
pub const SPEC_BYTES: usize = 1 << 20;

/// The largest JSON body: they have a handful of fields.
const JSON_BYTES: usize = 64 << 10;

/// What is too large is read up to here and forgotten: a client that still writes when it is answered may meet a closed
/// connection before it has read why. Beyond this it is told nothing.
const MOST_READ_BYTES: usize = 32 << 20;

/// The whole body, or a refusal when it is larger than `limit`.
pub async fn bytes(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(format!("the body did not arrive whole: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        length += piece.len();
        if length <= limit {
            whole.extend_from_slice(&piece);
        } else if length > MOST_READ_BYTES {
            break;
        }
    }
    match length <= limit {
        true => Ok(whole.freeze()),
        false => Err(ApiError::too_large(format!("the body is larger than {} KiB", limit >> 10))),
    }
}

/// A JSON body. An empty one counts as `{}` where all fields have defaults.
pub async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = bytes(body, JSON_BYTES).await?;
    let text = if bytes.is_empty() { b"{}" as &[u8] } else { &bytes };
    let wrong = |why: String| ApiError::bad_request(format!("the body is not the JSON that is wanted: {why}"));
    // A list would be taken for the fields in their order.
    if text.trim_ascii_start().first() == Some(&b'[') {
        return Err(wrong("it is a list, not an object".into()));
    }
    serde_json::from_slice(text).or_else(|error| {
        // `2.0` is the integer 2 by JSON Schema's rules, and programs write it so. What else is wrong keeps its place.
        let mut value: serde_json::Value = serde_json::from_slice(text).map_err(|_| wrong(error.to_string()))?;
        write_integers_as_such(&mut value);
        serde_json::from_value(value).map_err(|_| wrong(error.to_string()))
    })
}

/// The largest integer below which a floating point number holds every integer: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn write_integers_as_such(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            if let Some(whole) = float.filter(|float| float.fract() == 0.0 && (0.0..EXACT).contains(float)) {
                *number = (whole as u64).into();
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(write_integers_as_such),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(write_integers_as_such),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_api::ask;

    async fn scale(text: &'static str) -> Result<u32, ApiError> {
        json(Body::from(text)).await.map(|ask: ask::Scale| ask.scale)
    }

    #[tokio::test]
    async fn an_integer_may_be_written_with_a_fraction_of_nothing_and_no_other() {
        assert_eq!(scale(r#"{"scale": 3.0}"#).await, Ok(3));
        for wrong in [r#"{"scale": 3.5}"#, r#"{"scale": -3.0}"#, r#"{"scale": 1e300}"#, r#"{"scale": 3.0, "x": 1}"#] {
            scale(wrong).await.expect_err(wrong);
        }
    }
}
